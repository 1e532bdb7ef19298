"""Plans are built once for a GPU, a version and a file, and none that is another is loaded."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from stream_unmask.backends import EngineSpec, TensorSpec, open_engine
from stream_unmask.errors import BackendError
from tests.backends.fake_builder import BuilderFlag
from tests.backends.fake_cuda import FakeCuda
from tests.backends.fake_tensorrt import FakeTensorRt

SIZES = (None, 2, 4, 4)
SPEC = EngineSpec("twice", (TensorSpec("x", SIZES),), (TensorSpec("y", SIZES),))
FREE = EngineSpec(
    "free", (TensorSpec("x", (None, 2, None, None)),), (TensorSpec("y", (None, 2, None, None)),)
)


def save(path: Path, opset: int = 18) -> Path:
    """A network that doubles what it is given."""
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2, "h", "w"]) for name in "xy"
    )
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "twice", [x], [y])
    opset_id = helper.make_opsetid("", opset)
    onnx.save(helper.make_model(graph, opset_imports=[opset_id], ir_version=9), path)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save(tmp_path / "twice.onnx")


@pytest.fixture
def plans(tmp_path: Path) -> Callable[[], list[Path]]:
    """The plans in the cache, from the oldest."""
    folder = tmp_path / "cache" / "stream-unmask" / "tensorrt"
    return lambda: sorted(folder.glob("*.plan"), key=lambda file: file.stat().st_mtime_ns)


def opened(path: Path, spec: EngineSpec = SPEC) -> None:
    open_engine(spec, "tensorrt", path=path).close()


def test_a_second_opening_builds_nothing(
    tensorrt: FakeTensorRt, path: Path, plans: Callable[[], list[Path]]
) -> None:
    opened(path)
    opened(path)
    assert len(tensorrt.built) == 1
    (plan,) = plans()
    assert plan.name.startswith("twice-")
    assert plan.parent.stat().st_mode & 0o777 == 0o700
    assert not [*plan.parent.glob("*.part")]


def test_a_plan_is_for_one_gpu_version_file_and_precision(
    installed: Callable[..., FakeTensorRt],
    cuda: FakeCuda, path: Path, plans: Callable[[], list[Path]],
) -> None:  # fmt: skip
    def other_version() -> None:
        installed("10.6.0")

    def other_gpu() -> None:
        cuda.gpu = ("Another GPU", 9, 0)

    def other_capability() -> None:
        cuda.gpu = ("Another GPU", 8, 9)

    def other_file() -> None:
        save(path, opset=17)

    installed()
    for number, change in enumerate(
        (lambda: None, other_version, other_gpu, other_capability, other_file), 1
    ):
        change()
        opened(path)
        assert len(plans()) == number
    opened(path, replace(SPEC, precise=True))
    assert len(plans()) == 6
    assert len({file.name for file in plans()}) == 6


def test_what_a_plan_says_of_itself(
    tensorrt: FakeTensorRt, path: Path, plans: Callable[[], list[Path]]
) -> None:
    opened(path)
    header = json.loads(plans()[0].read_bytes().partition(b"\n")[0])
    assert header["key"]["gpu"] == "Imaginary GPU"
    assert header["key"]["capability"] == "9.0"
    assert header["key"]["tensorrt"] == "11.4.0"
    assert header["key"]["precision"] == "fp16"
    assert len(header["key"]["onnx"]) == 64


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gpu", "Some older GPU"),
        ("capability", "7.5"),
        ("tensorrt", "10.0.1"),
        ("onnx", "0" * 64),
        ("precision", "int8"),
        ("shapes", "x of other sizes"),
        ("recipe", 0),
    ],
)
def test_a_plan_for_something_else_is_refused(
    tensorrt: FakeTensorRt,
    path: Path, plans: Callable[[], list[Path]], field: str, value: object,
) -> None:  # fmt: skip
    opened(path)
    (plan,) = plans()
    header, _, content = plan.read_bytes().partition(b"\n")
    facts = json.loads(header)
    facts["key"][field] = value
    plan.write_bytes(json.dumps(facts).encode() + b"\n" + content)
    with pytest.raises(BackendError) as caught:
        opened(path)
    (reason,) = str(caught.value).splitlines()[1:]
    assert f"{plan} was built for" in reason
    assert str(value)[:16] in reason.split("but this is")[0]
    assert reason.endswith("delete it, and it is built anew")
    plan.unlink()
    opened(path)
    assert len(tensorrt.built) == 2


@pytest.mark.parametrize(
    "spoil",
    [lambda b: b[:-1], lambda b: b"", lambda b: b[100:], lambda b: b"[]\n", lambda b: b"{}\n"],
    ids=["cut", "empty", "headless", "list", "bare"],
)
def test_a_damaged_plan_is_refused(
    tensorrt: FakeTensorRt,
    path: Path, plans: Callable[[], list[Path]], spoil: Callable[[bytes], bytes],
) -> None:  # fmt: skip
    opened(path)
    (plan,) = plans()
    plan.write_bytes(spoil(plan.read_bytes()))
    with pytest.raises(BackendError, match=r"\.plan is damaged; delete it, and it is built anew"):
        opened(path)


def test_a_plan_is_there_whole_or_not_at_all(
    tensorrt: FakeTensorRt,
    path: Path, plans: Callable[[], list[Path]], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def full(file: Path, content: bytes) -> int:
        with file.open("wb") as target:
            target.write(content[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        opened(path)  # it runs all the same
    assert "could not be kept (No space left on device)" in caplog.text
    assert plans() == []
    folder = path.parent / "cache" / "stream-unmask" / "tensorrt"
    assert [*folder.iterdir()] == []


def test_without_a_cache_it_is_built_each_time(tensorrt: FakeTensorRt, path: Path) -> None:
    (path.parent / "cache").write_text("no folder")
    opened(path)
    opened(path)
    assert len(tensorrt.built) == 2


def test_the_user_is_told_of_the_wait(
    tensorrt: FakeTensorRt, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened(path)
    opened(path)
    assert caplog.messages == [
        "Building twice for Imaginary GPU with TensorRT, which is done once."
    ]


@pytest.mark.parametrize("version", ["10.6.0", "11.4.0"])
def test_networks_are_strongly_typed(
    installed: Callable[..., FakeTensorRt], path: Path, version: str
) -> None:
    tensorrt = installed(version)
    opened(path)
    opened(path, replace(SPEC, precise=True))
    for (network, config), kind in zip(
        tensorrt.built, (TensorProto.FLOAT16, TensorProto.FLOAT), strict=True
    ):
        assert network.typed
        assert BuilderFlag.TF32 not in config.flags
        inferred = onnx.shape_inference.infer_shapes(network.model).graph
        inside = {value.type.tensor_type.elem_type for value in inferred.value_info}
        assert inside <= {kind}
        assert {value.type.tensor_type.elem_type for value in inferred.output} == {
            TensorProto.FLOAT
        }


def test_the_shapes_that_a_plan_takes(tensorrt: FakeTensorRt, path: Path) -> None:
    opened(path)
    opened(path, FREE)
    (_, fixed), (_, free) = tensorrt.built
    assert fixed.profiles[0].shapes == {"x": [[1, 2, 4, 4], [8, 2, 4, 4], [8, 2, 4, 4]]}
    assert free.profiles[0].shapes == {"x": [[1, 2, 32, 32], [1, 2, 512, 512], [1, 2, 1024, 1024]]}


def test_builds_learn_from_those_before(tensorrt: FakeTensorRt, path: Path) -> None:
    opened(path)
    opened(save(path.parent / "other.onnx"))
    assert [config.timing.content.count(b"+") for _, config in tensorrt.built] == [1, 2]
    (timing,) = (path.parent / "cache" / "stream-unmask" / "tensorrt").glob("timing-*.cache")
    timing.write_bytes(b"damaged")
    opened(save(path.parent / "third.onnx"))
    assert tensorrt.built[-1][1].timing.content.count(b"+") == 1
    assert timing.read_bytes() != b"damaged"


def test_timings_are_of_one_gpu(tensorrt: FakeTensorRt, cuda: FakeCuda, path: Path) -> None:
    opened(path)
    cuda.gpu = ("Another GPU", 8, 9)
    opened(path)
    assert tensorrt.built[-1][1].timing.content.count(b"+") == 1
