"""The paper's U-Net and its recipe: finds the mask in a face crop.

python -m training.segmenter --minutes 40
python -m training.segmenter --minutes 20 --pseudo runs/pseudo --start runs/segmenter --out runs/segmenter2
"""  # noqa: E501

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stream_unmask.models.profile import PAPER
from training import fit, synthesis
from training.dataset import Samples, load_faces, shaken
from training.fit import Config, Score, autocast, chw
from training.masks import Array
from training.photos import Photos, PseudoPhotos

WIDTHS = (32, 64, 128, 256)


class UNet(nn.Module):
    """Two logits per pixel (n, 2, h, w), keep and mask, from (n, 3, h, w) in 0..1.

    Paper, section "Image segmentation": 2,149,922 parameters.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.down = nn.ModuleList(_block(i, o) for i, o in zip((3, *widths), widths, strict=False))
        steps = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(i, o, 3, stride=2, padding=1, output_padding=1) for i, o in steps
        )
        self.merge = nn.ModuleList(_block(2 * o, o) for _, o in steps)
        self.head = nn.Sequential(
            nn.Conv2d(widths[0], widths[0], 3, padding=1), nn.ReLU(), nn.Conv2d(widths[0], 2, 1)
        )
        self.apply(_he_normal)

    def forward(self, faces: Tensor) -> Tensor:
        x, skips = faces, []
        for level, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, skips[-2::-1], strict=True):
            x = merge(torch.cat([up(x), skip], 1))
        logits: Tensor = self.head(x)
        return logits


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU(inplace=True),
    )  # fmt: skip


def _he_normal(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Exported(nn.Module):
    """What the engine computes: the map (n, 1, h, w), the softmax's share of "mask"."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, faces: Tensor) -> Tensor:
        logits = self.network(faces)
        return torch.sigmoid(logits[:, 1:] - logits[:, :1])


def loss(network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """The paper's cross-entropy against the soft map, and a Dice term: masks are small."""
    faces, masks = batch
    with autocast():
        logits = network(faces)
    margin = logits[:, 1].float() - logits[:, 0].float()
    entropy = functional.binary_cross_entropy_with_logits(margin, masks)
    found = torch.sigmoid(margin)
    both = (found * masks).sum((1, 2))
    dice = 1 - (2 * both + 50) / (found.sum((1, 2)) + masks.sum((1, 2)) + 50)
    return entropy + 0.3 * dice.mean()


@dataclass(frozen=True)
class Draw:
    """draw(index) -> (picture CHW, map HW); with `pseudo`, a third are real photographs."""

    samples: Samples
    pseudo: PseudoPhotos | None

    def __call__(self, index: int) -> tuple[Array, ...]:
        rng = np.random.default_rng((self.samples.seed, index, 7))
        if self.pseudo is not None and rng.random() < 0.33:
            picture, mask = self.pseudo.photographed(rng)
        else:
            picture, mask = self.samples.photographed(index)
        return chw(picture), np.ascontiguousarray(mask, np.float32)


def validator(samples: Samples, photos: Photos) -> Callable[[nn.Module], Score]:
    """Scores on 160 synthetic pairs of unseen people, 200 bare faces, own labelled photographs.

    What decides is the mean IoU on the photographs less half the share of bare faces on which more
    than a fiftieth of the crop is called mask.
    """
    bare = replace(samples, bare=1.0)
    faces = np.stack([chw(bare.photographed(index)[0]) for index in range(200)])
    pairs = [samples.photographed(index) for index in range(160)]
    pictures = torch.from_numpy(np.stack([chw(picture) for picture, _ in pairs]))
    truth = np.stack([mask for _, mask in pairs])

    def validate(network: nn.Module) -> Score:
        predict = predictor(network)
        maps = predict(pictures)
        sure, true = maps > 0.5, truth > 0.5
        iou = (sure & true).sum() / max((sure | true).sum(), 1)
        real = photos.ious(lambda faces: list(predict(faces)))
        false = float(((predict(torch.from_numpy(faces)) > 0.5).mean((1, 2)) > 0.02).mean())
        return {
            "score": float(real.mean()) - 0.5 * false, "real": float(real.mean()),
            "false": false, "real_median": float(np.median(real)),
            "real_worst_tenth": float(np.sort(real)[: max(len(real) // 10, 1)].mean()),
            "iou": float(iou), "accuracy": float((sure == true).mean()),
        }  # fmt: skip

    return validate


def predictor(network: nn.Module) -> Callable[[Tensor], Array]:
    """maps (n, h, w) from faces (n, 3, h, w), in batches, without gradients."""

    def predict(faces: Tensor) -> Array:
        maps = []
        network.eval()
        with torch.no_grad(), autocast():
            for part in faces.split(16):
                part = part.to(fit.device()).contiguous(memory_format=torch.channels_last)
                logits = network(part).float()
                maps.append(torch.sigmoid(logits[:, 1] - logits[:, 0]).cpu().numpy())
        return np.concatenate(maps)

    return predict


def main() -> None:
    parser = fit.arguments("Trains the segmenter.", 40, "runs/segmenter")
    parser.add_argument("--rate", type=float, default=6e-4)
    parser.add_argument(
        "--pseudo", type=Path, help="training.photos' own labels, for self-training"
    )
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    sets = load_faces(args.cache, args.data)
    templates = (
        synthesis.load_templates(args.templates) if args.templates else synthesis.drawn_templates()
    )
    weights = [0.5, 0.3, 0.2]  # LFW shows the whole head, UTKFace detail, CelebA the paper's frame

    def samples(validation: bool, seed: int) -> Samples:
        parts = [faces.split(validation) for faces in sets.values()]
        return Samples(parts, weights, PAPER, templates, seed, 0.12, 0.35, shaken)

    pseudo = PseudoPhotos.load(args.pseudo, args.data) if args.pseudo else None
    network = UNet()
    if args.start:
        fit.load_best(network, args.start)
    config = Config(args.out, args.seed, args.minutes, args.batch, args.rate)
    validate = validator(samples(True, 0), Photos.own(args.data))
    draw = Draw(samples(False, args.seed), pseudo)
    print(fit.fit(network, draw, loss, validate, config))


if __name__ == "__main__":
    main()
