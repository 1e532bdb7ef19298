"""What the TensorRT backend says when something fails, and that nothing is left behind then."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stream_unmask import backends
from stream_unmask.backends import Engine, EngineSpec, open_engine
from stream_unmask.errors import BackendError
from tests.backends.fake_cuda import E, FakeCuda
from tests.backends.fake_tensorrt import BETWEEN, FakeTensorRt
from tests.backends.sums import FREE, ONE, SPEC, check, inputs

Start = Callable[..., Engine]


def reason(start: Callable[[], object]) -> str:
    """The sentence with which TensorRT is refused."""
    with pytest.raises(BackendError) as caught:
        start()
    (line,) = str(caught.value).splitlines()[1:]
    return line.removeprefix("tensorrt: ")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (E.cudaErrorNoDevice, "no CUDA-capable device is detected"),
        (E.cudaErrorInsufficientDriver, "CUDA driver version is insufficient"),
    ],
)
def test_without_a_gpu(start: Start, cuda: FakeCuda, error: E, text: str) -> None:
    cuda.error = error
    assert reason(start).startswith(f"there is no NVIDIA GPU that can be used (CUDA: {text}")


def test_on_a_cpu_it_does_not_run(start: Start) -> None:
    assert reason(lambda: start(device="cpu")) == "TensorRT runs on NVIDIA GPUs alone"


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_auto_takes_the_next_backend(
    tensorrt: FakeTensorRt, cuda: FakeCuda, path: Path, device: str
) -> None:
    assert open_engine(SPEC, device="gpu", path=path).device.startswith("tensorrt")
    if device == "auto":
        cuda.error = E.cudaErrorNoDevice
    assert open_engine(SPEC, device=device, path=path).device.startswith("openvino")


@pytest.mark.parametrize("library", ["cuda.bindings", "tensorrt", "onnx"])
def test_auto_takes_the_next_backend_if_a_library_does_not_load(
    tensorrt: FakeTensorRt, path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: name != "onnxruntime" or None)
    for name in (library, "stream_unmask.backends.half"):
        monkeypatch.setitem(sys.modules, name, None)
    assert open_engine(SPEC, path=path).device.startswith("openvino")
    line = reason(lambda: open_engine(SPEC, "tensorrt", path=path))
    assert line.endswith("pip install 'stream-unmask[tensorrt]' brings all of it")


def test_out_of_memory_on_opening(start: Start, cuda: FakeCuda) -> None:
    cuda.free = BETWEEN - 1
    assert reason(start) == "the GPU has not enough free memory"
    assert cuda.held() == {}


@pytest.mark.parametrize("left", [BETWEEN, BETWEEN + 2 * ONE, BETWEEN + 3 * ONE])
def test_out_of_memory_later(start: Start, cuda: FakeCuda, left: int) -> None:
    cuda.free = left
    engine = start()
    with pytest.raises(BackendError, match="the GPU has not enough free memory"):
        engine(*inputs(1))
    cuda.free = 1 << 20
    check(engine, 1)  # somebody else let go of some
    engine.close()
    assert cuda.held() == {}


def test_out_of_memory_while_it_grows(start: Start, cuda: FakeCuda) -> None:
    engine = start()
    check(engine, 2)
    cuda.free = 0
    with pytest.raises(BackendError, match="the GPU has not enough free memory"):
        engine(*inputs(4))
    cuda.free = 1 << 20
    check(engine, 2, seed=1)
    engine.close()
    assert cuda.held() == {}


def test_a_build_that_fails(start: Start, tensorrt: FakeTensorRt, path: Path) -> None:
    tensorrt.refuse = "[graph.cpp::checkSanity] Error Code 4:\n  no kernel for {Conv}"
    assert reason(start) == (
        "TensorRT can't build it ([graph.cpp::checkSanity] Error Code 4: no kernel for {Conv})"
    )
    tensorrt.refuse = ""
    check(start(), 1)  # nothing of it was kept


def test_a_network_that_tensorrt_can_not_read(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.backends.fake_builder.ASKED", {"Add": (0,)})
    assert reason(start) == "TensorRT can't read it (Add: weights must be an initializer)"


def test_tensorrt_that_does_not_start(start: Start, tensorrt: FakeTensorRt) -> None:
    tensorrt.starts = False
    wanted = "TensorRT does not start (CUDA initialization failure with error: 35)"
    assert reason(start) == wanted
    tensorrt.starts = True
    start()
    tensorrt.starts = False
    assert reason(start) == wanted  # with the plan in the cache


def test_a_plan_that_tensorrt_does_not_load(
    start: Start, tensorrt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    monkeypatch.setattr(tensorrt, "here", lambda: ["another driver"])
    assert reason(start).startswith(
        "TensorRT can't load what it built (The engine plan file is not"
    )


def test_a_file_of_another_network(start: Start) -> None:
    other = EngineSpec("sums", SPEC.inputs, SPEC.outputs[:1])
    assert reason(lambda: start(other)) == (
        "its tensors are ['a', 'b', 'mean', 'sum'], not ['a', 'b', 'sum']"
    )


def test_a_shape_that_a_plan_does_not_take(start: Start, cuda: FakeCuda) -> None:
    engine = start(FREE)
    with pytest.raises(BackendError, match=r"On TensorRT sums takes no input of shape \(1, 2, 16"):
        engine(*inputs(1, side=16))
    check(engine, 1, side=32)
    engine.close()
    assert cuda.held() == {}


def test_a_context_that_can_not_be_made(start: Start, tensorrt: FakeTensorRt) -> None:
    engine = start()
    tensorrt.no_context = "out of something"
    with pytest.raises(BackendError, match=r"TensorRT can't run sums \(out of something\)\."):
        engine(*inputs(1))


def test_an_execution_that_fails(start: Start, cuda: FakeCuda, tensorrt: FakeTensorRt) -> None:
    engine = start()
    tensorrt.fail_execution = True
    with pytest.raises(BackendError, match=r"TensorRT failed at sums \(the step failed\)\."):
        engine(*inputs(1))
    tensorrt.fail_execution = False
    cuda.streams[int(next(iter(cuda.streams)))].waiting.clear()
    check(engine, 1)


def test_an_error_of_the_gpu(start: Start, cuda: FakeCuda) -> None:
    engine = start()
    check(engine, 1)
    cuda.fail = E.cudaErrorLaunchFailure
    with pytest.raises(BackendError, match="CUDA: unspecified launch failure"):
        engine(*inputs(1))
