"""The half of the fake TensorRT that builds: parser, configuration, builder."""

import json
from collections.abc import Sequence
from enum import Enum
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import onnx

from tests.backends.fake_cuda import Misuse

if TYPE_CHECKING:
    from tests.backends.fake_tensorrt import FakeTensorRt

# Which inputs of an operation must be weights, not results.
ASKED = {"Conv": (1,), "ConvTranspose": (1,), "Resize": (2,), "BatchNormalization": (1, 2, 3, 4)}


class BuilderFlag(Enum):
    TF32 = 8


class OnnxParser:
    """Takes an ONNX file into a network."""

    def __init__(self, network: SimpleNamespace, logger: object) -> None:
        self._network, self._error = network, ""

    def parse(self, model: bytes) -> bool:
        try:
            parsed = onnx.load_from_string(model)
            onnx.checker.check_model(parsed, full_check=True)
        except Exception as error:
            self._error = str(error)
            return False
        made = {name for node in parsed.graph.node for name in node.output}
        for node in parsed.graph.node:
            if any(node.input[at] in made for at in ASKED.get(node.op_type, ())):
                self._error = f"{node.op_type}: weights must be an initializer"
        self._network.model = parsed
        return not self._error

    @property
    def num_errors(self) -> int:
        return int(bool(self._error))

    def get_error(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(desc=lambda: self._error)


class Profile:
    """The shapes that a plan is built for."""

    def __init__(self) -> None:
        self.shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, input: str, min: Sequence[int], opt: Sequence[int], max: Any) -> None:
        if not all(a <= b <= c for a, b, c in zip(min, opt, max, strict=True)):
            raise ValueError("Shape provided for min is inconsistent with other shapes")
        self.shapes[input] = [list(shape) for shape in (min, opt, max)]


class TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content


class BuilderConfig:
    def __init__(self, fake: "FakeTensorRt") -> None:
        self._fake = fake
        self.profiles: list[Profile] = []
        self.flags = {BuilderFlag.TF32}
        self.timing: TimingCache | None = None

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> TimingCache | None:
        return TimingCache(serialized_timing_cache or self._fake.timing_header())

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        if ignore_mismatch:
            raise Misuse("timings of another GPU are taken for its own")
        if not cache.content.startswith(self._fake.timing_header()):
            self._fake.complain("the timing cache is of another GPU")
            return False
        self.timing = cache
        return True

    def get_timing_cache(self) -> TimingCache | None:
        return self.timing


class Builder:
    def __init__(self, fake: "FakeTensorRt") -> None:
        self._fake = fake

    def create_network(self, flags: int = 0) -> SimpleNamespace:
        typed = bool(flags & 1 << self._fake.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        return SimpleNamespace(typed=typed, model=None)

    def create_builder_config(self) -> BuilderConfig:
        return BuilderConfig(self._fake)

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Any, config: BuilderConfig) -> bytes | None:
        self._fake.built.append((network, config))
        if self._fake.refuse:
            self._fake.complain(self._fake.refuse)
            return None
        for tensor in network.model.graph.input:
            for side, *range_ in zip(
                shape_of(tensor), *config.profiles[0].shapes[tensor.name], strict=True
            ):
                if side is not None and set(range_) != {side}:
                    self._fake.complain(f"{tensor.name} has a side of {side}, not {range_}")
                    return None
        if config.timing is not None:
            config.timing.content += b"+"
        header = {"for": self._fake.here(), "shapes": config.profiles[0].shapes}
        return json.dumps(header).encode() + b"\n" + network.model.SerializeToString()


def shape_of(tensor: onnx.ValueInfoProto) -> list[int | None]:
    """The sides of a tensor; None where any will do."""
    return [
        side.dim_value if side.HasField("dim_value") else None
        for side in tensor.type.tensor_type.shape.dim
    ]
