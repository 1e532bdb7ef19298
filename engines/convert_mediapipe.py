"""Takes MediaPipe's face networks out of its wheel and writes them as ONNX.

    python -m venv /tmp/convert
    /tmp/convert/bin/pip install tensorflow-cpu==2.21.0 tf2onnx==1.17.0 onnx==1.23.2 \
        onnxruntime==1.32.0
    pip download --no-deps mediapipe==0.10.21
    /tmp/convert/bin/python engines/convert_mediapipe.py mediapipe-0.10.21-*.whl

The files come out with float32 NCHW inputs, any batch size, and weights in half precision, which
is how the wheel stores them, so nothing is rounded. Each is compared with TensorFlow Lite's own
interpreter before it is written.
"""

import argparse
import sys
import zipfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx
from onnx import helper, numpy_helper


@dataclass(frozen=True)
class Network:
    """Where a network lies in the wheel and what its outputs are called and shaped here."""

    member: str
    name: str
    size: int
    low: float  # the least value of a pixel at the input; the greatest is always 1
    outputs: dict[str, tuple[int, ...]]
    convolutional: bool = False  # takes any multiple of 32 as height and width


NETWORKS = (
    Network(
        "mediapipe/modules/face_detection/face_detection_short_range.tflite",
        "face_detection_short_range",
        128,
        -1.0,
        {"boxes": (-1, 16), "logits": (-1, 1)},
        convolutional=True,
    ),
    Network(
        "mediapipe/modules/face_landmark/face_landmark.tflite",
        "face_landmark",
        192,
        0.0,
        {"points": (468, 3), "logits": (1,)},
    ),
)


def convert(tflite: bytes, network: Network) -> onnx.ModelProto:
    """The network as ONNX: input `image` (N, 3, size, size), outputs as `network` names them."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(tflite)
        source = tf.lite.Interpreter(str(path)).get_input_details()[0]["name"]
        model, _ = tf2onnx.convert.from_tflite(str(path), opset=17, inputs_as_nchw=[source])
    free_the_batch(model)
    reshape_outputs(model, network.outputs)
    rename_input(model, network)
    halve_constants(model)
    settle_order(model)
    model.graph.name = network.name
    model.producer_name, model.doc_string = "stream-unmask engines/convert_mediapipe.py", ""
    onnx.checker.check_model(model, full_check=True)
    return model


def free_the_batch(model: onnx.ModelProto) -> None:
    """Makes every constant shape say "as many as come in" where it said one."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Reshape":
            shape = numpy_helper.to_array(constants[node.input[1]]).copy()
            shape[0] = 0  # copied from the input
            if len(shape) == 3:
                shape[1] = -1  # anchors: as many as the picture's size makes
            _replace(model, node, 1, shape)
    del model.graph.value_info[:]


def _replace(model: onnx.ModelProto, node: onnx.NodeProto, index: int, value: np.ndarray) -> None:
    """Gives one node a constant of its own at an input."""
    name = f"{node.name}/{index}"
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    node.input[index] = name


def reshape_outputs(model: onnx.ModelProto, outputs: dict[str, tuple[int, ...]]) -> None:
    """Appends a reshape to every output, which also gives it its name here."""
    sources = [output.name for output in model.graph.output]
    del model.graph.output[:]
    for source, (name, shape) in zip(sources, outputs.items(), strict=True):
        node = helper.make_node("Reshape", [source, ""], [name], name=f"reshape_{name}")
        _replace(model, node, 1, np.array([0, *shape], np.int64))
        model.graph.node.append(node)
        model.graph.output.append(
            helper.make_tensor_value_info(
                name, onnx.TensorProto.FLOAT, ["batch", *("anchors" if n < 0 else n for n in shape)]
            )
        )


def rename_input(model: onnx.ModelProto, network: Network) -> None:
    """Calls the input `image` and frees its axes."""
    old = model.graph.input[0].name
    del model.graph.input[:]
    sides = ["height", "width"] if network.convolutional else [network.size] * 2
    shape = ["batch", 3, *sides]
    model.graph.input.append(helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape))
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = "image"


def halve_constants(model: onnx.ModelProto) -> None:
    """Stores in float16, with a cast behind it, every weight that this does not change."""
    casts = []
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        half = value.astype(np.float16)
        small = value.size < 16 or value.dtype != np.float32
        if small or not np.array_equal(half.astype(np.float32), value):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        casts.append(
            helper.make_node(
                "Cast", [f"{name}_half"], [name], name=f"{name}_cast", to=onnx.TensorProto.FLOAT
            )
        )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def settle_order(model: onnx.ModelProto) -> None:
    """Orders and names nodes and constants by use, so that every run writes the same file.

    tf2onnx numbers them in the order of its sets, and leaves constants that no node takes.
    """
    maker = {node.output[0]: node for node in model.graph.node}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    names = {"": "", "image": "image"} | {out.name: out.name for out in model.graph.output}
    used: list[onnx.TensorProto] = []

    def visit(name: str) -> None:
        if name in constants and name not in names:
            names[name] = f"constant_{len(used)}"
            used.append(constants[name])
        node = maker.pop(name, None)
        if node is not None:
            for source in node.input:
                visit(source)
            names.setdefault(name, f"value_{len(nodes)}")
            nodes.append(node)

    sys.setrecursionlimit(10_000)
    for output in model.graph.output:
        visit(output.name)
    for number, node in enumerate(nodes):
        node.name = f"{node.op_type}_{number}"
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
        node.attribute.sort(key=lambda attribute: attribute.name)
    for tensor in used:
        tensor.name = names[tensor.name]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(used)


def greatest_difference(tflite: bytes, model: onnx.ModelProto, network: Network) -> float:
    """How far the ONNX network, run on a batch of three, is off TensorFlow Lite, at most.

    In units of the output's own spread (its standard deviation), over noise, a ramp and grey.
    """
    reference = tf.lite.Interpreter(model_content=tflite)
    reference.allocate_tensors()
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    side = network.size
    noise = np.random.default_rng(0).random((side, side, 3))
    ramp = np.broadcast_to(np.linspace(0, 1, side)[:, None, None], noise.shape)
    batch = np.stack([noise, ramp, np.full_like(noise, 0.5)])
    batch = (network.low + (1 - network.low) * batch).astype(np.float32)
    ours = session.run(None, {"image": np.ascontiguousarray(batch.transpose(0, 3, 1, 2))})
    worst = 0.0
    for index, picture in enumerate(batch):
        reference.set_tensor(reference.get_input_details()[0]["index"], picture[None])
        reference.invoke()
        for details, output in zip(reference.get_output_details(), ours, strict=True):
            theirs = reference.get_tensor(details["index"]).reshape(output[index].shape)
            scale = max(float(theirs.std()), 1.0)
            worst = max(worst, float(np.abs(theirs - output[index]).max()) / scale)
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path, help="mediapipe-0.10.21-...whl")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    print(f"{options.wheel.name}: SHA-256 {sha256(options.wheel.read_bytes()).hexdigest()}")
    for network in NETWORKS:
        tflite = zipfile.ZipFile(options.wheel).read(network.member)
        model = convert(tflite, network)
        difference = greatest_difference(tflite, model, network)
        if difference > 1e-3:
            print(f"{network.name}: off TensorFlow Lite by {difference:.2g}", file=sys.stderr)
            return 1
        data = model.SerializeToString()
        (options.output / f"{network.name}.onnx").write_bytes(data)
        print(f"{network.member}: SHA-256 {sha256(tflite).hexdigest()}")
        print(f"{network.name}.onnx: {len(data):,} bytes, SHA-256 {sha256(data).hexdigest()}")
        print(f"  differs from TensorFlow Lite by at most {difference:.2g}")
    print("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
