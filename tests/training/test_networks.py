"""The networks are the paper's: sizes, shapes, and what is exported of them."""

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.needs_train
torch = pytest.importorskip("torch")

from stream_unmask.backends import open_engine  # noqa: E402
from stream_unmask.models.enhancer import ENHANCER  # noqa: E402
from stream_unmask.models.profile import PAPER  # noqa: E402
from training.enhancer import Srcnn  # noqa: E402
from training.inpainter import Autoencoder  # noqa: E402
from training.segmenter import Exported, UNet  # noqa: E402

SIZE = (PAPER.height, PAPER.width)


def parameters(network: torch.nn.Module) -> int:
    return sum(values.numel() for values in network.parameters())


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
    [(UNet, 3, 2), (Autoencoder, 3, 3), (Srcnn, 1, 1), (lambda: Exported(UNet()), 3, 1)],
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
        assert torch.allclose(Exported(network)(faces), share, atol=1e-6)


def test_the_enhancer_without_its_border() -> None:
    network = Srcnn().eval()
    luma = torch.rand(1, 1, 40, 50)
    with torch.no_grad():
        whole, inner = network(luma), network.valid(luma)
    assert inner.shape == (1, 1, 28, 38)
    # Four pixels more differ: the middle layer pads with zeros.
    assert torch.allclose(whole[..., 10:-10, 10:-10], inner[..., 4:-4, 4:-4], atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself
def test_an_export_gives_what_torch_gives(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from training.export import export

    torch.manual_seed(0)
    network = Srcnn().eval()
    assert export(network, ENHANCER, tmp_path / "enhancer.onnx") < 2e-3
    engine = open_engine(ENHANCER, "onnxruntime", path=tmp_path / "enhancer.onnx")
    luma = np.random.default_rng(0).random((3, 1, *SIZE), np.float32)
    with torch.no_grad():
        wanted = network(torch.from_numpy(luma)).numpy()
    assert np.abs(engine(luma)[0] - wanted).max() < 2e-3
    assert (tmp_path / "enhancer.onnx").stat().st_size < 2.5 * parameters(network)
