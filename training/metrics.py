"""How far maps and pictures are from the truth, and the tables that say so. Nothing is run here.

Decisions are bool (h, w), maps float32 (h, w) in 0..1, pictures RGB uint8 (h, w, 3). Errors of
pictures are on a scale of 0..1, dB are 10 log10(1 / squared error). An empty decision against an
empty truth scores 1.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from stream_unmask.models.profile import PAPER, Profile
from stream_unmask.types import Image, Mask

Decision = NDArray[np.bool_]
Row = dict[str, object]

# In units, the distance between the eyes: as many px of the paper's crop as the numerators say.
SEAM = 3 / PAPER.unit  # width of the ring on which a seam shows
CHEEK = (4 / PAPER.unit, 16 / PAPER.unit)  # how far from the mask the cheeks are looked at
LEFT_ALONE = 2  # of 255: a pixel that differs by no more was left as it was

# Where a face has skin in its crop: an oval from the brows to the chin, less two discs around the
# eyes. In units, positions from the middle between the eyes.
_OVAL_CENTRE, _OVAL_AXES, _EYE_DISC = (0.0, 0.5), (1.0, 1.3), 0.33


def accuracy(found: Decision, truth: Decision) -> float:
    """The share of pixels that are called what they are."""
    return float((found == truth).mean())


def cross_entropy(mask: Mask, truth: Decision) -> float:
    """The mean over the pixels of -ln of what the map gives the true class, clipped at 1e-7."""
    right = np.where(truth, mask, 1 - mask.astype(np.float64))
    return float(-np.log(right.clip(1e-7, 1 - 1e-7)).mean())


def iou(found: Decision, truth: Decision) -> float:
    """Intersection over union."""
    either = int((found | truth).sum())
    return int((found & truth).sum()) / either if either else 1.0


def f1(found: Decision, truth: Decision) -> float:
    """The harmonic mean of precision and recall over the pixels."""
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else 1.0


def boundary_f(found: Decision, truth: Decision, radius: float) -> float:
    """F1 of the outlines: a pixel of one counts if the other's is at most `radius` px away.

    The picture's edge is no outline.
    """
    ours, theirs = _outline(found), _outline(truth)
    if not ours.any() or not theirs.any():
        return float(not ours.any() and not theirs.any())
    precision = float((_distance(theirs)[ours] <= radius).mean())
    recall = float((_distance(ours)[theirs] <= radius).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def missed(mask: Mask, truth: Decision) -> float:
    """The share of the true mask's pixels that a map covers by less than half; 0 if there is none.

    mask: the one that is repainted by, `unmask.widen`.
    """
    return float((mask[truth] < 0.5).mean()) if truth.any() else 0.0


def specks(found: Decision) -> int:
    """How many pieces there are besides the largest one."""
    return max(_pieces(found)[0] - 1, 0)


def holes(found: Decision) -> int:
    """How many pieces of what is not found are shut off from the picture's edge."""
    count, labels = _pieces(~found, corners=False)
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return count - int((np.unique(rim) > 0).sum())


def ring(found: Decision, near: float, far: float) -> Decision:
    """The pixels that are more than `near` and at most `far` px outside of what was found."""
    if not found.any():
        return np.zeros_like(found)
    distance = _distance(found)
    return np.asarray((distance > near) & (distance <= far))


def cheek(found: Decision, profile: Profile) -> Decision:
    """The skin around a mask in a crop of a profile: face, but neither mask nor eyes."""
    rows, columns = np.indices(found.shape)
    (x, y), unit = profile.eyes.mean(0), profile.unit
    across = (columns - x) / unit - _OVAL_CENTRE[0]
    down = (rows - y) / unit - _OVAL_CENTRE[1]
    skin = np.hypot(across / _OVAL_AXES[0], down / _OVAL_AXES[1]) <= 1
    for eye in profile.eyes:
        skin &= np.hypot(columns - eye[0], rows - eye[1]) > _EYE_DISC * unit
    near, far = CHEEK
    return np.asarray(skin & ring(found, near * unit, far * unit))


def mean_colour(picture: Image, where: Decision) -> NDArray[np.float64]:
    """The mean colour of the pixels `where`, RGB 0..1 (3,); NaN if there are fewer than 20."""
    if where.sum() < 20:
        return np.full(3, np.nan)
    return np.asarray(picture[where].mean(0), np.float64) / 255


def colour_difference(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """CIEDE2000 between two colours, RGB 0..1 (3,): about 1 is just seen; NaN of a NaN."""
    if np.isnan(first).any() or np.isnan(second).any():
        return float("nan")
    return float(deltaE_ciede2000(rgb2lab(first), rgb2lab(second)))


def luma(picture: Image) -> NDArray[np.float64]:
    """Y of YCrCb (h, w), 0..1."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb)[..., 0], np.float64) / 255


def decibel(squared: float) -> float:
    """PSNR in dB of a mean squared error on the scale 0..1."""
    return float("inf") if squared <= 0 else float(-10 * np.log10(squared))


def quality(
    result: Image, face: Image, mask: Mask, profile: Profile, known: Mask | None = None
) -> dict[str, float]:
    """How far a result is from the true face, over the whole crop and under the true map (soft).

    known: (h, w), 0 where there is no true face; of use for all but the figures of the whole crop.
    area: pixels under the map. mse, l1, ssim: whole crop; *_in: under the map. y_mse: luminance.
    seam: L1 on the ring outside. skin: CIEDE2000 between the result under the map and the cheeks
    around it, skin_true, the same of the true face, and skin_off, how far these are apart.
    """
    error = (result.astype(np.float32) - face) / 255
    there = np.ones(mask.shape, np.bool_) if known is None else known > 0.5
    weight, masked = (mask * there).astype(np.float64), mask > 0.5
    truth, area = masked & there, max(float(weight.sum()), 1e-9)

    def inside(values: NDArray[np.floating]) -> float:
        return float((values * weight).sum() / area)

    squared, size = (error**2).mean(2), np.abs(error).mean(2)
    y_squared = (luma(result) - luma(face)) ** 2
    whole, similar = structural_similarity(result, face, channel_axis=2, full=True)
    edge = ring(masked, 0, SEAM * profile.unit) & there
    cheeks = mean_colour(face, cheek(masked, profile) & there)
    skin, own = (colour_difference(mean_colour(p, truth), cheeks) for p in (result, face))
    return {
        "area": area, "mse": float(squared.mean()), "mse_in": inside(squared),
        "y_mse": float(y_squared.mean()), "y_mse_in": inside(y_squared),
        "l1": float(size.mean()), "l1_in": inside(size),
        "ssim": float(whole), "ssim_in": inside(similar.mean(2)),
        "seam": float(size[edge].mean()) if edge.any() else 0.0,
        "skin": skin, "skin_true": own, "skin_off": abs(skin - own),
    }  # fmt: skip


def pooled(qualities: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """`quality` of many pictures: squared errors under the map over all their pixels, which is
    what `psnr_in` and its like are made of; means over the pictures for the rest, less NaN."""
    columns = {key: np.array([q[key] for q in qualities]) for key in qualities[0]}
    area = columns["area"]
    means = {
        key: float((values * area).sum() / area.sum()) if key.endswith("mse_in")
        else mean(values)
        for key, values in columns.items()
    }  # fmt: skip
    return means | {
        key.replace("mse", "psnr"): decibel(means[key])
        for key in ("mse", "mse_in", "y_mse", "y_mse_in")
    }


def energy_ratio(result: NDArray[np.float32], face: NDArray[np.float32], where: Decision) -> float:
    """The gradient energy of pictures (n, h, w, 3) over that of others, where (n, h, w) told."""

    def energy(pictures: NDArray[np.float32]) -> float:
        grey = pictures.mean(3)
        down, across = np.diff(grey, axis=1)[:, :, 1:] ** 2, np.diff(grey, axis=2)[:, 1:] ** 2
        return float((down + across)[where[:, 1:, 1:]].mean())

    return energy(result) / max(energy(face), 1e-12)


def texture(picture: Image, where: Decision) -> float:
    """The median contrast with what is 1.5 px around, where told, 0..1; NaN of under 20 pixels.

    Of skin it is grain, pores and sharpness; few edges pass through a median.
    """
    if where.sum() < 20:
        return float("nan")
    grey = luma(picture)
    return float(np.median(np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 1.5))[where]))


def remnant(result: Image, given: Image, truth: Decision) -> float:
    """The share of the true mask's pixels that were left as they were given; 0 if there is none."""
    if not truth.any():
        return 0.0
    change = np.abs(result[truth].astype(np.int16) - given[truth]).max(1)
    return float((change <= LEFT_ALONE).mean())


def strayed(result: Image, given: Image, mask: Mask) -> int:
    """How many pixels changed where the map that was repainted by is 0."""
    return int(((result != given).any(2) & (mask == 0)).sum())


def mean(values: Iterable[float]) -> float:
    """The mean of the values that are not NaN; NaN if there are none."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def worst_tenth(values: Iterable[float]) -> float:
    """The mean of the lowest tenth of the values, of at least one; NaN if there are none."""
    ordered = np.sort(np.asarray(list(values), np.float64))
    return float(ordered[: max(len(ordered) // 10, 1)].mean()) if len(ordered) else float("nan")


@dataclass
class Table:
    """A table of results: rows of the same columns, and what one has to know to read them."""

    title: str
    note: str = ""
    rows: list[Row] = field(default_factory=list)

    def group(self, *keys: str) -> None:
        """Moves rows that agree on some columns together, otherwise in the order they came in."""
        order: dict[tuple[object, ...], int] = {}
        for row in self.rows:
            order.setdefault(tuple(row.get(key) for key in keys), len(order))
        self.rows.sort(key=lambda row: order[tuple(row.get(key) for key in keys)])

    def markdown(self) -> str:
        """The table as Markdown, with title and note."""
        parts = [f"## {self.title}", "", *([self.note, ""] if self.note else [])]
        if self.rows:
            keys = list(self.rows[0])
            parts += [_line(keys), _line(["---"] * len(keys))]
            parts += [_line([shown(row.get(key)) for key in keys]) for row in self.rows]
        return "\n".join(parts) + "\n"


def shown(value: object) -> str:
    """A value as a table shows it: four significant digits, "-" for nothing."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "-"
    if not isinstance(value, float):
        return str(value)
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    digits = int(np.clip(3 - np.floor(np.log10(abs(value))), 0, 6))
    return f"{value:.{digits}f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _pieces(found: Decision, corners: bool = True) -> tuple[int, NDArray[np.int32]]:
    """How many pieces hang together by edges (or corners), and each pixel's number, 0 outside."""
    count, labels = cv2.connectedComponents(
        found.astype(np.uint8), connectivity=8 if corners else 4
    )
    return count - 1, np.asarray(labels, np.int32)


def _outline(found: Decision) -> Decision:
    """The pixels of what was found that touch, by an edge, one that was not."""
    inner = cv2.erode(found.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    return np.asarray(found & (inner == 0))


def _distance(found: Decision) -> NDArray[np.float32]:
    """Each pixel's distance to the nearest one that was found."""
    outside = (~found).astype(np.uint8)
    return np.asarray(cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))
