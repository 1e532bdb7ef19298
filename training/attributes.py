"""A small network that tells age, sex and ethnicity of a face in the portrait crop, as UTKFace has
labelled them.

    python -m training.attributes --minutes 8
    python -m training.attributes --minutes 8 --seed 2 --check --out runs/attributes_check

Its features are what the inpainter's loss compares faces by (there is no other feature network to
be had); a second one, from another seed and of another width, checks what the inpainter paints.
Neither is shipped: they tell groups as a data set's authors saw them, for measuring, not for use on
people.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stream_unmask.models.profile import PORTRAIT
from training import camera, fit
from training.dataset import FaceSet, load_faces, nudged
from training.fit import Config, Score, autocast, chw
from training.masks import Array

WIDTHS, CHECK_WIDTHS = (24, 48, 96, 128, 160), (16, 40, 80, 112, 176)
AGES = (10, 20, 35, 55)  # where one age group ends and the next begins
GROUPS, ETHNICITIES = len(AGES) + 1, 5


class Attributes(nn.Module):
    """Logits (n, 1 + GROUPS + ETHNICITIES) of faces (n, 3, h, w) in 0..1."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(),
                nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(),
            ) for i, o in zip((3, *widths), widths, strict=False)
        )  # fmt: skip
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(widths[-1], 1 + GROUPS + ETHNICITIES))

    def features(self, faces: Tensor) -> list[Tensor]:
        """What each stage sees, from fine to coarse."""
        x, seen = 2 * faces - 1, []
        for stage in self.stages:
            x = stage(x)
            seen.append(x)
        return seen

    def forward(self, faces: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(faces)[-1].mean((2, 3)))
        return logits


def told(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Sex (n,) 0 or 1, and age group (n,)."""
    return (logits[:, 0] > 0).long(), logits[:, 1 : 1 + GROUPS].argmax(1)


def label(name: str) -> tuple[int, int, int]:
    """Sex, age group and ethnicity in the name of a UTKFace picture; ValueError if it has none."""
    age, sex, ethnicity = PurePosixPath(name).name.split("_")[:3]
    found = int(sex), int(np.digitize(int(age), AGES)), int(ethnicity)
    if found[0] > 1 or found[2] >= ETHNICITIES:
        raise ValueError(f"{name} is not labelled as UTKFace's are")
    return found


def labelled(faces: FaceSet) -> list[tuple[int, tuple[int, int, int]]]:
    """The numbers of those faces whose names are labels, with these."""
    found = []
    for index, name in enumerate(faces.names):
        try:
            found.append((index, label(name)))
        except ValueError:
            continue
    return found


@dataclass(frozen=True)
class Draw:
    """draw(index) -> (face CHW, label (3,))."""

    faces: FaceSet
    known: list[tuple[int, tuple[int, int, int]]]
    seed: int
    plain: bool = False  # no camera, not mirrored, in order

    def __call__(self, index: int) -> tuple[Array, ...]:
        rng = np.random.default_rng((self.seed, index, 11))
        at = index % len(self.known) if self.plain else int(rng.integers(len(self.known)))
        number, told_ = self.known[at]
        eyes = PORTRAIT.eyes if self.plain else nudged(PORTRAIT.eyes, rng)
        face = self.faces.crop(number, eyes, PORTRAIT.size).image.astype(np.float32) / 255
        if not self.plain:
            (face,) = camera.expose([face], rng)
            face = camera.photograph(face, rng) if rng.random() < 0.5 else face
            face = face[:, ::-1] if rng.random() < 0.5 else face
        return chw(face), np.array(told_, np.float32)


def loss(network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Cross-entropies of sex, age group and ethnicity."""
    faces, labels = batch
    with autocast():
        logits = network(faces).float()
    sex = functional.binary_cross_entropy_with_logits(logits[:, 0], labels[:, 0])
    ages, ethnicities = logits[:, 1:].split([GROUPS, ETHNICITIES], 1)
    age = functional.cross_entropy(ages, labels[:, 1].long(), label_smoothing=0.05)
    kind = functional.cross_entropy(ethnicities, labels[:, 2].long(), label_smoothing=0.05)
    return sex + age + kind


def validator(draw: Draw) -> Callable[[nn.Module], Score]:
    """Scores on unseen faces: the shares told right."""
    faces, labels = zip(*(draw(index) for index in range(len(draw.known))), strict=True)
    stack, truth = torch.from_numpy(np.stack(faces)), torch.from_numpy(np.stack(labels)).long()

    def validate(network: nn.Module) -> Score:
        network.eval()
        with torch.no_grad(), autocast():
            logits = torch.cat([network(part) for part in stack.to(fit.device()).split(32)]).cpu()
        sex, age = told(logits.float())
        right = {
            "sex": float((sex == truth[:, 0]).float().mean()),
            "age": float((age == truth[:, 1]).float().mean()),
        }
        return {"score": 0.5 * sum(right.values()), **right}

    return validate


def main() -> None:
    parser = fit.arguments("Trains the attribute network.", 8, "runs/attributes")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--check", action="store_true", help="the other width, for measuring")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    faces = load_faces(args.cache, args.data, ("utkface_200x200",))["utkface_200x200"]
    train, unseen = faces.split(False), faces.split(True)
    config = Config(args.out, args.seed, args.minutes, args.batch, args.rate, check_every=2.0)
    validate = validator(Draw(unseen, labelled(unseen), 0, plain=True))
    network = Attributes(CHECK_WIDTHS if args.check else WIDTHS)
    print(fit.fit(network, Draw(train, labelled(train), args.seed), loss, validate, config))


if __name__ == "__main__":
    main()
