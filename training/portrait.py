"""The portrait profile's inpainter and its recipe: paints a face that one can look at.

    python -m training.portrait --minutes 25
    python -m training.portrait --minutes 50 --adversarial --start runs/portrait --out runs/2

The first command learns where everything belongs (L1), which alone leaves the mean of all faces
that fit: a blur. The second adds two critics (patches, spectral norm, hinge loss), which ask for
one face, with pores and edges.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from stream_unmask.faces.geometry import apply, invert, similarity
from stream_unmask.faces.landmarks import anchors, turned
from stream_unmask.models.appearance import SCALE, Appearance, scaled, surroundings
from stream_unmask.models.guide import guide
from stream_unmask.models.profile import PORTRAIT
from stream_unmask.types import Mask, Points
from stream_unmask.unmask import widen
from training import camera, engines, fit, metrics, synthesis
from training.attributes import Attributes
from training.dataset import FaceSet, Samples, load_faces, nudged
from training.fit import Config, Score, autocast, chw
from training.inpainter import inside_db, mistaken, predict, stacked
from training.masks import Array, grid
from training.unet import HalfUNet

# Weights of the loss. Inside and outside the map: how far colours are off; tone: the same of what
# a blur leaves.
# Features: of the attribute network, and of the critics.
INSIDE, TONE, OUTSIDE, FEATURES, CRITIC, CRITIC_FEATURES = 20.0, 30.0, 3.0, 2.0, 1.2, 8.0
BEYOND = 0.6  # share of what critics say beyond the guessed face that the painter hears
CALM = 0.85  # share of what is added to guesses that is shipped
BLUR = 16  # side in pixels of the squares over which tone is compared
UNKNOWN = 0.2  # share of that where the photograph had ended
WIDTHS = (32, 64, 128, 176, 192)
WINDOW = (192, 224)  # width and height of the part of a crop that is trained on at once
SHADOW = 3.0  # sigma in pixels over which the mask's shadow fades out where it is painted over
FIRM, STIFF = 5.0, 3.0  # sigmas in pixels of how what is hidden moves: not at its edge, as one
OPEN_MOUTH = 0.11  # gap between the lips, in face units, from which teeth show
OPEN = 0.04  # share that is kept of the faces whose mouths are further open
TURNED = 0.36  # how far the nose is off the middle between the cheeks, in their distance


class Painter(nn.Module):
    """Face, map, guide, and a guess with its face's share (n, 9, h, w) -> face (n, 3, h, w).

    Well on the face it paints by how much the guess is off; beyond, what is there: edge of the jaw,
    neck, hair, background.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.network = HalfUNet(9, 6, widths, refined=True)

    def forward(self, given: Tensor) -> Tensor:
        beyond, off = self.network(given).split(3, 1)
        guess, share = given[:, 5:8], given[:, 8:]
        share = share * (2 - share)  # near its edge the guess is still the better jaw
        painted: Tensor = beyond + share * (guess + off - beyond)
        return painted

    def calm(self) -> None:
        """Takes back a part of what it adds to guesses, for good: critics like wrinkles, and they
        come on children, too."""
        last = self.network.refine[-1]
        with torch.no_grad():
            last.weight[3:] *= CALM
            last.bias[3:] *= CALM


def build() -> Painter:
    """The network, untrained."""
    return Painter()


class Critic(nn.Module):
    """How real each patch of a face (n, 3, h, w) with its map (n, 1, h, w) looks, and features."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 160)) -> None:
        super().__init__()
        strides = (2, 2, 2, 1)
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(i, o, 4, s, 1))
            for i, o, s in zip((4, *widths), widths, strides, strict=False)
        )
        self.head = spectral_norm(nn.Conv2d(widths[-1], 1, 3, 1, 1))

    def forward(self, faces: Tensor, maps: Tensor) -> tuple[Tensor, list[Tensor]]:
        x, seen = torch.cat([2 * faces - 1, maps], 1), []
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
            seen.append(x)
        return self.head(x), seen


class Critics(nn.Module):
    """One critic of the picture and one of the picture at half its size: pores and edges are judged
    by the first, whether nose, mouth and jaw go together by the second."""

    def __init__(self) -> None:
        super().__init__()
        self.each = nn.ModuleList((Critic(), Critic()))

    def forward(self, faces: Tensor, maps: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        halves = functional.avg_pool2d(faces, 2), functional.max_pool2d(maps, 2)
        return [
            critic(*seen) for critic, seen in zip(self.each, ((faces, maps), halves), strict=True)
        ]


class Loss:
    """Called with the painter and a batch of what it is given, true faces, and where these are
    known (n, 5 / 3 / 1, h, w). What it learns itself is in `state_dict`."""

    def __init__(self, features: Attributes | None, adversarial: bool, rate: float) -> None:
        self._features = features.to(fit.device()).requires_grad_(False) if features else None
        self._critics = Critics().to(fit.device()) if adversarial else None
        if self._critics is not None:
            parameters = self._critics.parameters()
            self._optimizer = torch.optim.Adam(parameters, rate, betas=(0.0, 0.99))

    def __call__(self, painter: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        given, faces, known = batch
        maps = given[:, 3:4]
        with autocast():
            painted = painter(given).float()
        # Where the photograph had ended its border is repeated: no neck, but the colour of one.
        # Left quite free there, the painter drifts to yellow and green.
        off = _length(painted - faces) * known.clamp(min=UNKNOWN)
        inside = (off * maps).sum() / (maps * known).sum().clamp(min=1)
        total = INSIDE * inside + OUTSIDE * (off * (1 - maps)).mean()
        # Pores and edges leave L1 no say in colour: cheeks that are all a little too yellow cost
        # less than one misplaced lip. Seen from afar nothing else is left.
        total = total + TONE * _tone((painted - faces) * maps * known, maps * known)
        # The critics see the picture as it will be merged; what is not known is alike in both.
        merged = torch.where(known > 0.5, faces + (painted - faces) * maps, faces)
        if self._features is not None:
            total = total + FEATURES * self._distance(merged, faces)
        if self._critics is not None:
            # Beyond the face anything is plausible to a critic, also cracks along the jaw.
            heard = BEYOND + (1 - BEYOND) * given[:, 8:]
            merged = merged.detach() + heard * (merged - merged.detach())
            total = total + self._criticised(self._critics, merged, faces, maps)
        return total

    def _distance(self, merged: Tensor, faces: Tensor) -> Tensor:
        assert self._features is not None
        self._features.eval()
        with autocast():
            with torch.no_grad():
                wanted = self._features.features(faces)
            got = self._features.features(merged)
        return _apart(got, wanted).sum()

    def _criticised(self, critics: Critics, merged: Tensor, faces: Tensor, maps: Tensor) -> Tensor:
        """Teaches the critics, and says what they then think of the painted faces."""
        critics.requires_grad_(True)
        with autocast():
            real, fake = critics(faces, maps), critics(merged.detach(), maps)
        # Only patches that show what is painted.
        where = [functional.adaptive_max_pool2d(maps, score.shape[2:]) for score, _ in real]
        hinges = (
            functional.relu(1 - good.float()) + functional.relu(1 + bad.float())
            for (good, _), (bad, _) in zip(real, fake, strict=True)
        )
        self._optimizer.zero_grad(set_to_none=True)
        _shares(hinges, where).backward()
        self._optimizer.step()
        critics.requires_grad_(False)
        with autocast():
            with torch.no_grad():
                real = critics(faces, maps)
            fake = critics(merged, maps)
        opinion = -_shares((score.float() for score, _ in fake), where)
        apart = [
            _apart(got, wanted).mean() for (_, got), (_, wanted) in zip(fake, real, strict=True)
        ]
        return CRITIC * opinion + CRITIC_FEATURES * torch.stack(apart).mean()

    def state_dict(self) -> dict[str, Any]:
        """What the critics have learned, to go on from."""
        if self._critics is None:
            return {}
        return {"critics": self._critics.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        if self._critics is not None and state:
            self._critics.load_state_dict(state["critics"])
            rates = [group["lr"] for group in self._optimizer.param_groups]
            self._optimizer.load_state_dict(state["optimizer"])
            for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
                group["lr"] = rate


def _tone(off: Tensor, where: Tensor) -> Tensor:
    """The mean of how far colours are off (n, 3, h, w) within each square, where a weight says."""
    weight = functional.avg_pool2d(where, BLUR)
    return _length(functional.avg_pool2d(off, BLUR)).sum() / weight.sum().clamp(min=1)


def _length(off: Tensor) -> Tensor:
    """How far colours are off (n, 3, h, w), as vectors (n, 1, h, w); d if all channels are by d.

    By each channel alone the best answer to "skin or shadow or wall" is the median of each, which
    together may be no colour of the three: cheeks turn yellow and jaws olive.
    """
    return torch.linalg.vector_norm(off, dim=1, keepdim=True) / off.shape[1] ** 0.5


def _shares(scores: Iterable[Tensor], where: list[Tensor]) -> Tensor:
    """The mean over critics of their scores' mean where a weight (n, 1, h, w) says."""
    means = [
        (score * part).sum() / part.sum().clamp(min=1)
        for score, part in zip(scores, where, strict=True)
    ]
    return torch.stack(means).mean()


def _apart(got: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """How far the features of each layer are from others, in parts of these."""
    parts = [
        (a.float() - b.float()).abs().mean() / (b.float().abs().mean() + 1e-3)
        for a, b in zip(got, wanted, strict=True)
    ]
    return torch.stack(parts)


@dataclass(frozen=True)
class Sample:
    """given (h, w, 3): a masked face. face (h, w, 3): what should be seen. mask: what to repaint
    by. drawn: the guide. guess: the appearance model's (h, w, 4). known: 0 where the photograph
    had ended (h, w)."""

    given: Array
    face: Array
    mask: Mask
    drawn: Mask
    guess: Array
    known: Mask

    def tensors(self) -> tuple[Array, ...]:
        """Input of the network (9, h, w), face (3, h, w), known (1, h, w)."""
        hidden = self.given * (1 - self.mask[..., None])
        given = np.dstack([hidden, self.mask, self.drawn, self.guess])
        return chw(given), chw(self.face), chw(self.known[..., None])


@dataclass(frozen=True)
class Draw:
    """draw(index) -> tensors of a sample. exact: framed as in live use, no camera, no mistakes."""

    samples: Samples
    appearance: Appearance
    exact: bool = False

    def __call__(self, index: int) -> tuple[Array, ...]:
        rng = np.random.default_rng((self.samples.seed, index))
        parts = self.sample(rng).tensors()
        if self.exact:
            return parts
        x, y = (int(rng.integers(s - w + 1)) for s, w in zip(PORTRAIT.size, WINDOW, strict=True))
        rows, columns = slice(y, y + WINDOW[1]), slice(x, x + WINDOW[0])
        return tuple(np.ascontiguousarray(part[:, rows, columns]) for part in parts)

    def sample(self, rng: Generator) -> Sample:
        """A masked face of someone who looks ahead within 45 degrees, mostly with closed lips."""
        size = PORTRAIT.size
        while True:
            faces = self.samples.sets[rng.choice(len(self.samples.sets), p=self.samples.weights)]
            index = int(rng.integers(len(faces.names)))
            if not _wanted(faces.meshes[index], rng):
                continue
            held = PORTRAIT.eyes if self.exact else nudged(PORTRAIT.eyes, rng)
            crop, known = faces.cropped(index, held, size, masked=True)
            trio = self.samples.dress(crop, rng)
            if trio is None:
                continue
            mask = widen(_hard(np.maximum(trio.mask, trio.straps)), PORTRAIT)
            worn = self._corrected(apply(invert(crop.to_frame), faces.worn[index]), mask)
            if not self.exact:
                mask, worn = _mistaken(trio, mask, worn, rng)
            seen = np.maximum(mask, cv2.dilate(np.maximum(trio.mask, trio.straps), np.ones((5, 5))))
            shift = _shift(crop.mesh, worn, seen)
            known = (_shifted(known, shift) == 1).astype(np.float32)
            trio = replace(trio, face=_shifted(trio.face, shift))
            return self._photographed(trio.masked, _uncovered(trio, seen), mask, known, worn, rng)

    def _corrected(self, worn: Points, mask: Mask) -> Points:
        """A mesh that was found with the mask on, as the inpainter corrects it in a crop that it
        holds."""
        held = similarity(anchors(worn), PORTRAIT.eyes)
        hidden = cv2.warpAffine(mask, held, PORTRAIT.size)
        return apply(invert(held), self.appearance.correction(apply(held, worn), hidden))

    def _photographed(
        self, given: Array, face: Array, mask: Mask, known: Mask, mesh: Points, rng: Generator
    ) -> Sample:
        if not self.exact:
            rows, columns = camera.frame(rng, PORTRAIT.size, 0.25)
            given, face, mask = (p[rows][:, columns] for p in (given, face, mask))
            known = known * _inside(rows)[:, None] * _inside(columns)
            if rng.random() < 0.6:
                given, face = camera.expose([given, face], rng)
            given, face = _softened(given, face, rng)
        placed = None if not self.exact and rng.random() < 0.06 else mesh
        mask = np.ascontiguousarray(mask, np.float32)
        guess = self.appearance(np.ascontiguousarray(given, np.float32), mask, placed)
        sample = Sample(given, face, mask, guide(placed, PORTRAIT.size), guess, known)
        if not self.exact and rng.random() < 0.5:
            parts = {part.name: getattr(sample, part.name)[:, ::-1] for part in fields(sample)}
            sample = Sample(**parts)
        return sample


def _uncovered(trio: synthesis.Trio, seen: Mask) -> Array:
    """The true face where `seen` (h, w) says, and what is given elsewhere.

    The mask's shadow, which stays beside it, fades out within: where it ended at a line, painters
    would learn that a line belongs along the edge of the map, and critics that it is real.
    """
    fade = (2 * cv2.GaussianBlur(1 - seen, (0, 0), SHADOW)).clip(0, 1)
    face = trio.face * (1 - (1 - trio.lit) * fade)[..., None]
    return np.asarray(trio.masked + (face - trio.masked) * seen[..., None], np.float32)


def _hard(mask: Mask) -> Mask:
    return (mask > 0.5).astype(np.float32)


def _inside(indices: Any) -> Array:
    """1 where an index is not a repetition of the first or last one."""
    return (indices == np.arange(len(indices))).astype(np.float32)


def _wanted(mesh: Points, rng: Generator) -> bool:
    """Whether to take a face: nobody in profile; hardly any with open mouths, since a mask hides
    what says that teeth show, and half a set of teeth is worse than a closed mouth."""
    return turned(mesh) < TURNED and (closed(mesh) or rng.random() < OPEN)


def closed(mesh: Points) -> bool:
    """Whether a face's lips hide its teeth."""
    gap = float(np.hypot(*(mesh[13] - mesh[14]))) / float(np.hypot(*(mesh[152] - mesh[168])))
    return gap * 1.8 < OPEN_MOUTH


def _shift(true: Points, believed: Points, hidden: Mask) -> Array:
    """How far (h, w, 2) what is hidden has to move to lie where a mesh has it; nothing else moves.

    Where a hidden mouth and jaw are nobody can know: what counts is that there is one of each, and
    where the guess has it. Painters that learn from where they were in truth learn to doubt the
    guess, and paint two mouths, and a halo for a jaw.
    """
    firmly = (2 * cv2.GaussianBlur(hidden, (0, 0), FIRM) - 1).clip(0, 1)
    size = round(hidden.shape[1] * SCALE), round(hidden.shape[0] * SCALE)
    x, y = np.rint(scaled(believed)).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < size[0]) & (y < size[1])
    x, y = x[inside], y[inside]
    known = np.asarray(cv2.resize(hidden, size, interpolation=cv2.INTER_AREA) == 0, np.float32)
    moved = np.zeros((size[1], size[0], 3), np.float32)
    moved[y, x, :2] = (believed - true)[inside] * cv2.resize(firmly, size)[y, x, None]
    known[y, x] = 1
    smooth = cv2.GaussianBlur(surroundings(moved, known), (0, 0), STIFF)
    return cv2.resize(smooth[..., :2], (hidden.shape[1], hidden.shape[0])) * (hidden > 0)[..., None]


def _shifted(picture: Array, shift: Array) -> Array:
    """A picture (h, w) or (h, w, c) of which each part has moved by a shift (h, w, 2)."""
    x, y = grid((picture.shape[1], picture.shape[0]))
    return np.asarray(
        cv2.remap(
            picture, x - shift[..., 0], y - shift[..., 1], cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
    )  # fmt: skip


def _mistaken(
    trio: synthesis.Trio, mask: Mask, worn: Points, rng: Generator
) -> tuple[Mask, Points]:
    """The map with the mistakes of a segmenter, and the mesh shaken."""
    if rng.random() < 0.6:
        mask = widen(_hard(mistaken(np.ascontiguousarray(trio.mask), rng)), PORTRAIT)
    if rng.random() < 0.15:  # a piece of the mask is missed, or something else is taken for it
        x, y = rng.uniform(0, 1, 2) * PORTRAIT.size
        axes = rng.uniform(6, 40, 2)
        piece = np.zeros(mask.shape, np.float32)
        cv2.ellipse(piece, ((x, y), tuple(axes), rng.uniform(0, 180)), 1.0, -1)
        mask = np.maximum(mask, piece) if rng.random() < 0.6 else mask * (1 - piece)
        mask = cv2.GaussianBlur(mask, (0, 0), 1.5)
    centre = worn.mean(0)
    grown = centre + (worn - centre) * rng.normal(1, 0.02, 2) + rng.normal(0, 1.3, 2)
    return mask, grown.astype(np.float32)


def _softened(given: Array, face: Array, rng: Generator) -> tuple[Array, Array]:
    """Both as a soft lens has them, now and then; what is given also with noise and artefacts."""
    if rng.random() < 0.3:
        sigma = rng.uniform(0.4, 2.0)
        given, face = (cv2.GaussianBlur(p, (0, 0), sigma) for p in (given, face))
    if rng.random() < 0.3:
        given = given + rng.uniform(0.003, 0.02) * rng.standard_normal(given.shape, np.float32)
    if rng.random() < 0.3:
        given = camera.compress(np.clip(given, 0, 1), int(rng.integers(40, 95)))
    return np.clip(given, 0, 1), face


def validator(draws: dict[str, Draw]) -> Callable[[nn.Module], Score]:
    """Scores on fixed samples per name: dB inside the map, and gradient energy and tone there.

    What decides is the dB less four times what the energy ratio lacks of 0.85: neither a blur
    nor a sharp face of somebody else is wanted.
    """
    batches = {name: stacked(draw, range(96)) for name, draw in draws.items()}

    def validate(network: nn.Module) -> Score:
        score: Score = {}
        for name, (given, faces, known) in batches.items():
            painted = predict(network, given)
            maps = (given[:, 3:4] * known)[:, 0]
            score[f"{name}_tone"] = float(_tone((painted - faces) * maps[:, None], maps[:, None]))
            score[f"{name}_db"] = inside_db(painted, faces, maps)
            score[f"{name}_energy"] = metrics.energy_ratio(
                painted.numpy().transpose(0, 2, 3, 1), faces.numpy().transpose(0, 2, 3, 1),
                maps.numpy() > 0.99,
            )  # fmt: skip
        lack = max(0.85 - score["sharp_energy"], 0.0)
        score["score"] = 0.5 * (score["sharp_db"] + score["whole_db"]) - 4 * lack
        return score

    return validate


def main() -> None:
    parser = fit.arguments("Trains the portrait profile's inpainter.", 25, "runs/portrait")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--adversarial", action="store_true", help="with critics")
    parser.add_argument("--appearance", type=Path, default=Path("runs/appearance.npz"))
    parser.add_argument("--features", type=Path, help="run folder of training.attributes")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    sets = load_faces(args.cache, args.data, ("utkface_200x200", "lfw_deepfunneled"))

    def samples(validation: bool, seed: int, *weights: float) -> Samples:
        parts: list[FaceSet] = [faces.split(validation) for faces in sets.values()]
        templates = synthesis.drawn_templates()
        return Samples(parts, list(weights), PORTRAIT, templates, seed, 0.05, 0.0)

    # UTKFace has the detail and ends at the chin, LFW has half of it and all that is around.
    train = samples(False, args.seed, 0.5, 0.5)
    appearance = Appearance.load(args.appearance)
    validate = validator(
        {"sharp": Draw(samples(True, 0, 1.0, 0.0), appearance, exact=True),
         "whole": Draw(samples(True, 0, 0.0, 1.0), appearance, exact=True)}
    )  # fmt: skip
    network, draw = build(), Draw(train, appearance)
    engines.go_on(network, network, args.start, lambda: stacked(draw, range(64))[0])
    features = None
    if args.features:
        features = Attributes()
        fit.load_best(features, args.features)
    config = Config(args.out, args.seed, args.minutes, args.batch, args.rate)
    if args.adversarial:  # the two chase each other: short memory, long average
        config = replace(config, beta=0.5, decay=0.999)
    loss = Loss(features, args.adversarial, 2 * args.rate)
    # Critics that know the painter's ways, if there are any.
    if args.start and args.start.is_dir() and args.adversarial:
        loss.load_state_dict(fit.last_learner(args.start))
    print(fit.fit(network, draw, loss, validate, config, loss))


if __name__ == "__main__":
    main()
