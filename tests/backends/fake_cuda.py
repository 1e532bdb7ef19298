"""A fake of the part of `cuda.bindings.runtime` that the TensorRT backend uses, on the CPU.

It keeps CUDA's rules. A stream does nothing before somebody waits for it. What is copied must lie
in memory that is there, of the kind that is said. Nothing may be allocated or waited for within a
capture. A graph works on the addresses that it was captured with. Breaking a rule that CUDA itself
reports gives its error code; breaking one that it would not notice, or only by a crash, is
`Misuse`, which no code here catches. Device memory is at addresses that the host can't read.
"""

import ctypes
from collections.abc import Callable
from enum import IntEnum
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np

POISON = 0xFF  # a byte of memory that holds nothing: as a float, NaN


class Misuse(BaseException):
    """What would be undefined behaviour; not an Exception, lest it is taken for an error."""


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorInvalidResourceHandle = 400
    cudaErrorLaunchFailure = 719
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToHost = 0
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


E = cudaError_t
Work = Callable[[], None]
TEXTS = {
    E.cudaErrorInvalidValue: b"invalid argument",
    E.cudaErrorMemoryAllocation: b"out of memory",
    E.cudaErrorInsufficientDriver: b"CUDA driver version is insufficient for CUDA runtime version",
    E.cudaErrorNoDevice: b"no CUDA-capable device is detected",
    E.cudaErrorInvalidResourceHandle: b"invalid resource handle",
    E.cudaErrorLaunchFailure: b"unspecified launch failure",
}


class Stream:
    """What was given to a stream and not done yet; captured: what goes to a graph instead."""

    def __init__(self) -> None:
        self.waiting: list[Work] = []
        self.captured: list[Work] | None = None
        self.spoilt = False  # the capture

    def give(self, work: Work) -> None:
        (self.waiting if self.captured is None else self.captured).append(work)


class Handle:
    """As cuda-bindings' handles are: opaque, but for their number."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __int__(self) -> int:
        return self._number


class FakeCuda:
    """The module, as an object, with what it was asked for and what it still holds.

    free: bytes that are left on the device. gpu: its name and compute capability. error: what every
    call meets, such as that there is no device. fail: what the next wait meets.
    """

    cudaError_t = cudaError_t
    cudaMemcpyKind = cudaMemcpyKind
    cudaStreamCaptureMode = cudaStreamCaptureMode
    cudaStreamNonBlocking = 1

    def __init__(self) -> None:
        self.free = 1 << 32
        self.gpu = ("Imaginary GPU", 9, 0)
        self.error = self.fail = E.cudaSuccess
        self.calls: list[str] = []
        self.on_device: dict[int, np.ndarray] = {}
        self.on_host: dict[int, Any] = {}
        self.given_back: list[Any] = []  # kept, so that late readers find NaN and no other's data
        self.streams: dict[int, Stream] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.executables: dict[int, list[Work]] = {}
        self._numbers = count(0x7F0000000000, 1 << 30)  # far apart: what runs over hits nothing

    def held(self) -> dict[str, int]:
        """How many of each kind have not been freed."""
        kinds = ("on_device", "on_host", "streams", "graphs", "executables")
        return {kind: len(getattr(self, kind)) for kind in kinds if getattr(self, kind)}

    def stream(self, handle: Any) -> Stream:
        if int(handle) not in self.streams:
            raise Misuse("a stream that there is not")
        return self.streams[int(handle)]

    def device(self, address: int, size: int) -> np.ndarray:
        """`size` bytes of device memory."""
        block = self.on_device.get(address)
        if block is None or size > block.size:
            raise Misuse(f"{size} bytes at {address:#x} are not on the device")
        return block[:size]

    def host(self, address: int, size: int) -> np.ndarray:
        block = self.on_host.get(address)
        if block is None or size > len(block):
            raise Misuse(f"{size} bytes at {address:#x} are not pinned")
        return np.frombuffer(block, np.uint8, size)

    def _called(self, name: str, forbidden: bool = False) -> cudaError_t:
        """Notes a call; forbidden: within a capture, which it spoils."""
        self.calls.append(name)
        if self.error:
            return self.error
        capturing = [stream for stream in self.streams.values() if stream.captured is not None]
        if forbidden and capturing:
            for stream in capturing:
                stream.spoilt = True
            return E.cudaErrorStreamCaptureUnsupported
        return E.cudaSuccess

    def cudaGetErrorString(self, error: cudaError_t) -> tuple[Any, ...]:
        return E.cudaSuccess, TEXTS.get(error, b"some other error")

    def cudaGetLastError(self) -> tuple[cudaError_t]:
        self.calls.append("cudaGetLastError")
        return (E.cudaSuccess,)

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        if error := self._called("cudaGetDeviceProperties"):
            return error, None
        name, major, minor = self.gpu
        return E.cudaSuccess, SimpleNamespace(name=name.encode(), major=major, minor=minor)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if error := self._called("cudaMalloc", forbidden=True):
            return error, None
        if size > self.free:
            return E.cudaErrorMemoryAllocation, None
        self.free -= size
        address = next(self._numbers)
        self.on_device[address] = np.full(size, POISON, np.uint8)
        return E.cudaSuccess, address

    def cudaFree(self, address: int) -> tuple[cudaError_t]:
        if error := self._called("cudaFree", forbidden=True):
            return (error,)
        if address not in self.on_device:
            return (E.cudaErrorInvalidValue,)
        self.free += self.on_device.pop(address).size
        return (E.cudaSuccess,)

    def cudaMallocHost(self, size: int) -> tuple[Any, ...]:
        if error := self._called("cudaMallocHost", forbidden=True):
            return error, None
        block = (ctypes.c_ubyte * size)(*[POISON] * size)
        self.on_host[ctypes.addressof(block)] = block
        return E.cudaSuccess, ctypes.addressof(block)

    def cudaFreeHost(self, address: int) -> tuple[cudaError_t]:
        if error := self._called("cudaFreeHost", forbidden=True):
            return (error,)
        if address not in self.on_host:
            return (E.cudaErrorInvalidValue,)
        block = self.on_host.pop(address)
        ctypes.memset(address, POISON, len(block))
        self.given_back.append(block)
        return (E.cudaSuccess,)

    def cudaMemcpyAsync(
        self, target: int, source: int, size: int, kind: cudaMemcpyKind, stream: Any
    ) -> tuple[cudaError_t]:
        if error := self._called("cudaMemcpyAsync"):
            return (error,)
        sides = {
            cudaMemcpyKind.cudaMemcpyHostToDevice: (self.device, self.host),
            cudaMemcpyKind.cudaMemcpyDeviceToHost: (self.host, self.device),
        }
        to, start = sides[kind]

        def copy() -> None:
            to(target, size)[:] = start(source, size)

        to(target, size), start(source, size)  # there now, and again when it is done
        self.stream(stream).give(copy)
        return (E.cudaSuccess,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        if error := self._called("cudaStreamCreateWithFlags"):
            return error, None
        number = next(self._numbers)
        self.streams[number] = Stream()
        return E.cudaSuccess, Handle(number)

    def cudaStreamDestroy(self, stream: Any) -> tuple[cudaError_t]:
        if error := self._called("cudaStreamDestroy"):
            return (error,)
        if int(stream) not in self.streams:
            return (E.cudaErrorInvalidResourceHandle,)
        if self.streams.pop(int(stream)).waiting:
            raise Misuse("a stream is destroyed that has not done its work")
        return (E.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: Any) -> tuple[cudaError_t]:
        if error := self._called("cudaStreamSynchronize", forbidden=True):
            return (error,)
        if self.fail:
            failed, self.fail = self.fail, E.cudaSuccess
            self.stream(stream).waiting.clear()
            return (failed,)
        waiting, self.stream(stream).waiting = self.stream(stream).waiting, []
        for work in waiting:
            work()
        return (E.cudaSuccess,)

    def cudaStreamBeginCapture(
        self, stream: Any, mode: cudaStreamCaptureMode
    ) -> tuple[cudaError_t]:
        if error := self._called("cudaStreamBeginCapture"):
            return (error,)
        if mode is not cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal:
            raise Misuse("a capture that breaks on what other threads do")
        self.stream(stream).captured, self.stream(stream).spoilt = [], False
        return (E.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: Any) -> tuple[Any, ...]:
        if error := self._called("cudaStreamEndCapture"):
            return error, None
        captured, self.stream(stream).captured = self.stream(stream).captured, None
        if captured is None:
            return E.cudaErrorInvalidValue, None
        if self.stream(stream).spoilt:
            return E.cudaErrorStreamCaptureInvalidated, None
        number = next(self._numbers)
        self.graphs[number] = captured
        return E.cudaSuccess, Handle(number)

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[Any, ...]:
        if error := self._called("cudaGraphInstantiate"):
            return error, None
        number = next(self._numbers)
        self.executables[number] = list(self.graphs[int(graph)])
        return E.cudaSuccess, Handle(number)

    def cudaGraphDestroy(self, graph: Any) -> tuple[cudaError_t]:
        if self.graphs.pop(int(graph), None) is None:
            raise Misuse("a graph is destroyed that there is not")
        return (self._called("cudaGraphDestroy"),)

    def cudaGraphLaunch(self, executable: Any, stream: Any) -> tuple[cudaError_t]:
        if error := self._called("cudaGraphLaunch"):
            return (error,)
        if int(executable) not in self.executables:
            raise Misuse("a graph is started that there is not")
        for work in self.executables[int(executable)]:
            self.stream(stream).give(work)
        return (E.cudaSuccess,)

    def cudaGraphExecDestroy(self, executable: Any) -> tuple[cudaError_t]:
        if self.executables.pop(int(executable), None) is None:
            raise Misuse("a graph is destroyed that there is not")
        return (self._called("cudaGraphExecDestroy"),)
