"""The seam between a network and whatever runs it: one verb, float32 arrays in and out."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name and shape of an input or output; None in the shape is the batch or another free size."""

    name: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What a network promises to export, engine builder and runtime alike.

    name: `engines/NAME.onnx`. precise: the outputs are coordinates or the like, which half
    precision would spoil, so backends must run it in float32.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precise: bool = False


class Engine(Protocol):
    """A network that is ready to run.

    Calling it takes one C-contiguous float32 array per input of its spec, in that order, and
    returns one float32 array per output. The result belongs to the caller: a later call must not
    change it. An engine is used by one thread at a time. `device` says what it really runs on,
    `batch` how many inputs it likes to be given at once.
    """

    spec: EngineSpec
    device: str
    batch: int

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]: ...

    def close(self) -> None:
        """Frees the engine; calling it afterwards is an error, closing twice is not."""


def in_batches(engine: Engine, *inputs: Tensor) -> tuple[Tensor, ...]:
    """The engine's outputs (n, ...) for inputs (n, ...), run at most `engine.batch` at a time.

    A runtime keeps memory for every batch size that it has ever seen, and the more the larger:
    with any number of faces in a call it would grow for as long as new numbers come up.
    """
    size = engine.batch
    parts = [
        engine(*(np.ascontiguousarray(part[first : first + size]) for part in inputs))
        for first in range(0, len(inputs[0]), size)
    ]
    return tuple(np.concatenate(outputs) for outputs in zip(*parts, strict=True))
