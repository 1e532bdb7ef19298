"""What half precision inside a network costs, told on a CPU."""

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, TensorProto, helper, numpy_helper


def rounded(model: ModelProto) -> ModelProto:
    """A network that computes in float32 and rounds each result as half precision does.

    So do a GPU's tensor cores. ONNX Runtime has few half-precision operations on a CPU, and leaves
    out the rounding between those that it does in float32: its results would look too good. What is
    rounded here by a pair of Casts of our own stays.
    """
    kinds = _kinds(model)
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    del graph.node[:]
    for weight in graph.initializer:
        if weight.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(weight).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    for node in model.graph.node:
        halves = [name for name in node.output if kinds.get(name) == TensorProto.FLOAT16]
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        if node.op_type == "Cast" and halves:  # to half, which is float32 here
            copied.attribute[0].i = TensorProto.FLOAT
        copied.output[:] = [f"{name}.exact" if name in halves else name for name in node.output]
        graph.node.append(copied)
        for name in halves:
            exact, half = f"{name}.exact", f"{name}.rounded"
            graph.node.append(helper.make_node("Cast", [exact], [half], to=TensorProto.FLOAT16))
            graph.node.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.checker.check_model(made, full_check=True)
    return made


def session(model: ModelProto) -> onnxruntime.InferenceSession:
    """The network, ready, on one thread; nothing is fused or left out."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _kinds(model: ModelProto) -> dict[str, int]:
    """The element type of every result."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    return {
        value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)
    }
