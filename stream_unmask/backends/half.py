"""Networks as TensorRT is to see them: weights in place, and half precision inside if wanted.

TensorRT runs a network in the types that its ONNX file says. The shipped files say float32, but
keep their weights in half precision behind a Cast each. So there is little to convert, and it takes
no library that guesses.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from stream_unmask.errors import BackendError

_FLOAT, _HALF = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)
# ReduceMean sums thousands of values, which may pass half precision's 65,504; the others say
# themselves what type they make.
_KEPT = frozenset({"ReduceMean", "Cast", "Constant"})
_KEPT_INPUTS = {"Resize": (1, 2)}  # region and scales: ONNX wants float32


def network(path: Path, half: bool) -> bytes:
    """The network of an ONNX file, serialized: float32 in and out, and inside unless `half`.

    BackendError if the file is none, or if weights are too large for half precision.
    """
    try:
        model = onnx.load(path)
        _put_in_place(model.graph)
        if half:
            inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
            _Halving(model.graph, inferred.graph).run()
        onnx.checker.check_model(model, full_check=True)
    except BackendError:
        raise
    except Exception as error:  # its errors share no base class of their own
        raise BackendError(f"it is no valid ONNX file ({_first_line(error)})") from error
    return bytes(model.SerializeToString())


def _put_in_place(graph: GraphProto) -> None:
    """Stores weights as what a Cast makes of them: TensorRT wants some as weights, not results."""
    weights = {weight.name: weight for weight in graph.initializer}
    casts = [node for node in graph.node if node.op_type == "Cast" and node.input[0] in weights]
    for node in casts:
        kind = helper.tensor_dtype_to_np_dtype(node.attribute[0].i)
        values = numpy_helper.to_array(weights[node.input[0]]).astype(kind)
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)
    _drop_unused(graph)


def _drop_unused(graph: GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [weight for weight in graph.initializer if weight.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


class _Halving:
    """One walk over a graph, after which all but its inputs and outputs is in half precision."""

    def __init__(self, graph: GraphProto, inferred: GraphProto) -> None:
        self._graph = graph
        self._floats = {
            value.name
            for value in (*inferred.value_info, *inferred.output)
            if value.type.tensor_type.elem_type == _FLOAT
        }
        self._weights = {w.name: w for w in graph.initializer if w.data_type == _FLOAT}
        # What a float tensor is called, by its name before and the type in which it is wanted.
        self._names: dict[tuple[str, int], str] = {}
        self._names |= {(value.name, _FLOAT): value.name for value in graph.input}
        self._names |= {(name, _FLOAT): name for name in self._weights}
        self._nodes: list[NodeProto] = []

    def run(self) -> None:
        results = [value.name for value in self._graph.output]
        for node in self._graph.node:
            kind = _FLOAT if node.op_type in _KEPT else _HALF
            node.input[:] = list(self._inputs(node, kind))
            for place, name in enumerate(node.output):
                if name in self._floats:
                    if name in results and kind == _HALF:
                        node.output[place] = f"{name}.half"
                    self._names[name, kind] = node.output[place]
            self._nodes.append(node)
        for name in results:
            if self._names.get((name, _FLOAT)) != name:  # which it is if a kept node made it
                source = self._names[name, _HALF]
                self._nodes.append(helper.make_node("Cast", [source], [name], to=_FLOAT))
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        del self._graph.value_info[:]
        _drop_unused(self._graph)

    def _inputs(self, node: NodeProto, kind: int) -> Iterator[str]:
        """A node's inputs, those that are float by their names in the type that it wants."""
        for place, name in enumerate(node.input):
            kept = place in _KEPT_INPUTS.get(node.op_type, ())
            is_float = any((name, known) in self._names for known in (_FLOAT, _HALF))
            yield self._named(name, _FLOAT if kept else kind) if is_float else name

    def _named(self, name: str, kind: int) -> str:
        """A tensor's name in a type, in which it is brought on the way if it wasn't before."""
        if (name, kind) not in self._names:
            source = self._names[name, _HALF if kind == _FLOAT else _FLOAT]
            made = f"{name}.{'half' if kind == _HALF else 'float'}"
            if name in self._weights:
                self._graph.initializer.append(_halved(self._weights[name], made))
            else:
                self._nodes.append(helper.make_node("Cast", [source], [made], to=kind))
            self._names[name, kind] = made
        return self._names[name, kind]


def _halved(weight: TensorProto, name: str) -> TensorProto:
    values = numpy_helper.to_array(weight)
    if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
        raise BackendError(f"its weights {weight.name} are too large for half precision")
    return numpy_helper.from_array(values.astype(np.float16), name)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
