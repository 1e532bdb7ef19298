"""Engines on OpenVINO: the default, for CPUs and Intel GPUs."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from stream_unmask.backends.artefacts import cache_folder, sha256
from stream_unmask.backends.engine import EngineSpec, Tensor
from stream_unmask.backends.openvino_int8 import Ranges, rounded, shipped_ranges, sums_exactly
from stream_unmask.backends.openvino_quiet import ov
from stream_unmask.errors import BackendError

_DEVICES = {"auto": "CPU", "cpu": "CPU", "gpu": "GPU"}
_PRECISIONS = ("auto", "fp32", "bf16", "int8")
_FLOATS = {"fp32": "f32", "bf16": "bf16"}  # in OpenVINO's words
_MOST_MODELS = 4  # of one engine: they take memory, and few shapes come in turns

Shapes = tuple[tuple[int, ...], ...]


class OpenVinoEngine:
    """A compiled model, and more of the same for inputs of other shapes.

    A model that gets another shape than last time is made ready for it anew, which takes as long
    again as a small network itself. So shapes that come in turns have a model each.
    """

    def __init__(
        self, spec: EngineSpec, compiled: Callable[[], ov.CompiledModel], int8: bool
    ) -> None:
        self.spec = spec
        self._compiled = compiled
        model = compiled()
        device = model.get_property("EXECUTION_DEVICES")[0]
        floats = model.get_property("INFERENCE_PRECISION_HINT").to_string()
        precision = "int8" if int8 else floats
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


def open_engine(
    spec: EngineSpec, path: Path, device: str, precision: str = "auto"
) -> OpenVinoEngine:
    """Compiles `path`, for fp32 if the spec asks for precision.

    precision: "auto" is bf16 where the CPU has it, else int8 where that is exact, else fp32. In
    int8 run engines for which ranges are shipped, the others as OpenVINO chooses. What was compiled
    is kept in the user's cache folder, from where it opens in a fifth of the time.
    """
    if device not in _DEVICES:
        raise BackendError(f"there is no device {device!r}; choose auto, cpu or gpu")
    if precision not in _PRECISIONS:
        raise BackendError(f"there is no precision {precision!r}; choose {', '.join(_PRECISIONS)}")
    on = _DEVICES[device]
    try:
        _check(on, precision)
        if precision == "auto" and on == "CPU":
            precision = _usual_on_cpu()
        int8 = precision == "int8" and not spec.precise
        ranges = shipped_ranges(spec.name, path) if int8 else None
        config = {"PERFORMANCE_HINT": "LATENCY", **_cached(ranges.path if ranges else path)}
        floats = "fp32" if spec.precise or ranges else precision
        if floats in _FLOATS:
            config["INFERENCE_PRECISION_HINT"] = _FLOATS[floats]
        return OpenVinoEngine(
            spec, lambda: core().compile_model(_source(path, ranges), on, config), bool(ranges)
        )
    except RuntimeError as error:
        raise BackendError(str(error).strip().splitlines()[-1]) from error


def _check(device: str, precision: str) -> None:
    """BackendError if a device does not compute in a precision."""
    if precision == "bf16" and "BF16" not in core().get_property(
        device, "OPTIMIZATION_CAPABILITIES"
    ):
        raise BackendError(f"this {device} does not compute in bf16")
    if precision == "int8" and device != "CPU":
        raise BackendError("it computes in int8 on CPUs alone")
    if precision == "int8" and not _int8_is_exact():
        raise BackendError("this CPU adds products of int8 up in 16 bits, which overflow")


def _usual_on_cpu() -> str:
    """In what networks compute if nobody says: as OpenVINO chooses, but in int8 instead of fp32
    where that is exact."""
    floats: str = core().get_property("CPU", "INFERENCE_PRECISION_HINT").to_string()
    return "int8" if floats == "f32" and _int8_is_exact() else floats


@cache
def _int8_is_exact() -> bool:
    return sums_exactly(core())


def _source(path: Path, ranges: Ranges | None) -> ov.Model | str:
    return rounded(core().read_model(str(path)), ranges) if ranges else str(path)


@cache
def core() -> ov.Core:
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
    """What it can run on here: its names, of the CPU also the precision if nobody says any."""
    names = list(core().available_devices)
    return [f"{name} {_usual_on_cpu()}" if name == "CPU" else name for name in names]
