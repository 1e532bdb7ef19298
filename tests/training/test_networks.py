"""The networks: those of the paper have its sizes; shapes, and what is exported of them."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.needs_train
torch = pytest.importorskip("torch")

from stream_unmask.backends import EngineSpec, TensorSpec, open_engine  # noqa: E402
from stream_unmask.models.profile import PAPER, PORTRAIT, PROFILES, Profile  # noqa: E402
from training.enhancer import Srcnn  # noqa: E402
from training.inpainter import Autoencoder  # noqa: E402
from training.portrait import Painter  # noqa: E402
from training.segmenter import Exported, UNet, build  # noqa: E402
from training.unet import HalfUNet, _Block  # noqa: E402

SIZE = (PAPER.height, PAPER.width)
NARROW = (8, 8, 16, 16, 16)


def parameters(network: torch.nn.Module) -> int:
    return sum(values.numel() for values in network.parameters())


def used(network: torch.nn.Module) -> torch.nn.Module:
    """As after training: no block is idle, and no statistics are 0 and 1."""
    torch.manual_seed(0)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.weight, 0.2, 0.6)
            torch.nn.init.uniform_(part.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(part.running_var, 0.7, 1.5)
    return network.eval()


@pytest.mark.parametrize(
    ("network", "count"), [(UNet, 2_149_922), (Autoencoder, 3_138_563), (Srcnn, 57_281)]
)
def test_parameter_counts(network: type[torch.nn.Module], count: int) -> None:
    assert parameters(network()) == count


def test_the_papers_count_of_the_autoencoder_includes_running_statistics() -> None:
    network = Autoencoder()
    running = sum(v.numel() for name, v in network.named_buffers() if "running" in name)
    assert running == 1_920
    assert parameters(network) + running == 3_140_483


@pytest.mark.parametrize(
    ("network", "inputs", "outputs"),
    [(UNet, 3, 2), (Autoencoder, 3, 3), (Srcnn, 1, 1), (lambda: Exported(UNet(), PAPER), 3, 1)],
    ids=["unet", "autoencoder", "srcnn", "exported"],
)
def test_shapes(network: type[torch.nn.Module], inputs: int, outputs: int) -> None:
    with torch.no_grad():
        result = network().eval()(torch.rand(2, inputs, *SIZE))
    assert result.shape == (2, outputs, *SIZE)
    assert torch.isfinite(result).all()


def test_the_exported_map_is_the_softmax_of_the_logits() -> None:
    network = UNet().eval()
    faces = torch.rand(1, 3, 64, 48)
    with torch.no_grad():
        share = network(faces).softmax(1)[:, 1:]
        assert torch.allclose(Exported(network, PAPER)(faces), share, atol=1e-6)


def test_the_portraits_exported_maps_are_told_apart() -> None:
    """Two maps that don't exclude each other: each the logistic of its own logit."""
    network = HalfUNet(3, 2, NARROW).eval()
    faces = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.allclose(
            Exported(network, PORTRAIT)(faces), network(faces).sigmoid(), atol=1e-6
        )


def test_each_profile_has_its_network(profile: Profile) -> None:
    network = build(profile)
    assert isinstance(network, UNet if profile is PAPER else HalfUNet)
    with torch.no_grad():
        maps = Exported(network, profile).eval()(torch.rand(2, 3, 64, 64))
    assert maps.shape == (2, profile.maps, 64, 64)
    assert 0 < maps.min() <= maps.max() < 1


@pytest.mark.parametrize("refined", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 2), (5, 3)])
@pytest.mark.parametrize("size", [(PORTRAIT.height, PORTRAIT.width), (64, 32)])
def test_a_half_unet_gives_pictures_of_the_size_it_gets(
    refined: bool, inputs: int, outputs: int, size: tuple[int, int]
) -> None:
    network = HalfUNet(inputs, outputs, NARROW, refined).eval()
    with torch.no_grad():
        made = network(torch.rand(2, inputs, *size))
    assert made.shape == (2, outputs, *size)
    assert made.isfinite().all()
    assert (network.refine is not None) == refined


def test_a_half_unet_sees_the_whole_crop() -> None:
    """What one corner shows matters in the other: the middle of a large mask isn't out of reach."""
    network = used(HalfUNet(3, 1, NARROW))
    faces = torch.rand(1, 3, PORTRAIT.height, PORTRAIT.width, requires_grad=True)
    network(faces)[0, 0, 5, 5].backward()
    assert faces.grad is not None
    assert faces.grad[0, :, -40:, -40:].any()


def test_a_block_begins_as_the_identity() -> None:
    block = _Block(8, pooled=True).eval()
    given = torch.rand(2, 8, 12, 10)
    with torch.no_grad():
        assert torch.equal(block(given), given)


def test_the_enhancer_without_its_border() -> None:
    network = Srcnn().eval()
    luma = torch.rand(1, 1, 40, 50)
    with torch.no_grad():
        whole, inner = network(luma), network.valid(luma)
    assert inner.shape == (1, 1, 28, 38)
    # Four pixels more differ: the middle layer pads with zeros.
    assert torch.allclose(whole[..., 10:-10, 10:-10], inner[..., 4:-4, 4:-4], atol=1e-5)


def engines() -> Iterator[tuple[str, str]]:
    for profile in PROFILES.values():
        for network in ("segmenter", "inpainter", "enhancer"):
            if getattr(profile, network) is not None:
                yield profile.name, network


@pytest.mark.parametrize(("profile_name", "network"), [*engines()])
def test_every_engine_can_be_exported_and_keeps_its_contract(
    profile_name: str, network: str
) -> None:
    """On the meta device, where only shapes are worked out."""
    pytest.importorskip("onnxruntime")
    from training.export import SOURCES, networks

    table = networks()
    wanted = getattr(PROFILES[profile_name], network)
    spec, trained, exported = table[wanted.name]
    assert spec == wanted
    assert {*table, "portrait_appearance"} == set(SOURCES)
    kept = {id(value) for value in trained.parameters()}
    assert kept == {id(value) for value in exported.parameters()}  # what was trained is exported
    (given,), (made,) = spec.inputs, spec.outputs
    size = [3 if side is None else side for side in given.shape]
    result = exported.to("meta").eval()(torch.empty(size, device="meta"))
    assert result.shape == (3, *made.shape[1:])


def small(spec: EngineSpec, side: tuple[int, int]) -> EngineSpec:
    """The same contract for a smaller crop."""

    def shrunk(tensors: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(t.name, (*t.shape[:2], *side)) for t in tensors)

    return EngineSpec(spec.name, shrunk(spec.inputs), shrunk(spec.outputs))


assert PAPER.enhancer is not None
EXPORTS = {
    "srcnn": (Srcnn, small(PAPER.enhancer, (40, 50))),
    "finds": (
        lambda: Exported(HalfUNet(3, 2, NARROW), PORTRAIT),
        small(PORTRAIT.segmenter, (64, 96)),
    ),
    "paints": (lambda: Painter(NARROW), small(PORTRAIT.inpainter, (96, 64))),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself
@pytest.mark.parametrize(("network", "spec"), EXPORTS.values(), ids=EXPORTS)
def test_an_export_gives_what_torch_gives_for_every_batch(
    tmp_path: Path, network: Callable[[], torch.nn.Module], spec: EngineSpec
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from training.export import export

    module = used(network())
    path = tmp_path / f"{spec.name}.onnx"
    assert export(module, spec, path) < 2e-3
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    weights = onnx.load(path).graph.initializer
    assert not [w.name for w in weights if w.data_type == onnx.TensorProto.FLOAT and w.dims]
    backends = ["onnxruntime", *(["openvino"] if find_spec("openvino") else [])]
    for backend in backends:
        engine = open_engine(spec, backend, path=path)
        for batch in (1, 3, 2):
            shape = [side or batch for side in spec.inputs[0].shape]
            given = np.random.default_rng(batch).random(shape, np.float32)
            with torch.no_grad():
                wanted = module(torch.from_numpy(given)).numpy()
            (got,) = engine(given)
            assert got.shape == wanted.shape
            assert np.abs(got - wanted).max() < 4e-3, backend
        engine.close()


@pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself
def test_an_export_says_nothing_of_the_machine_it_was_made_on(tmp_path: Path) -> None:
    """No stack traces with the paths of whoever trained it."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from training.export import export

    network, spec = EXPORTS["srcnn"]
    export(network(), spec, tmp_path / "engine.onnx")
    written = (tmp_path / "engine.onnx").read_bytes()
    assert b"stack_trace" not in written
    assert str(Path(torch.__file__).parents[1]).encode() not in written
