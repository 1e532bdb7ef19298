"""The paper's SRCNN and its recipe: sharpens the luminance of what the autoencoder paints.

python -m training.enhancer --inpainter runs/inpainter --minutes 8
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from stream_unmask.models.profile import PAPER
from training import fit, inpainter, synthesis
from training.dataset import Samples, load_faces
from training.fit import Config, Score, autocast
from training.masks import Array

PATCH, LABEL = 33, 21
BORDER = (PATCH - LABEL) // 2
LUMA = (0.299, 0.587, 0.114)  # Y of YCrCb


class Srcnn(nn.Module):
    """Sharper luminance (n, 1, h, w) from luminance (n, 1, h, w), 0..1.

    Paper, section "Enhancement": 57,281 parameters; `valid` convolutions on a reflected border, so
    that the size stays.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 64, 9), nn.ReLU(inplace=True),
            nn.Conv2d(64, 32, 5, padding=2), nn.ReLU(inplace=True),
            nn.Conv2d(32, 1, 5), nn.ReLU(inplace=True),
        )  # fmt: skip

    def forward(self, luma: Tensor) -> Tensor:
        return self.valid(functional.pad(luma, (BORDER,) * 4, mode="reflect"))

    def valid(self, luma: Tensor) -> Tensor:
        """The luminance without a border of 6 px: (n, 1, h - 12, w - 12)."""
        sharper: Tensor = self.layers(luma)
        return sharper


def luma(pictures: Tensor) -> Tensor:
    """Y (n, 1, h, w) of RGB (n, 3, h, w)."""
    weights = torch.tensor(LUMA, dtype=pictures.dtype).view(1, 3, 1, 1)
    return (pictures * weights).sum(1, keepdim=True)


def loss(network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Squared error of 21 x 21 labels from 33 x 33 patches."""
    patches, labels = batch
    with autocast():
        sharper = network.valid(patches)  # type: ignore[operator]
    return functional.mse_loss(sharper.float(), labels)


@dataclass(frozen=True)
class Draw:
    """draw(index) -> (patch of painted luminance, label of the true one), (1, side, side)."""

    painted: NDArray[np.float32]
    true: NDArray[np.float32]
    seed: int

    def __call__(self, index: int) -> tuple[Array, ...]:
        rng = np.random.default_rng((self.seed, index))
        n, height, width = self.painted.shape
        i, y, x = (
            int(rng.integers(0, high)) for high in (n, height - PATCH + 1, width - PATCH + 1)
        )
        patch = self.painted[i, y : y + PATCH, x : x + PATCH]
        label = self.true[i, y + BORDER : y + BORDER + LABEL, x + BORDER : x + BORDER + LABEL]
        return patch[None], label[None]


def pairs(samples: Samples, network: nn.Module, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Luminance painted by the autoencoder, true luminance (n, 1, h, w), and maps (n, h, w)."""
    painted, true, masks = [], [], []
    for start in range(0, count, 32):
        drawn = map(inpainter.Draw(samples, exact=True), range(start, min(start + 32, count)))
        hidden, faces, maps = (
            torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True)
        )
        painted.append(luma(inpainter.predict(network, hidden)))
        true.append(luma(faces))
        masks.append(maps)
    return torch.cat(painted), torch.cat(true), torch.cat(masks)


def validator(painted: Tensor, true: Tensor, masks: Tensor) -> Callable[[nn.Module], Score]:
    """PSNR of the luminance, whole crop (decides) and inside the map, before and after."""

    def db(got: Tensor, weight: Tensor) -> float:
        return float(-10 * torch.log10((((got - true) ** 2) * weight).sum() / weight.sum()))

    everywhere, inside = torch.ones_like(true), masks[:, None]

    def validate(network: nn.Module) -> Score:
        network.eval()
        with torch.no_grad():
            parts = [network(part.to(fit.device())).cpu() for part in painted.split(16)]
        got = torch.cat(parts).clamp(0, 1)
        return {
            "score": db(got, everywhere), "input": db(painted, everywhere),
            "inside": db(got, inside), "inside_input": db(painted, inside),
        }  # fmt: skip

    return validate


def main() -> None:
    parser = fit.arguments("Trains the enhancer.", 8, "runs/enhancer")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--inpainter", type=Path, default=Path("runs/inpainter"))
    parser.add_argument("--faces", type=int, default=900, help="painted faces to cut patches from")
    parser.set_defaults(batch=128)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    network = fit.load_best(inpainter.Autoencoder(), args.inpainter)
    network = network.to(fit.device(), memory_format=torch.channels_last)  # type: ignore[call-overload]
    faces = load_faces(args.cache, args.data)["lfw_deepfunneled"]
    templates = (
        synthesis.load_templates(args.templates) if args.templates else synthesis.drawn_templates()
    )

    def samples(validation: bool) -> Samples:
        parts = [faces.split(validation)]
        return Samples(parts, [1.0], PAPER, templates, args.seed, paper=0.5, bare=0)

    painted, true, _ = pairs(samples(False), network, args.faces)
    draw = Draw(painted[:, 0].numpy(), true[:, 0].numpy(), args.seed)
    validate = validator(*pairs(samples(True), network, 100))
    config = Config(args.out, args.seed, args.minutes, args.batch, args.rate, check_every=1.0)
    print(fit.fit(Srcnn(), draw, loss, validate, config))


if __name__ == "__main__":
    main()
