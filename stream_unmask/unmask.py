"""The paper, from crops to crops: segment, clean, hide, inpaint, enhance, merge."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_unmask.models.enhancer import Enhancer
from stream_unmask.models.inpainter import Inpainter
from stream_unmask.models.profile import Profile
from stream_unmask.models.segmenter import Segmenter
from stream_unmask.types import Image, Maps, Mask, Points

# In units: the distance between the eyes. First and last below the eyes, and to both sides.
_LOWER_FACE = (0.3, 1.94, 0.974)
_MOUTH = (0.505, 1.633, 0.667)
_SPECK = 0.04  # area on the lower face below which a piece of the map is a mistake
_GRAIN = 0.128  # side of what is taken for a speck or a hole in the map
_LOOSE = 0.3  # of cloth that hangs on what is surely mask: a remnant shows more than a lost pixel
_STRAP = 0.5  # of a strap
_STEEP = 2.0  # how much surer maps get from one pixel to the next, across an edge
_GAP = 0.16  # beyond which what looks like a strap no longer belongs to the mask: hair lies over it
_RIM = 0.08  # how far the fabric's blurred edge and its shadow reach beyond the map
_FEATHER = 0.03  # sigma of the soft edge outside the rim
_FADE = 0.25  # over which the fill fades out towards the crop's border
_REACH = 0.256  # sigma over which the light around the mask is carried into the fill
# Where skin is looked for that has the face's own grain: first and last below the eyes, to both
# sides, and how far from the mask at most.
_BESIDE, _NEAR = (0.15, 1.2, 0.9), 0.3
_FEW = 0.05  # area of it below which nothing is known of the grain
_FINE = 0.025  # sigma of what counts as fine: pores, grain, the sharpness of edges
_SHARPER, _GRAINIER = 1.6, 2.0  # most that the fill's detail is raised by, and grain added, of 255
_COARSE = 4  # side in pixels of the squares in which that is worked out


Box = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks of a profile, ready to run."""

    profile: Profile
    segmenter: Segmenter
    inpainter: Inpainter
    enhancer: Enhancer | None = None


def clean(mask: Mask, profile: Profile) -> Mask:
    """The map's fabric as 0 or 1 (h, w): no specks, no holes (paper: erosion and dilation)."""
    hard = _morphed(cv2.MORPH_CLOSE, _morphed(cv2.MORPH_OPEN, mask > 0.5, profile), profile)
    lower_face, speck = profile.window(*_LOWER_FACE), _SPECK * profile.unit**2
    outlines, _ = cv2.findContours(hard, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    solid = np.zeros_like(hard)
    for outline in outlines:
        piece = np.zeros_like(hard)
        cv2.drawContours(piece, [outline], -1, 1, cv2.FILLED)  # outer outlines: holes are filled
        # A mask reaches the lower face; a piece that doesn't is a hat, a collar, the background.
        if piece[lower_face].sum() >= speck:
            solid = np.maximum(solid, piece)
    return solid.astype(np.float32)


def over_mouth(fabric: Mask, profile: Profile) -> float:
    """How much of nose tip, mouth and what is beside them a cleaned map covers, 0..1."""
    return float(fabric[profile.window(*_MOUTH)].mean())


def completed(fabric: Mask, maps: Maps, profile: Profile) -> Mask:
    """The cleaned map (h, w) with what hangs on it: cloth that the segmenter half sees, in shade or
    light, and the straps, if it looks for any."""
    loose = _morphed(cv2.MORPH_OPEN, maps[0] > _LOOSE, profile)
    body = _hanging(loose, fabric, np.ones((3, 3), np.uint8))
    straps = np.asarray((maps[1:] > _STRAP).any(0), np.uint8)
    return _hanging(straps, body, _disc(_GAP / 2, profile))


def softened(worn: Mask, maps: Maps) -> Mask:
    """What is worn (h, w), 0 or 1, with as much of the pixels on its edge as the maps say.

    So that from frame to frame it can move by less than a pixel: an edge of whole pixels crawls.
    """
    box = around(worn, 1)
    beyond = _STEEP * (maps[0][box] - _LOOSE)
    for straps in maps[1:]:
        beyond = np.maximum(beyond, _STEEP * (straps[box] - _STRAP))
    whole = worn[box]
    part = np.where(np.abs(beyond) < 0.5, beyond + 0.5 - (beyond > 0), 0)
    kernel, soft = np.ones((3, 3), np.uint8), worn.copy()
    soft[box] = np.clip(whole + part, cv2.erode(whole, kernel), cv2.dilate(whole, kernel))
    return soft


def _hanging(found: NDArray[np.uint8], on: Mask, near: NDArray[np.uint8]) -> Mask:
    """What is found (h, w), of all that lies near each other only what hangs on a map, and that:
    glasses and hair have strands, too."""
    either = np.maximum(found, on.astype(np.uint8))
    count, pieces = cv2.connectedComponents(cv2.dilate(either, near))
    hanging = np.zeros(count, np.float32)
    hanging[pieces[on > 0]] = 1
    if hanging[1:].all():
        return either.astype(np.float32)
    return np.asarray(either * hanging[pieces])


def widen(fabric: Mask, profile: Profile) -> Mask:
    """The map to repaint by: the cleaned one, wider so that no rim is left, with a soft edge."""
    blur = _FEATHER * profile.unit
    box = around(fabric, round(_RIM * profile.unit + 4 * blur) + 1)
    wide, part = np.zeros_like(fabric), fabric[box]
    soft = cv2.GaussianBlur(cv2.dilate(part, _disc(_RIM, profile)), (0, 0), blur)
    wide[box] = cv2.max(soft, cv2.dilate(part, np.ones((3, 3), np.uint8)))
    return wide


def around(mask: Mask, margin: int = 0) -> Box:
    """Rows and columns in which a mask (h, w) is more than nothing, and so many pixels more."""
    x, y, width, height = cv2.boundingRect((mask > 0).view(np.uint8))
    rows = slice(max(y - margin, 0), y + max(height, 1) + margin)
    return rows, slice(max(x - margin, 0), x + max(width, 1) + margin)


def _morphed(kind: int, found: NDArray[Any], profile: Profile) -> NDArray[np.uint8]:
    """What was found, 0 or 1 (h, w), without specks (opening) or without holes (closing)."""
    kernel = _disc(_GRAIN / 2, profile)
    return np.asarray(cv2.morphologyEx(found.astype(np.uint8), kind, kernel), np.uint8)


def _disc(radius: float, profile: Profile) -> NDArray[np.uint8]:
    """A disc to dilate by, of a radius in units."""
    side = 2 * round(radius * profile.unit) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def paint(
    faces: Sequence[Image],
    masks: Sequence[Mask],
    meshes: Sequence[Points | None],
    networks: Networks,
) -> list[Image]:
    """Each face crop painted anew by what its map (h, w) leaves, in the face's own light.

    masks: from `widen`. meshes: (468, 2) in crop pixels.
    """
    if not faces:
        return []
    painted = networks.inpainter(faces, masks, meshes)
    if networks.enhancer is not None:
        painted = networks.enhancer(painted)
    reach = _REACH * networks.profile.unit
    return [relight(*parts, reach) for parts in zip(painted, faces, masks, strict=True)]


def repaint(
    faces: Sequence[Image],
    masks: Sequence[Mask],
    meshes: Sequence[Points | None],
    networks: Networks,
) -> list[Image]:
    """The same merged in. Paper: enhanced x map + input x (1 - map)."""
    painted, profile = paint(faces, masks, meshes, networks), networks.profile
    return [finish(*parts, profile) for parts in zip(painted, faces, masks, strict=True)]


def finish(painted: Image, face: Image, mask: Mask, profile: Profile) -> Image:
    """The face with what was painted merged in, as sharp and grainy as the skin beside it."""
    box, done = around(mask), face.copy()
    sharp = textured(painted, face, mask, profile)
    done[box] = merge(sharp[box], face[box], mask[box] * _window(profile)[box])
    return done


@cache
def _window(profile: Profile) -> Mask:
    """1 in the crop (h, w), and falling to 0 at its border: a gaiter goes on beyond, and what is
    painted of a neck fades into it instead of ending at a line."""
    reach = _FADE * profile.unit
    down, across = (
        np.minimum(np.arange(side) + 0.5, side - 0.5 - np.arange(side))
        for side in (profile.height, profile.width)
    )
    edge = np.minimum(down[:, None], across) / reach
    return np.asarray(edge.clip(0, 1), np.float32)


def relight(painted: Image, face: Image, mask: Mask, reach: float) -> Image:
    """The painted face with the face's own light and colour, carried in from around the map.

    reach: sigma in pixels over which it is carried. A network paints what is visible, too: how far
    it is off there, smoothly continued under the map, is how far it is off there. Not in the paper,
    whose authors name a wrong skin tone and errors at the border.
    """
    height, width = mask.shape
    size = (width // _COARSE, height // _COARSE)
    seen = (1 - cv2.dilate(mask, np.ones((3, 3), np.uint8)))[..., None]
    # What is carried in is smooth, so a coarse picture of it will do, at a tenth of the time.
    off = cv2.resize((face.astype(np.float32) - painted) * seen, size, interpolation=cv2.INTER_AREA)
    weight = cv2.resize(seen, size, interpolation=cv2.INTER_AREA)
    # Far from anything seen the weight vanishes; there it is off as on average around the map.
    ring = (weight * cv2.dilate(1 - weight, np.ones((5, 5), np.uint8)))[..., None]
    typical = (off * ring).sum((0, 1)) / max(float((weight[..., None] * ring).sum()), 1e-3)
    carried = cv2.GaussianBlur(off, (0, 0), reach / _COARSE) + 0.02 * typical
    spread = cv2.GaussianBlur(weight, (0, 0), reach / _COARSE)[..., None] + 0.02
    shift = cv2.resize(carried / spread, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.rint((painted + shift).clip(0, 255)), np.uint8)


def textured(painted: Image, face: Image, mask: Mask, profile: Profile) -> Image:
    """The painted face as sharp and as grainy as the skin beside the mask, as far as that is seen.

    Painters are smoother than cameras: under sharp eyes their skin looks pasted. The grain keeps
    still with the crop, hence with the face. A profile that has a network for this is left alone.
    """
    if profile.enhanced:
        return painted
    window, reach = profile.window(*_BESIDE), 2 * round(_NEAR * profile.unit) + 1
    hidden = (mask[window] > 0.02).view(np.uint8)
    beside = cv2.dilate(hidden, np.ones((reach, reach), np.uint8)) > hidden
    if np.count_nonzero(beside) < _FEW * profile.unit**2:
        return painted
    sigma, box = _FINE * profile.unit, around(mask)
    skin = _fine(face[window], sigma)[beside]
    detail, inside = _fine(painted[box], sigma), mask[box][::2, ::2] > 0.9
    # Edges of hair and eyes are among what is beside the mask, and few of the lower values.
    wanted, got = (
        float(np.percentile(np.abs(d), 40)) / 0.52 for d in (skin, detail[::2, ::2][inside])
    )
    gain = float(np.clip(wanted / max(got, 0.3), 1, _SHARPER))
    lack = max(wanted**2 - (gain * got) ** 2, 0.0) ** 0.5
    added = (gain - 1) * detail + min(0.6 * lack, _GRAINIER) * _grain(mask.shape, sigma)[box]
    sharp = painted.copy()
    sharp[box] = np.rint((painted[box] + added[..., None]).clip(0, 255))
    return sharp


def _fine(picture: Image, sigma: float) -> Mask:
    """What of a picture's light is finer than sigma pixels (h, w), -255..255."""
    values = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.asarray(values - cv2.GaussianBlur(values, (0, 0), sigma), np.float32)


@cache
def _grain(shape: tuple[int, ...], sigma: float) -> Mask:
    """Noise (h, w) as cameras have it, fine and with a deviation of 1: always the same."""
    noise = np.random.default_rng(0).standard_normal(shape, np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), sigma / 2)
    return np.asarray(soft / soft.std(), np.float32)


def merge(painted: Image, face: Image, mask: Mask) -> Image:
    """painted x map + face x (1 - map)."""
    blend = face + (painted.astype(np.float32) - face) * mask[..., None]
    return np.rint(blend).astype(np.uint8)
