"""The TensorRT backend up to the call into the library, on fakes that keep its and CUDA's rules.

What only a GPU can tell stands at the end, and needs one.
"""

import subprocess
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

from engines import build_tensorrt
from engines.build_tensorrt import specs
from stream_unmask import backends
from stream_unmask.backends import Engine, EngineSpec, open_engine
from stream_unmask.cli.info import info
from tests.backends.fake_cuda import E, FakeCuda
from tests.backends.fake_tensorrt import BETWEEN, FakeTensorRt
from tests.backends.sums import FREE, ONE, SPEC, check

Start = Callable[..., Engine]


def test_it_says_what_it_runs_on(start: Start) -> None:
    engine = start()
    assert engine.device == "tensorrt Imaginary GPU fp16"
    assert engine.batch == 8
    assert start(FREE).batch == 1


def test_it_computes_in_fp32_if_told(tensorrt: FakeTensorRt, path: Path) -> None:
    engine = open_engine(SPEC, "tensorrt", path=path, precision="fp32")
    assert engine.device == "tensorrt Imaginary GPU fp32"


def test_each_batch_size_has_one_graph(
    start: Start, cuda: FakeCuda, tensorrt: FakeTensorRt
) -> None:
    engine = start()
    check(engine, 8)  # the largest first: nothing has to grow afterwards
    for seed, batch in enumerate((1, 3, 8, 1, 3, 3)):
        check(engine, batch, seed=seed)
    assert len(cuda.executables) == 3
    assert tensorrt.executed == ["given", "captured"] * 3
    assert cuda.calls.count("cudaGraphInstantiate") == 3
    assert cuda.calls.count("cudaGraphLaunch") == 7
    assert not cuda.graphs  # each is let go of once it can be started


def test_a_graph_is_all_that_a_later_call_needs(start: Start, cuda: FakeCuda) -> None:
    engine = start()
    check(engine, 2)
    cuda.calls.clear()
    check(engine, 2, seed=1)
    assert cuda.calls == ["cudaGraphLaunch", "cudaStreamSynchronize"]


def test_memory_is_allocated_once(start: Start, cuda: FakeCuda) -> None:
    engine = start()
    for batch in (8, 1, 5, 8):
        check(engine, batch)
    assert sorted(block.size for block in cuda.on_device.values()) == sorted(
        [BETWEEN, 8 * ONE, 8 * ONE, 8 * ONE, 8 * 8]
    )
    assert cuda.calls.count("cudaMalloc") == 5
    assert cuda.calls.count("cudaMallocHost") == 4
    assert "cudaFree" not in cuda.calls


def test_memory_grows_when_it_must(start: Start, cuda: FakeCuda) -> None:
    """And graphs, which know the addresses of before, go with it."""
    engine = start()
    for seed, batch in enumerate((1, 2, 1, 8, 2, 1)):
        check(engine, batch, seed=seed)
    assert cuda.calls.count("cudaMalloc") == 1 + 3 * 4
    assert cuda.calls.count("cudaFree") == cuda.calls.count("cudaFreeHost") == 2 * 4
    assert len(cuda.executables) == 3


def test_more_than_a_plan_takes_is_run_in_parts(start: Start, cuda: FakeCuda) -> None:
    engine = start()
    check(engine, 21)
    assert len(cuda.executables) == 2  # for 8 and for the 5 that are left


def test_pictures_of_any_size_come_one_by_one(start: Start, cuda: FakeCuda) -> None:
    engine = start(FREE)
    check(engine, 4, side=64)
    check(engine, 1, side=96)
    check(engine, 1, side=64)
    assert cuda.calls.count("cudaGraphLaunch") == 6


def test_few_shapes_are_kept(start: Start, cuda: FakeCuda) -> None:
    engine = start(FREE)
    check(engine, 1, side=512)
    for side in range(32, 32 * 12, 32):
        check(engine, 1, side=side)
    assert len(cuda.executables) == 8
    cuda.calls.clear()
    for side in (32 * 11, 32 * 9):  # two of those used last
        check(engine, 1, side=side)
    assert "cudaStreamBeginCapture" not in cuda.calls
    check(engine, 1, side=512)  # the one that was not used longest
    assert "cudaStreamBeginCapture" in cuda.calls


def test_contexts_go_with_their_graphs(start: Start, tensorrt: FakeTensorRt) -> None:
    engine = start(FREE)
    for side in range(32, 32 * 12, 32):
        check(engine, 1, side=side)
    assert sum(context() is not None for context in tensorrt.contexts) <= 8
    engine.close()
    assert not any(context() for context in tensorrt.contexts)


def test_a_network_that_can_not_be_captured_runs_all_the_same(
    start: Start, cuda: FakeCuda, tensorrt: FakeTensorRt
) -> None:
    tensorrt.no_capture = True
    engine = start()
    for seed in range(3):
        check(engine, 2, seed=seed)
    assert not cuda.executables
    assert "cudaGetLastError" in cuda.calls  # or TensorRT would find an error that is none of its
    engine.close()
    assert cuda.held() == {}


@pytest.mark.parametrize("used", [False, True])
def test_closing_frees_everything(start: Start, cuda: FakeCuda, used: bool) -> None:
    engine = start()
    for batch in (1, 8, 3) if used else ():
        check(engine, batch)
    assert cuda.held()["on_device"] == (5 if used else 1)
    engine.close()
    engine.close()
    assert cuda.held() == {}
    assert cuda.free == 1 << 32


def test_engines_share_nothing(start: Start, cuda: FakeCuda) -> None:
    first, second = start(), start()
    check(first, 2)
    check(second, 3)
    first.close()
    check(second, 3, seed=1)
    assert len(cuda.streams) == 1
    second.close()
    assert cuda.held() == {}


def test_the_script_builds_what_is_shipped(
    tensorrt: FakeTensorRt,
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert {spec.name for spec in specs()} == {
        name for name, facts in backends.artefacts.manifest().items() if ".onnx" in facts["file"]
    }
    monkeypatch.setattr(build_tensorrt, "specs", lambda: [SPEC])
    monkeypatch.setattr(backends, "engine_path", lambda name: path)
    monkeypatch.setattr(sys, "argv", ["build_tensorrt"])
    build_tensorrt.main()
    assert capsys.readouterr().out.startswith("sums: tensorrt Imaginary GPU fp16, ")
    assert len(tensorrt.built) == 1
    tensorrt.cuda.error = E.cudaErrorNoDevice
    with pytest.raises(SystemExit, match="there is no NVIDIA GPU"):
        build_tensorrt.main()


def test_info_names_the_gpu(
    tensorrt: FakeTensorRt, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "200")
    info()
    assert "Imaginary GPU" in capsys.readouterr().out
    cuda.error = E.cudaErrorNoDevice
    info()
    assert "none: there is no NVIDIA GPU that can be used" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name in vars(FakeCuda) if name.startswith("cuda")])
def test_the_fake_is_as_cuda_is(name: str) -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    mine, real = getattr(FakeCuda, name), getattr(runtime, name)
    if isinstance(mine, type):
        assert all(int(getattr(real, member.name)) == member for member in mine)
    elif callable(mine):
        arguments = real.__doc__.partition("(")[2].partition(")")[0].split(",")
        assert len([*filter(None, arguments)]) == len(signature(mine).parameters) - 1
    else:
        assert mine == real


def test_the_real_cuda_tells_that_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, for CUDA looks once which GPUs it may see."""
    pytest.importorskip("cuda.bindings.runtime")
    script = "from stream_unmask.backends.cuda import gpu; gpu()"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert "BackendError: there is no NVIDIA GPU that can be used (CUDA: " in last


@pytest.mark.needs_cuda
@pytest.mark.slow
@pytest.mark.parametrize("spec", specs(), ids=lambda spec: spec.name)
def test_on_a_gpu_results_are_those_of_float32(spec: EngineSpec) -> None:
    """At least 45 dB of PSNR, and within 2/255; coordinates within a 20th of a pixel."""
    shape = [256 if side is None else side for side in spec.inputs[0].shape[1:]]
    batch = np.random.default_rng(0).random((11, *shape), np.float32)
    mine, its = open_engine(spec, "tensorrt"), open_engine(spec, "onnxruntime", "cpu")
    for made, wanted in zip(mine(batch), its(batch), strict=True):
        worst = float(np.abs(made - wanted).max())
        if spec.precise:
            assert worst < 0.05
            continue
        decibels = float(-10 * np.log10(np.square(made - wanted).mean()))
        print(f"{spec.name}: {decibels:.1f} dB, {worst:.1e} at most")
        assert decibels >= 45
        assert worst <= 2 / 255
    mine.close()
    its.close()
