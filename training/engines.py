"""Weights of an engine, back in the network that it was exported from: to run it, to train on."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from training import fit


def run_as(network: nn.Module, path: Path) -> nn.Module:
    """The network with an engine's weights, in which norms are part of convolutions."""
    stored = _stored(path)
    for name, part in list(network.named_modules()):
        if isinstance(part, nn.BatchNorm2d):
            owner, _, own = name.rpartition(".")
            setattr(network.get_submodule(owner), own, nn.Identity())
        elif isinstance(part, nn.Conv2d) and f"{name}.weight_bias" in stored:
            part.bias = nn.Parameter(stored.pop(f"{name}.weight_bias"))
            stored[f"{name}.bias"] = part.bias.data
    network.load_state_dict({key: stored[key] for key in network.state_dict()})
    return network.eval()


def go_on(
    network: nn.Module, exported: nn.Module, start: Path | None, given: Callable[[], Tensor]
) -> None:
    """Puts in the weights to start from, of a run folder or an engine, if there are any.

    exported: the network as the part of what engines are made of that it is. given(): a batch for
    it, as `begin_from` needs.
    """
    if start is None:
        return
    if start.suffix == ".onnx":
        begin_from(exported, start, given())
    else:
        fit.load_best(network, start)


def begin_from(network: nn.Module, path: Path, given: Tensor) -> None:
    """Puts an engine's weights into a network that is to be trained further.

    Its norms are set so that what `given` gives them passes unchanged. Where a layer has more
    inputs or outputs than it had, the new ones count for nothing at first.
    """
    stored = _stored(path)
    handles, before = [], ""
    for name, part in network.named_modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            before = _name_then(name, stored)
            _grow(part.weight, stored[f"{before}.weight"])
            if part.bias is not None:
                _grow(part.bias, stored[f"{before}.bias"])
        elif isinstance(part, nn.BatchNorm2d):  # of the convolution before it
            bias = stored[f"{before}.weight_bias"]
            handles.append(part.register_forward_pre_hook(partial(_pass_on, bias)))
    network.eval()
    with torch.no_grad():
        network(given)
    for handle in handles:
        handle.remove()


def _stored(path: Path) -> dict[str, Tensor]:
    return {
        weight.name.removesuffix(".half"): torch.from_numpy(
            numpy_helper.to_array(weight).copy()
        ).float()
        for weight in onnx.load(path).graph.initializer
    }


def _name_then(name: str, stored: dict[str, Tensor]) -> str:
    """The name that a layer had when the engine was exported, maybe as part of less."""
    while f"{name}.weight" not in stored:
        _, _, name = name.partition(".")
        if not name:
            raise KeyError("the engine is not of this network")
    return name


def _grow(into: nn.Parameter, weights: Tensor) -> None:
    into.data.zero_()
    into.data[tuple(slice(side) for side in weights.shape)] = weights


def _pass_on(bias: Tensor, norm: nn.Module, inputs: tuple[Tensor]) -> None:
    """Sets a norm that is about to see a batch so that this only has a bias added."""
    assert isinstance(norm, nn.BatchNorm2d)
    mean, variance = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3))
    norm.running_mean, norm.running_var = mean, variance
    norm.weight.data = (variance + norm.eps).sqrt()
    norm.bias.data = bias + mean
