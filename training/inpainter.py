"""The paper's autoencoder and its recipe: paints the face under the mask.

python -m training.inpainter --minutes 40 --templates ../shared/data/mask_templates
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional

from stream_unmask.models.profile import PAPER
from stream_unmask.types import Mask
from training import camera, fit, synthesis
from training.dataset import Framing, Samples, exact, load_faces, nudged
from training.fit import Config, Score, autocast, chw
from training.masks import Array, noise

WIDTHS = (32, 64, 128, 256, 512)
INSIDE = 5.0  # weight of a pixel under the mask; 1 elsewhere (the paper weighs all alike)


class Autoencoder(nn.Module):
    """The whole face (n, 3, h, w), about 0..1, from one whose mask was set to 0.

    Paper, section "Image inpainting": 3,138,563 parameters, bottleneck h/16 x w/16 x 512.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for level, (inputs, outputs) in enumerate(zip((3, *widths), widths, strict=False)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            if level:
                layers.append(nn.BatchNorm2d(outputs))
            if level < len(widths) - 1:
                layers.append(nn.MaxPool2d(2))
        for inputs, outputs in zip(widths[:0:-1], widths[-2::-1], strict=True):
            layers.append(
                nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
            )
        layers.append(nn.Conv2d(widths[0], 3, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, hidden: Tensor) -> Tensor:
        filled: Tensor = self.layers(hidden)
        return filled


def loss(network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Squared error over the whole face, heavier under the mask, where the result is used."""
    hidden, faces, masks = batch
    with autocast():
        filled = network(hidden)
    error = (filled.float() - faces) ** 2
    return (error * (1 + (INSIDE - 1) * masks[:, None])).mean()


def mistaken(mask: Mask, rng: Generator) -> Mask:
    """The map as a segmenter would have it: mostly a little wide, at times with rims and holes."""
    kind = rng.random()
    if kind < 0.25:
        return mask
    hard = (mask > 0.5).astype(np.float32)
    radius = int(rng.integers(1, 6))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    wrong = cv2.dilate(hard, kernel)
    if kind > 0.85:
        wrong = cv2.erode(hard, kernel[:5, :5])
    if rng.random() < 0.3:  # the edge bulges or retreats here and there
        bumps = noise(rng, (7, 8), (mask.shape[1], mask.shape[0]))
        near = cv2.dilate(hard, np.ones((9, 9))) - cv2.erode(hard, np.ones((9, 9)))
        wrong = np.where(near > 0, np.where(bumps > 0.1, 1, wrong), wrong)
    return cv2.GaussianBlur(wrong.astype(np.float32), (0, 0), rng.uniform(0.4, 1.2))


@dataclass(frozen=True)
class Draw:
    """draw(index) -> (face with the map hidden CHW, face CHW, true map HW)."""

    samples: Samples
    exact: bool = False  # hide exactly the true map, with no mistakes and no camera

    def __call__(self, index: int) -> tuple[Array, ...]:
        rng = np.random.default_rng((self.samples.seed, index))
        trio = self.samples.trio(rng)
        face, masked, mask = trio.face, trio.masked, trio.mask
        if self.exact:
            return chw(masked * (1 - mask[..., None])), chw(face), np.ascontiguousarray(mask)
        rows, columns = camera.frame(rng, PAPER.size)
        face, masked, mask = (part[rows][:, columns] for part in (face, masked, mask))
        if rng.random() < 0.5:
            face, masked = camera.expose([face, masked], rng)
        hidden = masked * (1 - mistaken(np.ascontiguousarray(mask), rng)[..., None])
        return chw(hidden), chw(face), np.ascontiguousarray(mask, np.float32)


def stacked(draw: Callable[[int], tuple[Array, ...]], indices: range) -> tuple[Tensor, ...]:
    """The samples of some indices, each part as one tensor."""
    drawn = zip(*map(draw, indices), strict=True)
    return tuple(torch.from_numpy(np.stack(part)) for part in drawn)


def validator(sets: dict[str, Samples]) -> Callable[[nn.Module], Score]:
    """Scores on fixed samples per name: dB inside the true map, MSE of the whole crop."""
    batches = {name: stacked(Draw(samples, True), range(128)) for name, samples in sets.items()}

    def validate(network: nn.Module) -> Score:
        score: Score = {}
        for name, (hidden, faces, masks) in batches.items():
            filled = predict(network, hidden)
            score[f"{name}_inside_db"] = inside_db(filled, faces, masks)
            score[f"{name}_mse"] = float(functional.mse_loss(filled, faces))
        # The paper's masks have a bar to clear; the wide ones are what people wear.
        score["score"] = 0.5 * (score["paper_inside_db"] + score["wide_inside_db"])
        return score

    return validate


def predict(network: nn.Module, hidden: Tensor) -> Tensor:
    """Filled faces (n, 3, h, w) in 0..1, in batches, without gradients."""
    network.eval()
    with torch.no_grad(), autocast():
        parts = [
            network(part.to(fit.device()).contiguous(memory_format=torch.channels_last))
            for part in hidden.split(16)
        ]
    return torch.cat(parts).float().clamp(0, 1).cpu()


def inside_db(filled: Tensor, faces: Tensor, masks: Tensor) -> float:
    """PSNR in dB (scale 0..1) over all pixels under the maps (n, h, w)."""
    weight = masks[:, None]
    error = ((filled - faces) ** 2 * weight).sum() / (3 * weight.sum())
    return float(-10 * torch.log10(error))


def main() -> None:
    parser = fit.arguments("Trains the inpainter.", 40, "runs/inpainter")
    parser.add_argument("--rate", type=float, default=1e-3)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    sets = load_faces(args.cache, args.data)
    templates = (
        synthesis.load_templates(args.templates) if args.templates else synthesis.drawn_templates()
    )

    def samples(validation: bool, seed: int, *shares: float, framing: Framing = exact) -> Samples:
        parts = [faces.split(validation) for faces in sets.values()]
        paper, bare, *weights = shares
        return Samples(parts, weights, PAPER, templates, seed, paper, bare, framing)

    # CelebA's pictures here have half the crop's resolution: few of them, or all fills blur.
    train = samples(False, args.seed, 0.3, 0.05, 0.65, 0.2, 0.15, framing=nudged)
    lfw = (1.0, 0.0, 0.0)
    validate = validator(
        {"paper": samples(True, 0, 1, 0, *lfw), "wide": samples(True, 0, 0, 0, *lfw),
         "train": samples(False, 0, 1, 0, *lfw)}
    )  # fmt: skip
    network = Autoencoder()
    if args.start:
        fit.load_best(network, args.start)
    config = Config(args.out, args.seed, args.minutes, args.batch, args.rate)
    print(fit.fit(network, Draw(train), loss, validate, config))


if __name__ == "__main__":
    main()
