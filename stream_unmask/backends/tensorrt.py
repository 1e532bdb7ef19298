"""Engines on TensorRT, for NVIDIA GPUs."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import tensorrt as trt

from stream_unmask.backends.cuda import Graph, Memory, Stream, gpu
from stream_unmask.backends.engine import EngineSpec, Tensor, in_batches
from stream_unmask.backends.tensorrt_plan import log, most, plan, precision
from stream_unmask.errors import BackendError

_FLOAT_BYTES = 4
_MOST_SHAPES = 8  # for which an engine is kept ready: a full batch and every smaller one

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Ready:
    """The network, ready for inputs of certain shapes; graph: its work as a whole, if it can be.

    A graph and its context belong together: NVIDIA asks for a context of its own for each.
    """

    context: Any
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    graph: Graph | None = None


class TensorRtEngine:
    """A plan, loaded, with the memory that its inputs, outputs and steps between need.

    The first call with inputs of new shapes captures what is to be done in a graph, copies
    included; later ones only start that. Memory is shared by all shapes.
    """

    def __init__(self, spec: EngineSpec, loaded: Any, device: str) -> None:
        self.spec, self.device, self.batch = spec, device, most(spec)
        self._loaded = loaded
        self._ready: dict[tuple[Shape, ...], _Ready] = {}  # the one used last comes last
        names = [tensor.name for tensor in (*spec.inputs, *spec.outputs)]
        self._on_gpu = {name: Memory() for name in names}
        self._on_host = {name: Memory(pinned=True) for name in names}
        self._between = Memory()
        with ExitStack() as held:
            self._stream = Stream()
            held.callback(self._stream.free)
            for memory in (*self._on_gpu.values(), *self._on_host.values(), self._between):
                held.callback(memory.free)
            held.callback(self._forget)
            self._between.fit(loaded.device_memory_size_v2)
            self._held = held.pop_all()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if self._loaded is None:
            raise BackendError(f"The engine {self.spec.name} was closed.")
        if len(inputs[0]) > self.batch:
            return in_batches(self, *inputs)
        ready = self._for(tuple(array.shape for array in inputs))
        for tensor, array in zip(self.spec.inputs, inputs, strict=True):
            self._on_host[tensor.name].array(array.shape)[...] = array
        if ready.graph is not None:
            ready.graph.start(self._stream)
        else:
            self._enqueue(ready)
        self._stream.wait()
        return tuple(
            self._on_host[tensor.name].array(shape).copy()
            for tensor, shape in zip(self.spec.outputs, ready.outputs, strict=True)
        )

    def close(self) -> None:
        """Frees graphs, contexts, memory and the plan."""
        self._loaded = None
        self._held.close()

    def _for(self, shapes: tuple[Shape, ...]) -> _Ready:
        """The network, ready for inputs of these shapes, as it was before or from now on."""
        ready = self._ready.pop(shapes, None) or self._prepared(shapes)
        self._ready[shapes] = ready
        if len(self._ready) > _MOST_SHAPES:
            _free(self._ready.pop(next(iter(self._ready))))
        return ready

    def _prepared(self, shapes: tuple[Shape, ...]) -> _Ready:
        context = self._context(shapes)
        outputs = tuple(
            tuple(context.get_tensor_shape(tensor.name)) for tensor in self.spec.outputs
        )
        self._fit((*shapes, *outputs))
        for name, memory in self._on_gpu.items():
            context.set_tensor_address(name, memory.address)
        ready = _Ready(context, shapes, outputs)
        self._enqueue(ready)  # what TensorRT has put off until shapes are known can't be captured
        self._stream.wait()
        graph = self._stream.captured(lambda: self._enqueue(ready))
        return _Ready(context, shapes, outputs, graph)

    def _context(self, shapes: tuple[Shape, ...]) -> Any:
        """TensorRT's state for inputs of these shapes, with all memory shared but its own."""
        context = self._loaded.create_execution_context(
            trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        if context is None:
            raise BackendError(f"TensorRT can't run {self.spec.name} ({log().reason()}).")
        context.set_device_memory(self._between.address, self._between.size)
        for tensor, shape in zip(self.spec.inputs, shapes, strict=True):
            if not context.set_input_shape(tensor.name, shape):
                raise BackendError(
                    f"On TensorRT {self.spec.name} takes no input of shape {shape} "
                    f"({log().reason()})."
                )
        return context

    def _fit(self, shapes: tuple[Shape, ...]) -> None:
        """Makes room for inputs and outputs; graphs know addresses, so they go if these do."""
        sizes = [_FLOAT_BYTES * prod(shape) for shape in shapes]
        if any(
            size > memory.size for size, memory in zip(sizes, self._on_gpu.values(), strict=True)
        ):
            self._forget()
        for size, *memories in zip(
            sizes, self._on_gpu.values(), self._on_host.values(), strict=True
        ):
            for memory in memories:
                memory.fit(size)

    def _enqueue(self, ready: _Ready) -> None:
        """Gives the stream copies and network, to be done in this order."""
        for tensor, shape in zip(self.spec.inputs, ready.inputs, strict=True):
            host, device = self._on_host[tensor.name], self._on_gpu[tensor.name]
            self._stream.copy_in(host, device, _FLOAT_BYTES * prod(shape))
        if not ready.context.execute_async_v3(int(self._stream.handle)):
            raise BackendError(f"TensorRT failed at {self.spec.name} ({log().reason()}).")
        for tensor, shape in zip(self.spec.outputs, ready.outputs, strict=True):
            host, device = self._on_host[tensor.name], self._on_gpu[tensor.name]
            self._stream.copy_out(device, host, _FLOAT_BYTES * prod(shape))

    def _forget(self) -> None:
        """Frees what is ready, graphs and contexts."""
        while self._ready:
            _free(self._ready.popitem()[1])


def _free(ready: _Ready) -> None:
    """Frees the graph; the context goes with the last who knows it."""
    if ready.graph is not None:
        ready.graph.free()


def open_engine(spec: EngineSpec, path: Path, device: str, wanted: str = "auto") -> TensorRtEngine:
    """The engine of `path` on the first GPU; building it takes TensorRT long, but only once.

    wanted: the precision, "fp32" or "auto", which is fp16 unless the spec asks for precision.
    """
    if device not in ("auto", "cpu", "gpu"):
        raise BackendError(f"there is no device {device!r}; choose auto, cpu or gpu")
    if device == "cpu":
        raise BackendError("TensorRT runs on NVIDIA GPUs alone")
    if wanted not in ("auto", "fp32"):
        raise BackendError(f"it computes in fp16 or in fp32, not in {wanted}")
    if wanted == "fp32":
        spec = replace(spec, precise=True)
    found = gpu()
    content = plan(spec, path, found)
    try:
        loaded = trt.Runtime(log()).deserialize_cuda_engine(content)
    except TypeError as error:  # what its bindings make of no runtime
        raise BackendError(f"TensorRT does not start ({log().reason()})") from error
    if loaded is None:
        raise BackendError(f"TensorRT can't load what it built ({log().reason()})")
    promised = {tensor.name for tensor in (*spec.inputs, *spec.outputs)}
    names = {loaded.get_tensor_name(index) for index in range(loaded.num_io_tensors)}
    if names != promised:
        raise BackendError(f"its tensors are {sorted(names)}, not {sorted(promised)}")
    return TensorRtEngine(spec, loaded, f"tensorrt {found.name} {precision(spec)}")
