"""One contract for every backend that is installed, for the fake, and for TensorRT on a fake."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from stream_unmask import backends
from stream_unmask.backends import BACKENDS, Engine, EngineSpec, TensorSpec, open_engine
from stream_unmask.backends.function import FunctionEngine
from stream_unmask.errors import BackendError

# Two inputs and two outputs, so that their order counts.
SPEC = EngineSpec(
    "tiny",
    inputs=(TensorSpec("a", (None, 3, 4, 4)), TensorSpec("b", (None, 3, 4, 4))),
    outputs=(TensorSpec("difference", (None, 3, 4, 4)), TensorSpec("mean", (None, 1, 4, 4))),
    precise=True,
)
Open = Callable[..., Engine]


def difference_and_mean(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return a - b, a.mean(1, keepdims=True, dtype=np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as an ONNX file. The outputs stand in the file in the spec's order."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shape = ["batch", 3, 4, 4]
    axes = helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [1])
    graph = helper.make_graph(
        [
            helper.make_node("Sub", ["a", "b"], ["difference"]),
            helper.make_node("ReduceMean", ["a", "axes"], ["mean"], keepdims=1),
        ],
        "tiny",
        [helper.make_tensor_value_info(name, kind, shape) for name in "ab"],
        [
            helper.make_tensor_value_info("difference", kind, shape),
            helper.make_tensor_value_info("mean", kind, ["batch", 1, 4, 4]),
        ],
        [axes],
    )
    file = tmp_path_factory.mktemp("engines") / "tiny.onnx"
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), file)
    return file


ON_A_GPU = pytest.param("tensorrt on a GPU", marks=pytest.mark.needs_cuda)


def ready(name: str, request: pytest.FixtureRequest) -> str:
    """The backend that a parameter names; its library is there from now on, or it is skipped."""
    name, _, real = name.partition(" ")
    if name == "tensorrt" and not real:
        request.getfixturevalue("tensorrt")
    elif find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


@pytest.fixture(params=[*BACKENDS, ON_A_GPU, "function"])
def opened(request: pytest.FixtureRequest) -> Open:
    """A function that opens the tiny network on one backend."""
    if request.param == "function":
        return lambda device="auto": FunctionEngine(SPEC, difference_and_mean)
    backend, path = ready(request.param, request), request.getfixturevalue("model")
    return lambda device="auto", path=path: open_engine(SPEC, backend, device, path)


def inputs(batch: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.random.default_rng(seed).random((2, batch, 3, 4, 4), np.float32)
    return a, b


@pytest.mark.parametrize("batch", [1, 3, 19])
def test_results_are_right_for_every_batch(opened: Open, batch: int) -> None:
    engine, (a, b) = opened(), inputs(batch)
    got = engine(a, b)
    assert len(got) == 2
    for result, wanted in zip(got, difference_and_mean(a, b), strict=True):
        assert result.dtype == np.float32
        assert result.shape == wanted.shape
        assert np.abs(result - wanted).max() < 1e-6


def test_the_batch_may_change_from_call_to_call(opened: Open) -> None:
    engine = opened()
    assert [len(engine(*inputs(n))[0]) for n in (1, 3, 2, 1)] == [1, 3, 2, 1]


def test_a_result_is_not_overwritten_by_the_next_call(opened: Open) -> None:
    engine = opened()
    first = engine(*inputs(2, seed=1))
    kept = [result.copy() for result in first]
    engine(*inputs(2, seed=2))
    assert all(np.array_equal(*pair) for pair in zip(first, kept, strict=True))
    first[0][:] = 0  # and it is the caller's to change


def test_inputs_stay_as_they_are_and_may_be_changed_afterwards(opened: Open) -> None:
    engine, (a, b) = opened(), inputs(2)
    before = a.copy()
    result = engine(a, b)[0]
    assert np.array_equal(a, before)
    kept = result.copy()
    a[:] = 9
    assert np.array_equal(result, kept)


def test_an_input_that_is_not_contiguous_gives_the_right_result(opened: Open) -> None:
    """The protocol asks for contiguous arrays; a slip costs a copy, not a wrong picture."""
    engine, (a, b) = opened(), inputs(2)
    turned = a.transpose(0, 1, 3, 2)
    assert not turned.flags.c_contiguous
    assert np.abs(engine(turned, b)[0] - (turned - b)).max() < 1e-6


def test_an_engine_says_what_it_is_and_runs_on(opened: Open) -> None:
    engine = opened()
    assert engine.spec == SPEC
    assert engine.device


def test_closing_twice_is_fine_and_calling_afterwards_is_not(opened: Open) -> None:
    engine = opened()
    engine.close()
    engine.close()
    with pytest.raises(BackendError, match="tiny was closed"):
        engine(*inputs(1))


@pytest.fixture(params=[*BACKENDS, ON_A_GPU])
def backend(request: pytest.FixtureRequest) -> str:
    return ready(request.param, request)


def test_a_device_that_there_is_not(backend: str, model: Path) -> None:
    with pytest.raises(BackendError, match="no device 'tpu'"):
        open_engine(SPEC, backend, "tpu", model)


@pytest.mark.parametrize("wish", ["int4", "int8"])
def test_a_precision_that_there_is_not(backend: str, model: Path, wish: str) -> None:
    if backend == "openvino" and wish == "int8":
        pytest.skip("it may be there")
    with pytest.raises(BackendError, match=f"{backend}: .*{wish}"):
        open_engine(SPEC, backend, path=model, precision=wish)


def test_fp32_is_there_everywhere(backend: str, model: Path) -> None:
    (a, b), coarse = inputs(2), replace(SPEC, precise=False)
    engine = open_engine(coarse, backend, path=model, precision="fp32")
    assert np.abs(engine(a, b)[0] - (a - b)).max() < 1e-6


@pytest.mark.parametrize("content", [b"", b"this is no network", None], ids=["0", "text", "cut"])
def test_a_broken_file(backend: str, model: Path, tmp_path: Path, content: bytes | None) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(model.read_bytes()[:90] if content is None else content)
    with pytest.raises(BackendError, match=f"(?s)could open broken.onnx.*{backend}: ."):
        open_engine(SPEC, backend, path=broken)


def test_on_failure_every_backend_gives_its_reason(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"this is no network")
    with pytest.raises(BackendError) as caught:
        open_engine(SPEC, path=broken)
    first, *reasons = str(caught.value).splitlines()
    assert "broken.onnx" in first
    assert [line.split(":")[0] for line in reasons] == [*BACKENDS]


def test_auto_takes_the_next_backend_if_one_is_missing(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    hidden = ("tensorrt", "openvino")
    monkeypatch.setattr(
        backends, "find_spec", lambda name: None if name in hidden else find_spec(name)
    )
    assert open_engine(SPEC, path=model).device.startswith("onnxruntime")
    with pytest.raises(BackendError, match="openvino: not installed; pip install 'stream-unmask'"):
        open_engine(SPEC, "openvino", path=model)


def test_a_missing_extra_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    assert backends.installed() == ()
    with pytest.raises(BackendError, match=r"pip install 'stream-unmask\[onnxruntime\]'"):
        open_engine(SPEC, path=model)


def test_a_backend_that_there_is_not() -> None:
    with pytest.raises(
        BackendError, match="no backend 'tensorflow'; choose from tensorrt, openvino"
    ):
        open_engine(SPEC, "tensorflow")


def test_ctrl_c_after_all_engines_are_closed_is_no_crash() -> None:
    """OpenVINO's signal stacks must not outlive their memory; in a process of its own."""
    pytest.importorskip("openvino")
    script = """
import signal
from stream_unmask import Options
from stream_unmask.pipeline import open_parts
for _ in range(2):
    with open_parts(Options(backend="openvino")) as parts:
        pass
    del parts
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "interrupted\n"
