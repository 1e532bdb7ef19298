"""Networks as OpenVINO is to see them for int8: it is told of which tensors 256 levels will do.

OpenVINO computes a convolution in int8 where its inputs and its weights come out of a FakeQuantize,
which says what range they are rounded in. That of weights follows from themselves. What else flows
through a network only running it can tell: `training/quantise.py` does, and leaves the ranges in a
file of a few kB. So each engine's weights are shipped once, for every precision.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_unmask.backends.artefacts import engine_path, manifest, sha256
from stream_unmask.backends.openvino_quiet import ov

Levels = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ranges:
    """What is rounded in an engine, by the names of its file. path: where that was read.

    tensors: each with its lowest and its highest level. weights: of convolutions.
    """

    path: Path
    tensors: dict[str, tuple[float, float]]
    weights: tuple[str, ...]


def shipped_ranges(name: str, path: Path) -> Ranges | None:
    """An engine's; None if none are shipped, or if they belong to another file than `path`.

    BackendError if their file is missing or is not the one that was shipped.
    """
    if f"{name}_int8" not in manifest():
        return None
    file = engine_path(f"{name}_int8")
    facts = json.loads(file.read_text(encoding="utf-8"))
    if facts["onnx"] != sha256(path):
        return None
    tensors = {tensor: (low, high) for tensor, (low, high) in facts["tensors"].items()}
    return Ranges(file, tensors, tuple(facts["weights"]))


def rounded(model: ov.Model, ranges: Ranges) -> ov.Model:
    """The same model, in which tensors and weights are rounded to what int8 can hold."""
    outputs = {
        name: output
        for node in model.get_ordered_ops()
        for output in node.outputs()
        for name in output.get_names()
    }
    for name, (low, high) in ranges.tensors.items():
        _round(outputs[name], low, high, 256)
    for name in ranges.weights:
        # By output channel, of which some are a hundred times smaller than others.
        most = np.abs(_constant(outputs[name])).max((1, 2, 3), keepdims=True).clip(1e-6)
        _round(outputs[name], -most, most, 255)
    return model


def _round(output: ov.Output, low: Levels | float, high: Levels | float, levels: int) -> None:
    """Puts a rounding between an output and all that use it."""
    users = output.get_target_inputs()
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    fake = ov.opset13.fake_quantize(output, low, high, low, high, levels)
    for user in users:
        user.replace_source_output(fake.output(0))


def _constant(output: ov.Output) -> Levels:
    """Weights (outputs, inputs, h, w), which the file holds in half precision behind a Cast."""
    node = output.get_node()
    while node.get_input_size():
        node = node.input_value(0).get_node()
    return np.asarray(node.data, np.float32)


def sums_exactly(core: ov.Core) -> bool:
    """Whether this CPU sums products of int8 up in 32 bits, as those with VNNI do.

    Others add each two up in 16, which overflow: the result is another, and not even much faster.
    OpenVINO says INT8 of all CPUs alike, so it is tried out: sixteen of the largest products.
    """
    given = ov.opset13.parameter([1, 16, 1, 1], np.float32)
    weights = ov.opset13.constant(np.full((1, 16, 1, 1), 127, np.float32))
    total = ov.opset13.convolution(given, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    _round(given.output(0), 0, 255, 256)
    _round(weights.output(0), -127, 127, 255)
    model = ov.Model([total], [given], "sum")
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (found,) = compiled([np.full((1, 16, 1, 1), 255, np.float32)]).values()
    return abs(float(found.item()) / (16 * 255 * 127) - 1) < 0.01
