"""What TensorRT is given: the shipped networks, in half precision where their results bear it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.build_tensorrt import specs
from stream_unmask.backends import EngineSpec
from stream_unmask.backends.artefacts import engine_path, manifest
from stream_unmask.backends.half import network
from stream_unmask.errors import BackendError
from tests.backends.rounding import rounded, session

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
SPECS = {spec.name: spec for spec in specs()}
ROUNDED = [spec for spec in specs() if not spec.precise]


def given(spec: EngineSpec, picture: np.ndarray | None = None) -> np.ndarray:
    """Two inputs for an engine: noise, or a picture in all its channels and its mirror image."""
    shape = [256 if side is None else side for side in spec.inputs[0].shape[1:]]
    if picture is None:
        return np.random.default_rng(0).random((2, *shape), np.float32)
    rows = np.linspace(0, picture.shape[0] - 1, shape[1]).astype(int)
    columns = np.linspace(0, picture.shape[1] - 1, shape[2]).astype(int)
    channels = np.arange(shape[0]) % 3
    one = picture[rows][:, columns].transpose(2, 0, 1)[channels] / 255
    return np.stack([one, one[..., ::-1]]).astype(np.float32)


def results(model: onnx.ModelProto, inputs: np.ndarray) -> list[np.ndarray]:
    running = session(model)
    return list(running.run(None, {running.get_inputs()[0].name: inputs}))


def prepared(name: str, half: bool) -> onnx.ModelProto:
    return onnx.load_from_string(network(engine_path(name), half))


def decibels(made: np.ndarray, wanted: np.ndarray) -> float:
    """PSNR of values from 0 to 1."""
    return float(-10 * np.log10(np.square(made - wanted).mean()))


def test_every_shipped_network_is_meant() -> None:
    assert {*SPECS} == {name for name, facts in manifest().items() if ".onnx" in facts["file"]}


@pytest.mark.parametrize("name", SPECS)
def test_weights_in_place_change_nothing(name: str, masked_picture: np.ndarray) -> None:
    model = prepared(name, half=False)
    assert not any(node.op_type == "Cast" for node in model.graph.node)
    inputs = given(SPECS[name], masked_picture)
    for made, wanted in zip(
        results(model, inputs), results(onnx.load(engine_path(name)), inputs), strict=True
    ):
        assert np.abs(made - wanted).max() < 2e-6 * max(np.abs(wanted).max(), 1)


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("spec", ROUNDED, ids=lambda spec: spec.name)
def test_half_precision_costs_little(
    spec: EngineSpec, noise: bool, masked_picture: np.ndarray
) -> None:
    """At 65 dB it is a seventh of the step between two values of a picture; 45 dB are asked for."""
    inputs = given(spec, None if noise else masked_picture)
    (made,) = results(rounded(prepared(spec.name, half=True)), inputs)
    (wanted,) = results(onnx.load(engine_path(spec.name)), inputs)
    assert decibels(made, wanted) > 65
    assert np.abs(made - wanted).max() < 1 / 100
    assert np.abs(made - wanted).max() > 1e-5  # it was rounded


@pytest.mark.parametrize("spec", ROUNDED, ids=lambda spec: spec.name)
def test_half_precision_is_inside_alone(spec: EngineSpec) -> None:
    model = prepared(spec.name, half=True)
    kinds = {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)}
    assert kinds == {FLOAT}
    weights = {weight.name: weight.data_type for weight in model.graph.initializer}
    convolutions = [node for node in model.graph.node if "Conv" in node.op_type]
    assert convolutions
    assert {weights[name] for node in convolutions for name in node.input[1:]} == {HALF}
    made = {v.name: v.type.tensor_type.elem_type for v in inferred(model)}
    for node in model.graph.node:
        kept = node.op_type in ("ReduceMean", "Cast")
        assert kept or {made.get(name, HALF) for name in node.output} <= {HALF}, node.name


def inferred(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return list(onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.value_info)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a network of nodes (x: (n, 2, 4, 4) -> y) and weights."""

    def save(nodes: list[onnx.NodeProto], **weights: np.ndarray) -> Path:
        x, y = (
            helper.make_tensor_value_info(name, FLOAT, ["n", "c", "h", "w"]) for name in ("x", "y")
        )
        x = helper.make_tensor_value_info("x", FLOAT, ["n", 2, 4, 4])
        stored = [numpy_helper.from_array(values, name) for name, values in weights.items()]
        graph = helper.make_graph(nodes, "net", [x], [y], stored)
        opset = helper.make_opsetid("", 18)
        onnx.save(
            helper.make_model(graph, opset_imports=[opset], ir_version=9), tmp_path / "net.onnx"
        )
        return tmp_path / "net.onnx"

    return save


SCALE = np.array([2], np.float32)
INPUTS = np.random.default_rng(1).random((3, 2, 4, 4), np.float32)


def test_sums_stay_in_float32(saved: Callable[..., Path]) -> None:
    """A kept step makes the result, another uses it in half precision: both get what they want."""
    path = saved(
        [
            helper.make_node("Mul", ["x", "scale"], ["double"]),
            helper.make_node("ReduceMean", ["double", "axes"], ["mean"]),
            helper.make_node("Mul", ["mean", "scale"], ["back"]),
            helper.make_node("ReduceMean", ["back", "axes"], ["y"]),
        ],
        scale=SCALE, axes=np.array([1]),
    )  # fmt: skip
    model = onnx.load_from_string(network(path, half=True))
    made = {value.name: value.type.tensor_type.elem_type for value in inferred(model)}
    assert (made["double"], made["mean"], made["back"]) == (HALF, FLOAT, HALF)
    (y,) = results(rounded(model), INPUTS)
    assert np.abs(y - 4 * INPUTS.mean(1, keepdims=True)).max() < 5e-3


def test_a_weight_may_be_wanted_in_both_types(saved: Callable[..., Path]) -> None:
    scales = np.array([1, 1, 2, 2], np.float32)
    path = saved(
        [
            helper.make_node("Resize", ["x", "", "scales"], ["large"], mode="nearest"),
            helper.make_node("Mul", ["large", "scales"], ["y"]),
        ],
        scales=np.tile(scales, 1),
    )
    model = onnx.load(path)
    model.graph.node[1].input[1] = "row"
    model.graph.node.insert(1, helper.make_node("Concat", ["scales", "scales"], ["row"], axis=0))
    onnx.save(model, path)
    (y,) = results(rounded(onnx.load_from_string(network(path, half=True))), INPUTS)
    wanted = INPUTS.repeat(2, 2).repeat(2, 3) * np.tile(scales, 2)
    assert np.abs(y - wanted).max() < 5e-3


def test_a_result_may_be_used_further(saved: Callable[..., Path]) -> None:
    path = saved(
        [
            helper.make_node("Mul", ["x", "scale"], ["y"]),
            helper.make_node("Mul", ["y", "scale"], ["z"]),
        ],
        scale=SCALE,
    )
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info("z", FLOAT, ["n", 2, 4, 4]))
    onnx.save(model, path)
    y, z = results(rounded(onnx.load_from_string(network(path, half=True))), INPUTS)
    assert np.abs(y - 2 * INPUTS).max() < 5e-3
    assert np.abs(z - 4 * INPUTS).max() < 5e-3


def test_weights_that_half_precision_cannot_hold_are_refused(saved: Callable[..., Path]) -> None:
    path = saved([helper.make_node("Mul", ["x", "huge"], ["y"])], huge=np.array([7e4], np.float32))
    with pytest.raises(BackendError, match="its weights huge are too large for half precision"):
        network(path, half=True)
    assert network(path, half=False)


@pytest.mark.parametrize("content", [b"", b"this is no network"])
def test_what_is_no_network_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "none.onnx").write_bytes(content)
    with pytest.raises(BackendError, match="it is no valid ONNX file"):
        network(tmp_path / "none.onnx", half=True)
