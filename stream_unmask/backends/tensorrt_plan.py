"""Plans: networks as TensorRT builds them for one GPU, kept in the user's cache folder.

Building takes TensorRT long, as it times many ways to do each step. What it builds runs on the same
kind of GPU and under the same version alone. So a plan's file begins with a line of JSON that says
for what it was built, and one that does not fit is refused.
"""

import hashlib
import json
import logging
import os
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import tensorrt as trt

from stream_unmask.backends.artefacts import cache_folder, sha256
from stream_unmask.backends.cuda import Gpu
from stream_unmask.backends.engine import EngineSpec, TensorSpec
from stream_unmask.backends.half import network
from stream_unmask.errors import BackendError

_RECIPE = 1  # one more when plans are built in another way
_MOST = 8  # inputs at once
_SIDES = (32, 512, 1024)  # px: the least, the usual and the most of a side that is free

_log = logging.getLogger("stream_unmask")


class Log(trt.ILogger):  # type: ignore[misc]
    """Keeps TensorRT's errors, for it raises none."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._errors: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        """Called by TensorRT."""
        if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
            self._errors.append(message)
        else:
            _log.debug("TensorRT: %s", message)

    def reason(self) -> str:
        """The first error since this was last asked, which the others follow from."""
        first = self._errors[0] if self._errors else "it gave no reason"
        self._errors.clear()
        return " ".join(first.split())


@cache
def log() -> Log:
    """The one that TensorRT keeps for good: it takes no second."""
    return Log()


@dataclass(frozen=True)
class Key:
    """What a plan was built from and for; onnx: the SHA-256 of the file; shapes: of its inputs."""

    gpu: str
    capability: str
    tensorrt: str
    onnx: str
    precision: str
    shapes: str
    recipe: int = _RECIPE

    def __str__(self) -> str:
        return (
            f"{self.gpu} (compute capability {self.capability}), TensorRT {self.tensorrt}, "
            f"{self.precision}, ONNX file {self.onnx[:16]}, {self.shapes}, recipe {self.recipe}"
        )

    @property
    def digest(self) -> str:
        """Of all of it, for a plan's name."""
        return _digest(*map(str, asdict(self).values()))

    @property
    def timing_digest(self) -> str:
        """Of what timings depend on: they serve every network."""
        return _digest(self.gpu, self.capability, self.tensorrt)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def precision(spec: EngineSpec) -> str:
    """In what a network runs inside."""
    return "fp32" if spec.precise else "fp16"


def most(spec: EngineSpec) -> int:
    """How many inputs a plan takes at once: one if their size is free, for memory's sake."""
    return 1 if any(None in tensor.shape[1:] for tensor in spec.inputs) else _MOST


def plan(spec: EngineSpec, path: Path, gpu: Gpu) -> bytes:
    """The plan of an ONNX file for a GPU, from the cache or built, which takes a while.

    BackendError if it can't be built, or if what the cache has is another or damaged.
    """
    shapes = " ".join(f"{tensor.name} {_range(tensor, most(spec))}" for tensor in spec.inputs)
    key = Key(gpu.name, gpu.capability, trt.__version__, sha256(path), precision(spec), shapes)
    folder = cache_folder("tensorrt")
    file = folder / f"{path.stem}-{key.digest}.plan" if folder else None
    if file is not None and file.is_file():
        return _read(file, key)
    model = network(path, half=not spec.precise)
    _log.warning("Building %s for %s with TensorRT, which is done once.", path.stem, gpu.name)
    timing = folder / f"timing-{key.timing_digest}.cache" if folder else None
    built = _built(spec, model, timing)
    if file is not None:
        header = {"key": asdict(key), "sha256": hashlib.sha256(built).hexdigest()}
        _write(file, json.dumps(header).encode() + b"\n" + built)
    return built


def _read(file: Path, key: Key) -> bytes:
    """The plan in a file; BackendError if it was built for something else, or is damaged."""
    header, _, content = file.read_bytes().partition(b"\n")
    try:
        found = json.loads(header)
        built_for = Key(**found["key"])
        damaged = found["sha256"] != hashlib.sha256(content).hexdigest()
    except (ValueError, TypeError, KeyError):
        built_for, damaged = key, True
    if built_for != key:
        raise BackendError(
            f"{file} was built for {built_for}, but this is {key}; delete it, and it is built anew"
        )
    if damaged:
        raise BackendError(f"{file} is damaged; delete it, and it is built anew")
    return content


def _write(file: Path, content: bytes) -> None:
    """Writes a file at once or not at all: others may read it now, or this may be interrupted."""
    part = file.with_suffix(f".{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(file)
    except OSError as error:  # the plan is there, it only has to be built again next time
        part.unlink(missing_ok=True)
        _log.warning("%s could not be kept (%s).", file, error.strerror)


def _built(spec: EngineSpec, model: bytes, timing: Path | None) -> bytes:
    """The plan that TensorRT builds; what it measured on the way goes to the file `timing`."""
    try:
        builder = trt.Builder(log())
    except TypeError as error:  # what its bindings make of no builder
        raise BackendError(f"TensorRT does not start ({log().reason()})") from error
    # TensorRT 11 knows no other networks, and this flag only for compatibility.
    definition = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(definition, log())
    if not parser.parse(model):
        raise BackendError(f"TensorRT can't read it ({_parser_error(parser)})")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # float32 means float32
    profile = builder.create_optimization_profile()
    for tensor in spec.inputs:
        profile.set_shape(tensor.name, *_range(tensor, most(spec)))
    config.add_optimization_profile(profile)
    _begin_timing(config, timing)
    built = builder.build_serialized_network(definition, config)
    if built is None:
        raise BackendError(f"TensorRT can't build it ({log().reason()})")
    if timing is not None:
        _write(timing, bytes(config.get_timing_cache().serialize()))
    return bytes(built)


def _parser_error(parser: Any) -> str:
    return parser.get_error(0).desc() if parser.num_errors else log().reason()


def _range(tensor: TensorSpec, batch: int) -> list[tuple[int, ...]]:
    """The least, the usual and the largest shape of an input; a full batch is the usual one."""
    batches = (1, batch, batch)
    return [
        (batches[at], *(_SIDES[at] if side is None else side for side in tensor.shape[1:]))
        for at in range(3)
    ]


def _begin_timing(config: Any, timing: Path | None) -> None:
    """Lets a build use what others before it measured."""
    kept = timing.read_bytes() if timing is not None and timing.is_file() else b""
    for known in (kept, b""):  # what is damaged or of another GPU is refused
        found = config.create_timing_cache(known)
        if found is not None and config.set_timing_cache(found, ignore_mismatch=False):
            return
