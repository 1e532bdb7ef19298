"""Section E of evaluation.md: how steady the product is, on clips with truth and on real ones.

Every clip goes through the product three times: nothing steadied, as live (nothing is known of the
next frame) and as a file (a few frames are).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from stream_unmask.faces.crop import cut
from stream_unmask.faces.geometry import apply, scale_of, similarity
from stream_unmask.models.profile import Profile
from stream_unmask.options import Options
from stream_unmask.pipeline import Composed, Parts, unmask_frames
from stream_unmask.report import Clock
from stream_unmask.types import Crop, Face, Image, Mask, Points
from stream_unmask.video.frame import Frame, to_rgb
from stream_unmask.video.reader import Reader
from training import clips, metrics, sheets
from training.clips import CUT, JUMP, OFF, ON_OFF, STILL, SWITCH, Clip
from training.metrics import Row
from training.product import LFW, Bench

MODES = {
    "off": Options(smooth=False, look_ahead=0),
    "live": Options(look_ahead=0),
    "file": Options(),
}
FOOTAGE = (
    ("unmasked_man_720p", 1.0), ("unmasked_man_720p", 5.0),
    ("unmasked_woman_grey_512p_audio", 1.0), ("unmasked_woman_grey_512p_audio", 3.0),
)  # fmt: skip
_NOTE = (
    "Means over clips of 40 frames. iou: of the map repainted by and the true one widened "
    "alike. dtssd: of the same, both held by the face's true motion, x 100, where either is. "
    "flicker: how far the change of the map's area from frame to frame is off, % of it. warp: "
    "squared difference to the frame before along the truth's flow, where that holds (Lai et "
    "al. 2018), over the truth's own. jitter: crop against the face from frame to frame, px of "
    "the crop; still: the same of faces that keep still, with grain. away: crop against the "
    "face's motion, px. seam, skin_off: as in table B, of every fifth frame. ms: a face, for "
    "all that steadies maps and fills."
)
_SUDDEN_NOTE = (
    "Frames until the picture is right again, at worst: the mask repainted after it appears "
    "(on), the face left alone after it is gone, repainted after a cut, the crop within 3 px "
    "after a jump; a face that is not found at all counts for none. early: frames before mask "
    "on or off that already show it. blinks: times that a mask is left for at most 15 frames, "
    "all clips."
)
_REAL_NOTE = (
    "No truth. area: change of the map's area in the crop from frame to frame, % of it. map: "
    "mean change of the map in the crop where there is one, x 100. fill: change of the picture "
    "there, of 255. shake: acceleration of the crop, px of the crop a frame squared, median. "
    "blinks: times that a track's mask is gone for at most 15 frames and then back."
)
_BLINK = 15  # frames for which a mask that comes back was not really off
_RASH = 6  # frames before a change in which nothing should have changed yet
_REACHED = 3.0  # px of the crop within which a crop has arrived after a jump


@dataclass(frozen=True)
class Played:
    """A clip as it went through the product, and what each stage took."""

    done: list[Composed]
    clock: Clock

    def face(self, index: int, near: Points | None = None) -> Crop | None:
        """The crop of a frame's face that is nearest to (2, 2) anchors, or that is repainted."""
        crops = self.done[index].scene.crops
        if near is not None:
            apart = [np.linalg.norm(crop.to_frame @ _middle(crop) - near.mean(0)) for crop in crops]
            return crops[int(np.argmin(apart))] if crops else None
        return next((crop for crop in crops if crop.mask is not None), None)


def _middle(crop: Crop) -> NDArray[np.float64]:
    return np.array([crop.image.shape[1] / 2, 0.4 * crop.image.shape[0], 1.0])


def played(parts: Parts, frames: Sequence[Image], options: Options) -> Played:
    """Pictures run through the product as a video."""
    clock = Clock()
    return Played(
        [*unmask_frames(map(_frame, frames, range(len(frames))), parts, options, clock)], clock
    )


def _frame(image: Image, index: int) -> Frame:
    # Full chroma, so that nothing but the product changes the picture.
    picture = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv444p")
    picture.pts, picture.time_base = index, Fraction(1, 25)
    return Frame(picture)


def video(bench: Bench) -> None:
    """Fills the tables of section E and draws what they say."""
    faces, profile = bench.sets[LFW], bench.profile
    figures: dict[str, list[Row]] = {}
    tracks: dict[str, dict[str, Any]] = {}
    for clip in chain(clips.portraits(faces, bench.count(2), 0), _footage(bench)):
        for mode, options in MODES.items():
            seen = played(bench.parts, clip.frames, options)
            figures.setdefault(mode, []).append(
                {"clip": clip.name, **measured(clip, seen, profile)}
            )
            tracks.setdefault(clip.name, {})[mode] = _curves(clip, seen, profile)
    bench.details["video"] = {"clips": figures, "curves": tracks}
    for mode, rows in figures.items():
        bench.add("E1", "E. Clips with truth", _NOTE, [{"steadied": mode, **_means(rows)}])
        bench.add(
            "E2", "E. What happens at once", _SUDDEN_NOTE, [{"steadied": mode, **_sudden(rows)}]
        )
    _draw(tracks, bench.out / "video.png")
    _real(bench)


def _footage(bench: Bench) -> Iterator[Clip]:
    for number, (name, start) in enumerate(FOOTAGE[: bench.count(len(FOOTAGE))]):
        yield clips.footage(bench.data / "clips" / f"{name}.mp4", start, number)


def measured(clip: Clip, seen: Played, profile: Profile) -> Row:
    """All figures of a clip."""
    results = [to_rgb(one.frame.picture) for one in seen.done]
    found, truth = [one.mask() for one in seen.done], clip.wide
    edited = [
        bool(f.sum() > 0.5 * t.sum()) if t.any() else bool(f.any())
        for f, t in zip(found, truth, strict=True)
    ]
    kind = clip.name.rsplit(" ", 1)[0]
    # From one frame to the next of the same scene; how long a change takes is a figure of its own.
    both = [
        t for t in range(1, len(found)) if all((*clip.worn[t - 1 : t + 1], *edited[t - 1 : t + 1]))
    ]
    steps = [t for t in both if not (kind in (CUT, JUMP) and t == SWITCH)]
    off = _off([seen.face(t, held) for t, held in enumerate(clip.held)], clip.held, profile)
    jitter = float(np.sqrt(metrics.mean(_moved(off[t], off[t - 1]) ** 2 for t in steps)))
    faces = sum(len(one.scene.crops) for one in seen.done)
    return {
        "iou": metrics.mean(_iou(f, t) for f, t in zip(found, truth, strict=True) if t.any()),
        **_unsteady(found, clip, steps, profile),
        **_warped(clip, results, steps),
        "jitter": jitter, "still": jitter if kind == STILL else float("nan"),
        "away": metrics.mean(float(np.abs(o - np.nanmedian(off, 0)).mean()) for o in off),
        **_seams(clip, results, profile),
        "ms": 1000 * seen.clock.seconds.get("steady", 0.0) / max(faces, 1),
        **_lags(kind, edited, off),
        "blinks": _blinks([e and w for e, w in zip(edited, clip.worn, strict=True)]),
    }  # fmt: skip


def _unsteady(found: list[Mask], clip: Clip, steps: list[int], profile: Profile) -> Row:
    """dtSSD of the maps and flicker of their area, against the true ones."""
    held = [
        [_held(*pair, profile) for pair in zip(maps, clip.held, strict=True)]
        for maps in (found, clip.wide)
    ]
    areas = [np.array([float(m.sum()) for m in maps]) for maps in (found, clip.wide)]
    change = np.abs(np.diff(areas[0]) - np.diff(areas[1]))
    typical = max(float(areas[1].max()), 1.0)
    return {
        "dtssd": metrics.mean(_dtssd(*held, t) for t in steps),
        "flicker": metrics.mean(100 * float(change[t - 1]) / typical for t in steps),
    }


def _warped(clip: Clip, results: list[Image], steps: list[int]) -> Row:
    """The warping error inside the mask over the truth's own."""
    errors = [_warping(clip.truth, results, clip.maps, t) for t in steps]
    own = sum(error[1] for error in errors)
    return {"warp": sum(error[0] for error in errors) / own if own else float("nan")}


def _held(mask: Mask, held: Points, profile: Profile) -> Mask:
    """A frame's map (h, w) in a crop that truly moves with the face."""
    matrix = similarity(held, profile.eyes)
    return np.asarray(cv2.warpAffine(mask, matrix, profile.size), np.float32)


def _iou(first: Mask, second: Mask) -> float:
    return metrics.iou(first > 0.5, second > 0.5)


def _dtssd(found: list[Mask], truth: list[Mask], t: int) -> float:
    """The root mean square of how far the map's change is off, where there is a map at all."""
    where = np.maximum.reduce([truth[t], truth[t - 1], found[t], found[t - 1]]) > 0
    off = (found[t] - found[t - 1]) - (truth[t] - truth[t - 1])
    return 100 * float(np.sqrt((off[where] ** 2).mean())) if where.any() else 0.0


def _warping(
    truth: list[Image], results: list[Image], maps: list[Mask], t: int
) -> tuple[float, float]:
    """Summed squared differences to the frame before along the flow: the result's, the truth's."""
    ys, xs = np.nonzero(maps[t] > 0.5)
    if not len(ys):
        return 0.0, 0.0
    y0, y1, x0, x1 = max(ys.min() - 24, 0), ys.max() + 25, max(xs.min() - 24, 0), xs.max() + 25
    part = (slice(y0, y1), slice(x0, x1))
    now, then = (np.ascontiguousarray(truth[i][part]) for i in (t, t - 1))
    greys = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in (now, then)]
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    back, forth = dis.calc(greys[0], greys[1], None), dis.calc(greys[1], greys[0], None)
    at = back + np.stack(np.meshgrid(np.arange(back.shape[1]), np.arange(back.shape[0])), -1)
    at = at.astype(np.float32)
    returned = cv2.remap(forth, at, None, cv2.INTER_LINEAR)
    off = ((back + returned) ** 2).sum(-1)
    holds = off <= 0.01 * ((back**2).sum(-1) + (returned**2).sum(-1)) + 0.5
    where = holds & (maps[t][part] > 0.5)

    def error(pictures: list[Image]) -> float:
        before = cv2.remap(pictures[t - 1][part].astype(np.float32), at, None, cv2.INTER_LINEAR)
        return float((((pictures[t][part] - before) / 255) ** 2).mean(-1)[where].sum())

    return error(results), error(truth)


def _off(crops: list[Crop | None], held: list[Points], profile: Profile) -> NDArray[np.float64]:
    """How far the face's true anchors lie from where the crop should have them (n, 2, 2), px of the
    crop: constant where the crop moves with the face. NaN without a crop."""
    rows = []
    for crop, points in zip(crops, held, strict=True):
        if crop is None:
            rows.append(np.full((2, 2), np.nan))
            continue
        linear = np.linalg.inv(crop.to_frame[:, :2])
        rows.append((points - crop.to_frame[:, 2]) @ linear.T - profile.eyes)
    return np.array(rows, np.float64)


def _moved(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(np.sqrt(((first - second) ** 2).sum(-1).mean()))


def _seams(clip: Clip, results: list[Image], profile: Profile) -> dict[str, float]:
    rows = []
    for t in range(2, len(results), 5):
        if clip.worn[t]:
            face = Face((0, 0, 1, 1), clip.held[t], 1.0)
            result, true = (
                cut(picture, face, profile.eyes, profile.size).image
                for picture in (results[t], clip.truth[t])
            )
            mask = cut(
                np.repeat(np.uint8(255 * clip.maps[t])[..., None], 3, 2),
                face,
                profile.eyes,
                profile.size,
            )
            rows.append(
                metrics.quality(result, true, mask.image[..., 0] / np.float32(255), profile)
            )
    pooled = metrics.pooled(rows)
    return {key: pooled[key] for key in ("seam", "skin_off")}


def _lags(kind: str, edited: Sequence[bool], off: NDArray[np.float64]) -> dict[str, float]:
    lags = dict.fromkeys(("on", "gone", "early", "cut", "jump"), float("nan"))
    if kind == ON_OFF:
        lags["on"] = _frames_until(edited[SWITCH:OFF], True)
        lags["gone"] = _frames_until(edited[OFF:], False)
        rash = [*edited[SWITCH - _RASH : SWITCH], *(not e for e in edited[OFF - _RASH : OFF])]
        lags["early"] = float(sum(rash))
    if kind == CUT:
        lags["cut"] = _frames_until(edited[SWITCH:], True)
    if kind == JUMP:
        before = np.nanmedian(off[:SWITCH], 0)
        near = [_moved(o, before) < _REACHED for o in off[SWITCH:]]
        lags["jump"] = _frames_until(near, True)
    return lags


def _frames_until(states: Sequence[bool], wanted: bool) -> float:
    found = (i for i, state in enumerate(states) if bool(state) == wanted)
    return float(next(found, float("nan")))


def _blinks(worn: Sequence[bool]) -> int:
    """How often a mask is off for a short while and then back."""
    on = [t for t, state in enumerate(worn) if state]
    return sum(1 < b - a <= _BLINK + 1 for a, b in pairwise(on))


def _means(rows: list[Row]) -> Row:
    keys = ("iou", "dtssd", "flicker", "warp", "jitter", "still", "away", "seam", "skin_off", "ms")
    return {key: metrics.mean(float(row[key]) for row in rows) for key in keys}  # type: ignore[arg-type]


def _sudden(rows: list[Row]) -> Row:
    worst = {
        key: max((float(r[key]) for r in rows if not np.isnan(r[key])), default=float("nan"))  # type: ignore
        for key in ("on", "gone", "early", "cut", "jump")
    }  # fmt: skip
    return {**worst, "blinks": sum(int(row["blinks"]) for row in rows)}  # type: ignore[arg-type]


def _curves(clip: Clip, seen: Played, profile: Profile) -> dict[str, list[float]]:
    crops = [seen.face(t, clip.held[t]) for t in range(len(seen.done))]
    off = _off(crops, clip.held, profile)
    return {
        "area": [float(one.mask().sum()) for one in seen.done],
        "true area": [float(m.sum()) for m in clip.wide],
        "x": off.mean(1)[:, 0].tolist(), "y": off.mean(1)[:, 1].tolist(),
    }  # fmt: skip


def _real(bench: Bench) -> None:
    """The masked clips, which have no truth: flicker, shaking and blinks."""
    rows = []
    for path in sorted((bench.data / "clips").glob("*mask*.mp4")):
        if path.name.startswith("unmasked"):
            continue
        with Reader(path, None, None) as reader:
            frames = [
                to_rgb(frame.picture)
                for frame, _ in zip(reader, range(bench.count(200)), strict=False)
            ]
        entries = []
        for mode, options in MODES.items():
            seen = played(bench.parts, frames, options)
            rows.append(
                {"clip": path.stem, "steadied": mode, **_tracked(frames, seen, bench.profile)}
            )
            entries += _strip(mode, frames, seen, bench.profile)
        sheets.write(bench.out, f"video_{path.stem}", entries, 1)
    bench.add("E3", "E. Real clips", _REAL_NOTE, rows)


def _tracked(frames: list[Image], seen: Played, profile: Profile) -> Row:
    tracks: dict[int | None, dict[int, Crop]] = {}
    for t, one in enumerate(seen.done):
        for crop in one.scene.crops:
            tracks.setdefault(crop.track, {})[t] = crop
    area, maps, fill, shake, blinks = [], [], [], [], 0
    for crops in tracks.values():
        worn = {t: c for t, c in crops.items() if c.mask is not None}
        blinks += _blinks([t in worn for t in range(len(frames))])
        for t, crop in worn.items():
            before, ahead = worn.get(t - 1), crops.get(t + 1)
            if before is None:
                continue
            assert crop.mask is not None
            assert before.mask is not None
            either = np.maximum(crop.mask, before.mask)
            area.append(abs(float(crop.mask.sum() - before.mask.sum())) / float(either.sum()))
            maps.append(float(np.abs(crop.mask - before.mask).sum() / either.sum()))
            change = np.abs(crop.image.astype(np.float32) - before.image).mean(-1)
            fill.append(float((change * either).sum() / either.sum()))
            if ahead is not None:
                places = [c.to_frame @ _middle(c) for c in (before, crop, ahead)]
                bent = places[0] - 2 * places[1] + places[2]
                shake.append(float(np.linalg.norm(bent)) / scale_of(crop.to_frame))
    return {
        "repainted": sum(bool(one.patches) for one in seen.done),
        "area": 100 * metrics.mean(area), "map": 100 * metrics.mean(maps),
        "fill": metrics.mean(fill),
        "shake": float(np.median(shake)) if shake else float("nan"), "blinks": blinks,
    }  # fmt: skip


def _strip(mode: str, frames: list[Image], seen: Played, profile: Profile) -> list[sheets.Entry]:
    """Eight consecutive frames around the largest repainted face, at the clip's middle."""
    middle = next(
        (t for t in range(len(frames) // 2, len(frames)) if seen.face(t) is not None), None
    )
    if middle is None:
        return []
    crop = max(
        (c for c in seen.done[middle].scene.crops if c.mask is not None),
        key=lambda c: scale_of(c.to_frame),
    )
    corners = apply(crop.to_frame, np.array([(0, 0), (profile.width, profile.height)], np.float32))
    x0, y0 = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    x1, y1 = np.ceil(corners.max(0)).astype(int)
    tiles = [
        cv2.resize(
            to_rgb(seen.done[t].frame.picture)[y0:y1, x0:x1],
            (180, 206),
            interpolation=cv2.INTER_AREA,
        )
        for t in range(middle, min(middle + 8, len(frames)))
    ]
    before = [
        cv2.resize(frames[t][y0:y1, x0:x1], (180, 206), interpolation=cv2.INTER_AREA)
        for t in range(middle, min(middle + 8, len(frames)))
    ]
    first = [sheets.Entry(f"frames {middle} to {middle + len(tiles) - 1}, as they are", before)]
    return (first if mode == "off" else []) + [sheets.Entry(mode, tiles)]


def _draw(tracks: dict[str, dict[str, Any]], path: Path) -> None:
    """A picture of mask area and crop position over time, one line of plots a clip."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 1.9 * len(tracks)), layout="constrained")
    axes = figure.subplots(len(tracks), 3, squeeze=False)
    for row, (name, modes) in zip(axes, tracks.items(), strict=True):
        for mode, curves in modes.items():
            for axis, key in zip(row, ("area", "x", "y"), strict=True):
                axis.plot(curves[key], label=mode, linewidth=1)
        row[0].plot(modes["off"]["true area"], "k:", label="true", linewidth=1)
        row[0].set_title(f"{name}: area, px", fontsize=8)
        row[1].set_title("crop against the face: x, px of the crop", fontsize=8)
        row[2].set_title("y", fontsize=8)
        for axis in row:
            axis.tick_params(labelsize=7)
    axes[0][0].legend(fontsize=7)
    figure.savefig(path, dpi=80)
