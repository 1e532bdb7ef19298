"""Engines on OpenVINO: the default, for CPUs and Intel GPUs."""

import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from stream_unmask.backends.artefacts import cache_folder, sha256
from stream_unmask.backends.engine import EngineSpec, Tensor
from stream_unmask.errors import BackendError


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

_DEVICES = {"auto": "CPU", "cpu": "CPU", "gpu": "GPU"}
_MOST_MODELS = 4  # of one engine: they take memory, and few shapes come in turns

Shapes = tuple[tuple[int, ...], ...]


class OpenVinoEngine:
    """A compiled model, and more of the same for inputs of other shapes.

    A model that gets another shape than last time is made ready for it anew, which takes as long
    again as a small network itself. So shapes that come in turns have a model each.
    """

    def __init__(self, spec: EngineSpec, compiled: Callable[[], ov.CompiledModel]) -> None:
        self.spec = spec
        self._compiled = compiled
        model = compiled()
        device = model.get_property("EXECUTION_DEVICES")[0]
        precision = model.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.device = f"openvino {device} {precision}"
        # On a CPU, eight at once are no faster than two (measured) and take 200 MiB more.
        self.batch = 2 if device == "CPU" else 8
        self._unused: ov.InferRequest | None = model.create_infer_request()
        self._requests: dict[Shapes, ov.InferRequest] = {}  # the one used last comes last
        self._closed = False

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if self._closed:
            raise BackendError(f"The engine {self.spec.name} was closed.")
        request = self._request(tuple(array.shape for array in inputs))
        result = request.infer(list(inputs), share_inputs=True)
        return tuple(np.asarray(result[i], np.float32) for i in range(len(self.spec.outputs)))

    def _request(self, shapes: Shapes) -> ov.InferRequest:
        """The one for these shapes: its own, a new one, or the one that was not used longest."""
        request = self._requests.pop(shapes, None) or self._unused
        self._unused = None
        if request is None and len(self._requests) < _MOST_MODELS:
            request = self._compiled().create_infer_request()
        elif request is None:
            request = self._requests.pop(next(iter(self._requests)))
        self._requests[shapes] = request
        return request

    def close(self) -> None:
        """Frees the models."""
        self._closed, self._unused = True, None
        self._requests.clear()


def open_engine(spec: EngineSpec, path: Path, device: str) -> OpenVinoEngine:
    """Compiles `path`; bf16 where the CPU has it, unless the spec asks for precision.

    What was compiled is kept in the user's cache folder, from where it opens in a fifth of the
    time.
    """
    if device not in _DEVICES:
        raise BackendError(f"there is no device {device!r}; choose auto, cpu or gpu")
    config = {"PERFORMANCE_HINT": "LATENCY", **_cached(path)}
    if spec.precise:
        config["INFERENCE_PRECISION_HINT"] = "f32"
    try:
        return OpenVinoEngine(
            spec, lambda: _core().compile_model(str(path), _DEVICES[device], config)
        )
    except RuntimeError as error:
        raise BackendError(str(error).strip().splitlines()[-1]) from error


@cache
def _core() -> ov.Core:
    """OpenVINO's heart, one for all and for good.

    Each brings a stack for signals, and takes it away when it is gone. Gone in another order than
    they came, they leave one that is no more, and the next Ctrl-C is a crash.
    """
    return ov.Core()


def _cached(path: Path) -> dict[str, str]:
    """Where OpenVINO is to keep what it compiles of a file; nothing where that can't be written."""
    folder = cache_folder("openvino", sha256(path)[:16])
    return {"CACHE_DIR": str(folder)} if folder else {}


def devices() -> list[str]:
    """The names of what it can run on here."""
    return list(ov.Core().available_devices)
