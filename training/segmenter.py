"""The segmenters of both profiles and their recipe: they find the mask in a face crop.

python -m training.segmenter --minutes 40
python -m training.segmenter --minutes 20 --photos runs/pseudo --start runs/segmenter --out runs/2
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stream_unmask.models.profile import PAPER, PORTRAIT, PROFILES, Profile
from training import engines, fit, synthesis
from training.dataset import Samples, load_faces, shaken
from training.fit import Config, Score, autocast, chw
from training.masks import Array
from training.nobody import SOURCE, Nobody
from training.photos import Photos, RealPhotos
from training.unet import HalfUNet

WIDTHS = (32, 64, 128, 256)
_NOBODY = 0.16  # the share of drawn crops that show nobody with a mask


class UNet(nn.Module):
    """The paper's: two logits per pixel (n, 2, h, w), keep and mask, from (n, 3, h, w) in 0..1.

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


def build(profile: Profile) -> nn.Module:
    """The network of a profile."""
    return UNet() if profile is PAPER else HalfUNet(3, profile.maps)


def margins(logits: Tensor, profile: Profile) -> Tensor:
    """Logits of "this is mask" for each map (n, maps, h, w), from what the network gives."""
    return logits[:, 1:] - logits[:, :1] if profile is PAPER else logits


class Exported(nn.Module):
    """What the engine computes: the maps (n, maps, h, w), 0..1."""

    def __init__(self, network: nn.Module, profile: Profile) -> None:
        super().__init__()
        self.network, self._profile = network, profile

    def forward(self, faces: Tensor) -> Tensor:
        return torch.sigmoid(margins(self.network(faces), self._profile))


@dataclass(frozen=True)
class Loss:
    """The paper's cross-entropy against the soft map, and a Dice term for each: masks are small,
    and straps so thin that a blurred guess at them would cost little.

    Called with batches of faces, maps and where these count (n, 2, h, w).
    """

    profile: Profile

    def __call__(self, network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        faces, (maps, counted) = batch[0], (part[:, : self.profile.maps] for part in batch[1:])
        with autocast():
            logits = network(faces)
        margin = margins(logits.float(), self.profile)
        # Straps are a hundredth of a picture: unless they weigh more, none are ever found.
        rare = torch.tensor([1.0, 2.0][: self.profile.maps], device=margin.device)[:, None, None]
        entropy = functional.binary_cross_entropy_with_logits(
            margin, maps, counted, pos_weight=rare
        )
        found, true = torch.sigmoid(margin) * counted, maps * counted
        # Of the fabric picture by picture; of straps, which most pictures lack, over all of them.
        fabric = _dice(found[:, :1], true[:, :1], (1, 2, 3)).mean()
        straps = _dice(found[:, 1:], true[:, 1:], (0, 2, 3)).sum()
        return self.profile.maps * entropy + 0.3 * (fabric + straps)


def _dice(found: Tensor, true: Tensor, over: tuple[int, ...]) -> Tensor:
    """1 less twice what two maps (n, c, h, w) share, in what both have."""
    return 1 - (2 * (found * true).sum(over) + 50) / (found.sum(over) + true.sum(over) + 50)


@dataclass(frozen=True)
class Draw:
    """draw(index) -> (picture CHW, fabric and straps CHW, where these count CHW).

    With `photos`, a share `real` are real photographs. nobody: crops without a face, or only of
    somebody bare who was not looked for; a share of the others.
    """

    samples: Samples
    photos: RealPhotos | None
    real: float
    nobody: Nobody | None = None

    def __call__(self, index: int) -> tuple[Array, ...]:
        rng = np.random.default_rng((self.samples.seed, index, 7))
        if self.photos is not None and rng.random() < self.real:
            picture, maps, counted = self.photos.photographed(rng, self.samples.profile)
        elif self.nobody is not None and rng.random() < _NOBODY:
            picture = self.nobody.photographed(rng, self.samples.profile)
            maps = np.zeros((2, *picture.shape[:2]), np.float32)
            counted = np.ones_like(maps)
        else:
            picture, maps = self.samples.photographed(index)
            counted = np.ones_like(maps)
        return chw(picture), *(np.ascontiguousarray(part, np.float32) for part in (maps, counted))


def validator(samples: Samples, photos: Photos, nobody: Nobody) -> Callable[[nn.Module], Score]:
    """Scores on 160 synthetic pairs of unseen people, 200 bare faces, 200 crops of nobody, own
    labelled photographs.

    What decides is the mean IoU on the photographs less half the share of bare faces on which more
    than a fiftieth of the crop is called mask, a fifth of that share of the crops of nobody, and a
    tenth of the F1 of the photographs' straps.
    """
    bare, rng = replace(samples, bare=1.0), np.random.default_rng(0)
    faces = np.stack([chw(bare.photographed(index)[0]) for index in range(200)])
    empty = np.stack([chw(nobody.photographed(rng, samples.profile)) for _ in range(200)])
    pairs = [samples.photographed(index) for index in range(160)]
    pictures = torch.from_numpy(np.stack([chw(picture) for picture, _ in pairs]))
    truth = np.stack([maps for _, maps in pairs])[:, : samples.profile.maps]

    def validate(network: nn.Module) -> Score:
        predict = predictor(network, samples.profile)
        sure, true = predict(pictures) > 0.5, truth > 0.5
        ious = (sure & true).sum((0, 2, 3)) / (sure | true).sum((0, 2, 3)).clip(1)
        real = photos.ious(lambda faces: list(predict(faces)[:, 0]))
        straps: dict[str, float] = {}
        if samples.profile.maps > 1:
            both = photos.straps(lambda faces: list(predict(faces)[:, 1]))
            straps = dict(zip(("straps_precision", "straps_recall"), both, strict=True))
            straps["straps_f1"] = 2 * both[0] * both[1] / max(sum(both), 1e-6)

        def wrong(crops: Array) -> float:
            called = (predict(torch.from_numpy(crops))[:, 0] > 0.5).mean((1, 2))
            return float((called > 0.02).mean())

        false, on_nobody = wrong(faces), wrong(empty)
        score = float(real.mean()) - 0.5 * false - 0.2 * on_nobody
        return {
            "score": score + 0.1 * straps.get("straps_f1", 0),
            "real": float(real.mean()),
            "false": false, "nobody": on_nobody, "real_median": float(np.median(real)),
            "real_worst_tenth": float(np.sort(real)[: max(len(real) // 10, 1)].mean()),
            **dict(zip(("iou", "iou_straps"), map(float, ious), strict=False)),
            "accuracy": float((sure == true)[:, 0].mean()), **straps,
        }  # fmt: skip

    return validate


def predictor(network: nn.Module, profile: Profile) -> Callable[[Tensor], Array]:
    """maps (n, maps, h, w) from faces (n, 3, h, w), in batches, without gradients."""

    def predict(faces: Tensor) -> Array:
        maps = []
        network.eval()
        with torch.no_grad(), autocast():
            for part in faces.split(16):
                part = part.to(fit.device()).contiguous(memory_format=torch.channels_last)
                logits = network(part).float()
                maps.append(torch.sigmoid(margins(logits, profile)).cpu().numpy())
        return np.concatenate(maps)

    return predict


def main() -> None:
    parser = fit.arguments("Trains the segmenter.", 40, "runs/segmenter")
    parser.add_argument("--rate", type=float, default=6e-4)
    parser.add_argument("--profile", choices=PROFILES, default=PORTRAIT.name)
    parser.add_argument("--photos", type=Path, help="what training.photos left, to learn from, too")
    parser.add_argument("--real", type=float, default=0.4, help="the share of real photographs")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    profile = PROFILES[args.profile]
    sets = load_faces(args.cache, args.data)
    templates = (
        synthesis.load_templates(args.templates) if args.templates else synthesis.drawn_templates()
    )
    weights = [0.5, 0.3, 0.2]  # LFW shows the whole head, UTKFace detail, CelebA the paper's frame

    def samples(validation: bool, seed: int) -> Samples:
        parts = [faces.split(validation) for faces in sets.values()]
        return Samples(parts, weights, profile, templates, seed, 0.1, 0.45, shaken)

    photos = RealPhotos.load(args.data, args.photos) if args.photos else None
    network = build(profile)
    lfw = sets[SOURCE]
    draw = Draw(
        samples(False, args.seed), photos, args.real, Nobody.load(args.cache, lfw, validation=False)
    )

    def given() -> Tensor:
        return torch.from_numpy(np.stack([draw(index)[0] for index in range(32)]))

    engines.go_on(network, Exported(network, profile), args.start, given)
    config = Config(args.out, args.seed, args.minutes, args.batch, args.rate)
    validate = validator(
        samples(True, 0), Photos.own(args.data, profile),
        Nobody.load(args.cache, lfw, validation=True),
    )  # fmt: skip
    print(fit.fit(network, draw, Loss(profile), validate, config))


if __name__ == "__main__":
    main()
