"""Opens an engine on the best backend that this machine has, or on the one that was asked for."""

import logging
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from stream_unmask.backends.artefacts import engine_path
from stream_unmask.backends.engine import Engine, EngineSpec, Tensor, TensorSpec
from stream_unmask.errors import BackendError

__all__ = ["BACKENDS", "Engine", "EngineSpec", "Tensor", "TensorSpec", "installed", "open_engine"]

_log = logging.getLogger("stream_unmask")

# Name of the backend (and of its file here) -> extra to install, in the order of preference.
BACKENDS = {"tensorrt": "tensorrt", "openvino": None, "onnxruntime": "onnxruntime"}


def installed() -> tuple[str, ...]:
    """The backends whose library is installed, best first."""
    return tuple(name for name in BACKENDS if find_spec(name) is not None)


def open_engine(
    spec: EngineSpec, backend: str = "auto", device: str = "auto", path: Path | None = None,
    precision: str = "auto",
) -> Engine:  # fmt: skip
    """The engine of `spec`, ready to run.

    backend: a name in BACKENDS or "auto", which takes the first that works. device: "auto", "cpu"
    or "gpu". path: an ONNX file instead of the shipped one. precision: in what to compute, "auto",
    "fp32", "bf16" or "int8". BackendError names every backend that was tried with its reason, one
    line each.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise BackendError(f"There is no backend {backend!r}; choose from {', '.join(BACKENDS)}.")
    path = path or engine_path(spec.name)
    reasons = []
    for name in BACKENDS if backend == "auto" else (backend,):
        try:
            return _open(name, spec, path, device, precision)
        except BackendError as error:
            reasons.append(f"{name}: {error}")
            _log.info("%s is not run by %s", spec.name, reasons[-1])
    raise BackendError("\n".join([f"No backend could open {path.name}.", *reasons]))


def package(name: str) -> str:
    """What to install for a backend."""
    extra = BACKENDS[name]
    return f"stream-unmask[{extra}]" if extra else "stream-unmask"


def _open(name: str, spec: EngineSpec, path: Path, device: str, precision: str) -> Engine:
    if find_spec(name) is None:
        raise BackendError(f"not installed; pip install '{package(name)}' brings it")
    try:
        module = import_module(f"stream_unmask.backends.{name}")
    except (ImportError, OSError) as error:  # what it needs in turn, or a shared library
        raise BackendError(f"{error}; pip install '{package(name)}' brings all of it") from error
    engine: Engine = module.open_engine(spec, path, device, precision)
    return engine
