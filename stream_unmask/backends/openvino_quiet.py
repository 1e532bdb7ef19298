"""OpenVINO, imported so that it tells nobody."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

__all__ = ["ov"]


def _imported() -> ModuleType:
    """OpenVINO, which tells nobody: where this package is missing, its import sends no report to
    Google Analytics."""
    reporter = "openvino_telemetry"
    known = sys.modules.get(reporter)
    sys.modules[reporter] = None  # type: ignore[assignment]  # as good as missing
    try:
        return import_module("openvino")
    finally:
        del sys.modules[reporter]
        if known is not None:
            sys.modules[reporter] = known


if TYPE_CHECKING:
    import openvino as ov
else:
    ov = _imported()
