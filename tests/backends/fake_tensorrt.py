"""A fake of the part of `tensorrt` that the backend uses, whose networks ONNX Runtime runs.

Names, arguments and what comes back on failure (None, False, a TypeError from a constructor) are
those of the bindings of TensorRT 10.6 to 11.4. As they do, it takes what breaks a rule that
TensorRT checks for an error, which goes to the log. What TensorRT would not notice is `Misuse`:
work with memory that is gone, a graph that outlives its context, a change to a context that a graph
knows.
"""

import json
from enum import Enum, IntEnum
from functools import partial
from math import prod
from typing import Any
from weakref import ref

import numpy as np
import onnx

from tests.backends.fake_builder import Builder, BuilderConfig, BuilderFlag, OnnxParser, shape_of
from tests.backends.fake_cuda import FakeCuda, Misuse
from tests.backends.rounding import rounded, session

BETWEEN = 1000  # bytes that a plan asks for between its steps


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3


class ILogger:
    Severity = Severity

    def log(self, severity: Severity, message: str) -> None:
        raise NotImplementedError


class ExecutionContextAllocationStrategy(Enum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class CudaEngine:
    """A plan, loaded."""

    device_memory_size_v2 = BETWEEN

    def __init__(
        self, fake: "FakeTensorRt", shapes: dict[str, Any], model: onnx.ModelProto
    ) -> None:
        self.fake, self.shapes = fake, shapes
        self.session = session(rounded(model))
        self.ins = [tensor.name for tensor in model.graph.input]
        self.outs = {tensor.name: shape_of(tensor) for tensor in model.graph.output}
        self._names = [*self.ins, *self.outs]
        self.num_io_tensors = len(self._names)

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def create_execution_context(
        self, strategy: Any = ExecutionContextAllocationStrategy.STATIC
    ) -> "ExecutionContext | None":
        if self.fake.no_context:
            self.fake.complain(self.fake.no_context)
            return None
        context = ExecutionContext(self, strategy)
        self.fake.contexts.append(ref(context))
        return context


class ExecutionContext:
    def __init__(self, engine: CudaEngine, strategy: Any) -> None:
        self.engine, self._fake = engine, engine.fake
        self._own = strategy is not ExecutionContextAllocationStrategy.USER_MANAGED
        self._between: tuple[int, int] | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._put_off = False  # work that waits for the next execution, and can't be captured
        self._captured = False

    def set_device_memory(self, memory: int, size: int) -> None:
        self._changed()
        self._between = (memory, size)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._changed()
        least, _, largest = self.engine.shapes.get(name, ((), (), ()))
        fits = len(shape) == len(least) and all(
            a <= side <= b for a, side, b in zip(least, shape, largest, strict=True)
        )
        if not fits:
            self._fake.complain(f"{name}: {list(shape)} is not within {least} and {largest}")
            return False
        self._shapes[name] = shape
        self._put_off = True
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if set(self._shapes) != set(self.engine.ins):
            return tuple(-1 if side is None else side for side in self.engine.outs[name])
        zeros = {key: np.zeros(shape, np.float32) for key, shape in self._shapes.items()}
        return tuple(self.engine.session.run([name], zeros)[0].shape)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._changed()
        if name not in (*self.engine.ins, *self.engine.outs):
            self._fake.complain(f"there is no tensor {name}")
            return False
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Gives the network to a stream; what may be released before that is done, may not."""
        stream = self._fake.cuda.stream(stream_handle)
        capturing = stream.captured is not None
        wrong = self._wrong(capturing)
        if wrong:
            stream.spoilt = True
            self._fake.complain(wrong)
            return False
        self._put_off = False
        self._captured |= capturing
        self._fake.executed.append("captured" if capturing else "given")
        if not self._own:
            assert self._between is not None
            self._fake.cuda.device(self._between[0], BETWEEN)
        work = partial(_run, ref(self), self.engine, {**self._shapes}, {**self._addresses})
        stream.give(partial(work, self._between))
        return True

    def _wrong(self, capturing: bool) -> str:
        """What TensorRT would complain of."""
        if self._fake.fail_execution or (capturing and self._fake.no_capture):
            return "the step failed"
        if set(self._shapes) != set(self.engine.ins):
            return "not all input shapes are specified"
        if set(self._addresses) != {*self.engine.ins, *self.engine.outs}:
            return "a tensor has no address"
        if not self._own and (self._between is None or self._between[1] < BETWEEN):
            return "there is no device memory"
        if capturing and self._put_off:
            return "operation not permitted when stream is capturing"
        return ""

    def _changed(self) -> None:
        if self._captured:
            raise Misuse("a context changes that a graph was captured from")


def _run(
    context: "ref[ExecutionContext]", engine: CudaEngine, shapes: dict[str, Any],
    addresses: dict[str, int], between: tuple[int, int] | None,
) -> None:  # fmt: skip
    """What the GPU does when its turn comes."""
    if context() is None:
        raise Misuse("the context is gone")
    cuda = engine.fake.cuda
    if between is not None:
        cuda.device(between[0], BETWEEN)[:] = 1
    feed = {
        name: cuda.device(addresses[name], 4 * prod(shape)).view(np.float32).reshape(shape)
        for name, shape in shapes.items()
    }
    for name, result in zip(engine.outs, engine.session.run([*engine.outs], feed), strict=True):
        cuda.device(addresses[name], result.nbytes)[:] = result.reshape(-1).view(np.uint8)


class Runtime:
    def __init__(self, fake: "FakeTensorRt") -> None:
        self._fake = fake

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> CudaEngine | None:
        header, _, model = serialized_engine.partition(b"\n")
        try:
            built = json.loads(header)
        except ValueError:
            built = {"for": None}
        if built["for"] != self._fake.here():
            self._fake.complain("The engine plan file is not compatible with this version or GPU")
            return None
        return CudaEngine(self._fake, built["shapes"], onnx.load_from_string(model))


class FakeTensorRt:
    """The module, as an object.

    refuse: why it builds nothing; no_context: why none is made; starts: whether there is a builder
    and a runtime at all.
    """

    ILogger = ILogger
    BuilderFlag = BuilderFlag
    ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy
    OnnxParser = OnnxParser

    def __init__(self, cuda: FakeCuda, version: str) -> None:
        self.cuda, self.__version__ = cuda, version
        self.refuse = self.no_context = ""
        self.starts, self.no_capture, self.fail_execution = True, False, False
        self.built: list[tuple[Any, BuilderConfig]] = []
        self.contexts: list[ref[ExecutionContext]] = []
        self.executed: list[str] = []
        self._logger: ILogger | None = None
        # In TensorRT 11 it has another number.
        number = 1 if version.startswith("10") else 0
        self.NetworkDefinitionCreationFlag = IntEnum("Flag", {"STRONGLY_TYPED": number})

    def Builder(self, logger: ILogger) -> Builder:
        self._begin(logger)
        return Builder(self)

    def Runtime(self, logger: ILogger) -> Runtime:
        self._begin(logger)
        return Runtime(self)

    def complain(self, message: str) -> None:
        assert self._logger is not None
        self._logger.log(Severity.ERROR, message)
        self._logger.log(Severity.ERROR, "and so on")

    def here(self) -> list[Any]:
        """What a plan must have been built for."""
        return [*self.cuda.gpu, self.__version__]

    def timing_header(self) -> bytes:
        return json.dumps(self.here()).encode()

    def _begin(self, logger: ILogger) -> None:
        if self._logger is not None and logger is not self._logger:
            raise Misuse("TensorRT keeps its first logger, whatever others it is given")
        self._logger = logger
        if not self.starts:
            self.complain("CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
