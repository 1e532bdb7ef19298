"""Weights of an engine, back in networks: of the same kind, and in one with more to look at."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.needs_train
torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from stream_unmask.backends import EngineSpec, TensorSpec, open_engine  # noqa: E402
from training.engines import begin_from, run_as  # noqa: E402
from training.export import export  # noqa: E402
from training.portrait import Painter  # noqa: E402
from training.unet import HalfUNet  # noqa: E402

NARROW = (8, 8, 16)
SIDE = (48, 64)
SPEC = EngineSpec(
    "paints", (TensorSpec("hidden", (None, 5, *SIDE)),), (TensorSpec("faces", (None, 3, *SIDE)),)
)
CLOSE = 1e-3  # in parts of how much an output varies: what rounding to half precision costs


def network() -> HalfUNet:
    """As the engine's, untrained."""
    return HalfUNet(5, 3, NARROW, refined=True)


def batch(seed: int, channels: int = 5) -> torch.Tensor:
    return torch.rand(6, channels, *SIDE, generator=torch.Generator().manual_seed(seed))


def used(module: HalfUNet) -> HalfUNet:
    """As after training: no block is idle, every layer counts in the output, and no norm's
    statistics are 0 and 1 or those of what it gets."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.weight, 0.6, 1.2)
            torch.nn.init.uniform_(part.bias, -0.3, 0.3)
            torch.nn.init.uniform_(part.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(part.running_var, 0.7, 1.5)
        elif isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(part.weight, 0.1)
    module.refine[-1].weight.data *= 0.1  # a picture's values, not ten times as large
    return module.eval()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine of such a network."""
    file = tmp_path_factory.mktemp("engines") / "paints.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter, about itself
        export(used(network()), SPEC, file)
    return file


@pytest.fixture(scope="module")
def given() -> torch.Tensor:
    """What the networks are shown when they begin."""
    return batch(1)


@pytest.fixture(scope="module")
def answers(path: Path, given: torch.Tensor) -> list[torch.Tensor]:
    """The engine's, to that and to another batch."""
    engine = open_engine(SPEC, "onnxruntime", path=path)
    found = [torch.from_numpy(engine(batch.numpy())[0].copy()) for batch in (given, batch(2))]
    engine.close()
    return found


def off(made: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest difference, in standard deviations of what is wanted."""
    assert made.shape == wanted.shape
    return float((made - wanted).abs().max() / wanted.std())


def without_gradient(module: torch.nn.Module, given: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return module(given)


def assert_answers(
    module: torch.nn.Module, given: torch.Tensor, answers: list[torch.Tensor]
) -> None:
    for shown, answer in zip((given, batch(2)), answers, strict=True):
        assert off(without_gradient(module, shown), answer) < CLOSE


def test_a_network_runs_as_its_engine(
    path: Path, given: torch.Tensor, answers: list[torch.Tensor]
) -> None:
    module = run_as(network(), path)
    assert not module.training
    assert_answers(module, given, answers)
    # Each layer counts, or the rest of it would not be compared.
    for name, weights in module.named_parameters():
        kept = weights.data.clone()
        weights.data.mul_(0.5)
        assert off(without_gradient(module, given), answers[0]) > 10 * CLOSE, name
        weights.data.copy_(kept)


def test_a_network_that_begins_from_an_engine_gives_what_it_gives(
    path: Path, given: torch.Tensor, answers: list[torch.Tensor]
) -> None:
    module = network()
    begin_from(module, path, given)
    module.eval()
    assert_answers(module, given, answers)


def test_it_goes_on_from_there_in_training(
    path: Path, given: torch.Tensor, answers: list[torch.Tensor]
) -> None:
    """Where norms see what they see in a batch, and not what they have learned before."""
    module = network()
    begin_from(module, path, given)
    module.train()
    assert off(without_gradient(module, given), answers[0]) < 0.1
    assert off(without_gradient(module, batch(2)), answers[1]) < 0.5
    assert all(weights.requires_grad for weights in module.parameters())
    module(given).sum().backward()
    assert all(weights.grad is not None for weights in module.parameters())


def painters(path: Path, given: torch.Tensor) -> Iterator[tuple[torch.nn.Module, HalfUNet]]:
    """Networks with more inputs and outputs, one as the part of another that it is."""
    torch.manual_seed(3)
    alone, painter = HalfUNet(9, 6, NARROW, refined=True), Painter(NARROW)
    for module, inner in ((alone, alone), (painter, painter.network)):
        begin_from(module, path, torch.cat([given, batch(4, 4)], 1))
        module.eval()
        yield module, inner


def test_what_is_new_counts_for_nothing_at_first(
    path: Path, given: torch.Tensor, answers: list[torch.Tensor]
) -> None:
    for _, inner in painters(path, given):
        for new in (batch(4, 4), torch.zeros(6, 4, *SIDE), 9 * batch(5, 4) - 5):
            made = without_gradient(inner, torch.cat([given, new], 1))
            assert off(made[:, :3], answers[0]) < CLOSE
            assert not made[:, 3:].any()


def test_what_is_new_is_learned(path: Path, given: torch.Tensor) -> None:
    for _, inner in painters(path, given):
        shown = torch.cat([given, batch(4, 4)], 1)
        inner.train()(shown)[:, 3:].sum().backward()
        last = inner.refine[-1].weight.grad
        assert last is not None
        assert last[3:].flatten(1).any(1).all()
        inner.zero_grad()
        inner(shown)[:, :3].square().sum().backward()
        first = inner.stem.conv.weight.grad
        assert first is not None
        assert first[:, 4 * 5 :].any()


def test_a_painter_begins_with_the_guess_on_the_face_and_the_engines_picture_beyond(
    path: Path, given: torch.Tensor, answers: list[torch.Tensor]
) -> None:
    *_, (painter, _) = painters(path, given)
    guess, share = batch(6, 3), batch(7, 1).round()
    made = without_gradient(painter, torch.cat([given, guess, share], 1))
    assert off(made, torch.where(share > 0, guess, answers[0])) < CLOSE
    half = without_gradient(painter, torch.cat([given, guess, 0 * share + 0.5], 1))
    mixed = answers[0] + 0.75 * (guess - answers[0])  # near its edge the guess has more of a say
    assert off(half, mixed) < CLOSE


@pytest.mark.parametrize("names", [["first.weight"], ["stem.conv.weight", "stem.conv.weight_bias"]])
def test_an_engine_of_another_network_is_refused(
    tmp_path: Path, given: torch.Tensor, names: list[str]
) -> None:
    weights = [
        onnx.numpy_helper.from_array(np.ones((8, 20, 3, 3)[: 1 if "bias" in name else 4], "f2"), n)
        for name in names
        for n in [f"{name}.half"]
    ]
    graph = onnx.helper.make_graph([], "other", [], [], weights)
    onnx.save(onnx.helper.make_model(graph), tmp_path / "other.onnx")
    with pytest.raises(KeyError, match="not of this network"):
        begin_from(network(), tmp_path / "other.onnx", given)
    with pytest.raises(KeyError):
        run_as(network(), tmp_path / "other.onnx")
