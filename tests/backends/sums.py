"""A network of two inputs and two outputs, for tests of TensorRT."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from stream_unmask.backends import Engine, EngineSpec, TensorSpec

SPEC = EngineSpec(
    "sums",
    (TensorSpec("a", (None, 2, 4, 4)), TensorSpec("b", (None, 2, 4, 4))),
    (TensorSpec("sum", (None, 2, 4, 4)), TensorSpec("mean", (None, 2, 1, 1))),
)
FREE = EngineSpec(
    "sums",
    (TensorSpec("a", (None, 2, None, None)), TensorSpec("b", (None, 2, None, None))),
    (TensorSpec("sum", (None, 2, None, None)), TensorSpec("mean", (None, 2, 1, 1))),
)
ONE = 2 * 4 * 4 * 4  # bytes of an input of SPEC
CLOSE = 2e-3  # half precision, of values to 2


def save(folder: Path) -> Path:
    """An ONNX file of a + b, and of its mean over the picture."""
    sides = ["n", 2, "h", "w"]
    a, b, total = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name in ("a", "b", "sum")
    )
    mean = helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["n", 2, 1, 1])
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("GlobalAveragePool", ["sum"], ["mean"]),
    ]
    graph = helper.make_graph(nodes, "sums", [a, b], [total, mean])
    file = folder / "sums.onnx"
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), file)
    return file


def inputs(batch: int, side: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((2, batch, 2, side, side), np.float32)


def check(engine: Engine, batch: int, side: int = 4, seed: int = 0) -> None:
    """That it gives what it should."""
    a, b = inputs(batch, side, seed)
    total, mean = engine(a, b)
    assert np.abs(total - (a + b)).max() < CLOSE
    assert np.abs(mean - (a + b).mean((2, 3), keepdims=True)).max() < CLOSE
