"""The part of CUDA that TensorRT leaves to its user: memory, a stream, graphs; by cuda-bindings.

Each call gives back an error code, which `done` turns into a BackendError. Whatever is made here is
freed by whoever made it: these are C's objects, of which Python knows nothing.
"""

import ctypes
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from cuda.bindings import runtime

from stream_unmask.backends.engine import Tensor
from stream_unmask.errors import BackendError

_OK = runtime.cudaError_t.cudaSuccess
_IN = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
_OUT = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
# A capture forbids what would break it, but only to this thread: others have their own engines.
_CAPTURE = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal


@dataclass(frozen=True)
class Gpu:
    """A GPU's name and compute capability, such as 9.0."""

    name: str
    capability: str


def gpu() -> Gpu:
    """The first GPU that CUDA sees; BackendError if there is none."""
    try:
        properties = done(runtime.cudaGetDeviceProperties(0))
    except BackendError as error:
        raise BackendError(f"there is no NVIDIA GPU that can be used ({error})") from error
    return Gpu(properties.name.decode(), f"{properties.major}.{properties.minor}")


def done(result: tuple[Any, ...]) -> Any:
    """What a call gave besides its error code; BackendError if that is not success."""
    error, *values = result
    if error == runtime.cudaError_t.cudaErrorMemoryAllocation:
        raise BackendError("the GPU has not enough free memory")
    if error != _OK:
        _, text = runtime.cudaGetErrorString(error)
        raise BackendError(f"CUDA: {text.decode()}")
    return values[0] if values else None


class Memory:
    """Memory of the GPU or, `pinned`, of the host, from and to which the GPU copies by itself."""

    def __init__(self, pinned: bool = False) -> None:
        self.size = self.address = 0
        self._take = runtime.cudaMallocHost if pinned else runtime.cudaMalloc
        self._give = runtime.cudaFreeHost if pinned else runtime.cudaFree

    def fit(self, size: int) -> None:
        """Makes room for `size` bytes; where that is more than before, at another address."""
        if size > self.size:
            self.free()
            self.address = done(self._take(size))
            self.size = size

    def array(self, shape: tuple[int, ...]) -> Tensor:
        """Its first bytes as float32, until it grows or is freed; only of what is pinned."""
        floats = (ctypes.c_float * prod(shape)).from_address(self.address)
        return np.ctypeslib.as_array(floats).reshape(shape)

    def free(self) -> None:
        """Gives the memory back; again is fine."""
        address, self.address, self.size = self.address, 0, 0
        if address:
            done(self._give(address))


class Graph:
    """Work that was captured once and is started as a whole, on addresses that must stay."""

    def __init__(self, executable: Any) -> None:
        self._executable = executable

    def start(self, stream: "Stream") -> None:
        done(runtime.cudaGraphLaunch(self._executable, stream.handle))

    def free(self) -> None:
        done(runtime.cudaGraphExecDestroy(self._executable))


class Stream:
    """Work for the GPU, done in the order in which it is given."""

    def __init__(self) -> None:
        self.handle = done(runtime.cudaStreamCreateWithFlags(runtime.cudaStreamNonBlocking))

    def copy_in(self, source: Memory, target: Memory, size: int) -> None:
        """Copies `size` bytes from pinned memory to the GPU's."""
        done(runtime.cudaMemcpyAsync(target.address, source.address, size, _IN, self.handle))

    def copy_out(self, source: Memory, target: Memory, size: int) -> None:
        """Copies `size` bytes from the GPU's memory to what is pinned."""
        done(runtime.cudaMemcpyAsync(target.address, source.address, size, _OUT, self.handle))

    def wait(self) -> None:
        """Returns when all is done; BackendError if some of it failed."""
        done(runtime.cudaStreamSynchronize(self.handle))

    def captured(self, work: Callable[[], None]) -> Graph | None:
        """What `work` gives the stream, as a graph and not done yet; None if it can't be one."""
        done(runtime.cudaStreamBeginCapture(self.handle, _CAPTURE))
        with suppress(BackendError):  # the end of the capture tells as well
            work()
        error, graph = runtime.cudaStreamEndCapture(self.handle)
        if error != _OK:
            runtime.cudaGetLastError()  # or others take it for theirs
            return None
        try:
            return Graph(done(runtime.cudaGraphInstantiate(graph, 0)))
        finally:
            done(runtime.cudaGraphDestroy(graph))

    def free(self) -> None:
        done(runtime.cudaStreamDestroy(self.handle))
