"""Evaluation on dressed faces, whose truth is known: tables A to D of evaluation.md."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from stream_unmask.faces.geometry import apply, invert
from stream_unmask.models.profile import PAPER, Profile
from stream_unmask.types import Image, Maps, Mask, Points
from stream_unmask.unmask import clean, widen
from training import metrics, sheets
from training.dataset import Samples
from training.masks import Array
from training.metrics import Row
from training.product import AE, MERGED, SEED, SRCNN, Bench, painted, segment, worn
from training.synthesis import drawn_templates, load_templates

COUNT, ON_SHEETS = 200, 24
SPLITS = {False: "train", True: "validation"}
PARTS = ("segmentation", "fill", "enhancer", "end", "baselines", "sheets")


@dataclass(frozen=True)
class Kind:
    """A way to dress faces. paper: share of the twelve overlays; the rest wears wide masks."""

    name: str
    paper: float
    library: bool = False
    camera: bool = False  # photographed: no true face is left to compare with
    sheet: str | None = None  # a kind that is filled, too, and the name of its contact sheets


KINDS = (
    Kind("paper's twelve, library", 1.0, library=True, sheet="lfw_paper"),
    Kind("paper's twelve, drawn", 1.0),
    Kind("wide", 0.0, sheet="lfw_wide"),
    Kind("wide, photographed", 0.0, camera=True),
)


@dataclass(frozen=True)
class Pair:
    """A face, the same with a mask on, and the true maps (h, w) of fabric and straps.

    mesh: (468, 2) where the landmarker sees the masked face, in crop pixels. known: (h, w), 0 where
    the photograph had ended. Of what a camera took only the picture and its maps are kept.
    """

    face: Image | None
    masked: Image
    mask: Mask
    straps: Mask
    mesh: Points | None = None
    known: Mask | None = None

    def hidden(self, profile: Profile) -> Mask:
        """The true map (h, w) of what a profile is to repaint: with straps, if it knows them."""
        return np.maximum(self.mask, self.straps) if profile.maps > 1 else self.mask


def draw(bench: Bench, kind: Kind, validation: bool) -> list[Pair]:
    """LFW faces of a split, dressed: always the same ones."""
    templates = load_templates(bench.data / "mask_templates") if kind.library else drawn_templates()
    faces = bench.faces.split(validation)
    samples = Samples([faces], [1.0], bench.profile, templates, SEED, paper=kind.paper, bare=0)
    numbers = range(bench.count(COUNT))
    if kind.camera:
        photographs = (samples.photographed(number) for number in numbers)
        return [Pair(None, _image(picture), *map(_map, maps)) for picture, maps in photographs]
    pairs = []
    for number in numbers:
        rng, pair = np.random.default_rng((SEED, number)), None
        while pair is None:
            pair = dressed(samples, int(rng.integers(len(faces.names))), rng)
        pairs.append(pair)
    return pairs


def dressed(samples: Samples, index: int, rng: np.random.Generator) -> Pair | None:
    """A face of the first set with a mask on, framed as in live use; None if that doesn't fit."""
    faces, profile = samples.sets[0], samples.profile
    crop, known = faces.cropped(index, profile.eyes, profile.size)
    trio = samples.dress(crop, rng)
    if trio is None:
        return None
    mesh = apply(invert(crop.to_frame), faces.worn[index])
    maps = _map(trio.mask), _map(trio.straps)
    return Pair(_image(trio.face), _image(trio.masked), *maps, mesh, known)


def _map(mask: Mask) -> Mask:
    return np.ascontiguousarray(mask, np.float32)


def _image(picture: Array) -> Image:
    return np.ascontiguousarray(np.rint(picture.clip(0, 1) * 255), np.uint8)


def synthetic(bench: Bench) -> None:
    """Tables A to D on dressed faces, whose truth is known."""
    for kind in KINDS:
        filled = kind.sheet is not None and bench.wanted & set(PARTS[1:])
        if not filled and "segmentation" not in bench.wanted:
            continue
        for validation, split in SPLITS.items():
            pairs = draw(bench, kind, validation)
            maps = segment(bench.parts.networks, [pair.masked for pair in pairs])
            about: Row = {"split": split, "n": len(pairs)}
            if "segmentation" in bench.wanted:
                row = {"masks": kind.name} | about | segmentation(pairs, maps, bench.profile)
                bench.add("segmentation", _A, _A_NOTE, [row])
            if filled:
                fill(bench, kind, about, pairs, maps)
    for name, keys in (("fill", ("masks", "map", "after")), ("end", ("masks", "way"))):
        if name in bench.tables:
            bench.tables[name].group(*keys)  # train and validation side by side


_A = "A. Segmentation of synthetic pairs (LFW)"
_A_NOTE = (
    "Of the fabric; straps, which only some profiles look for, stand apart. Accuracy and"
    " cross-entropy are of the raw map; IoU, F1 and boundary F of the cleaned one, not yet"
    " widened (raw IoU beside it), mean over the faces; the px of boundary F are those of the"
    " paper's crop. Missed: share of true mask pixels that the widened map leaves. Specks and"
    " holes per face: raw, cleaned, and in the truth itself (hands and hair in front cut wide"
    " masks in pieces)."
)


def segmentation(pairs: Sequence[Pair], maps: Sequence[Maps], profile: Profile) -> Row:
    """The row of table A for pairs and the maps that were found."""
    px = profile.unit / PAPER.unit

    def one(pair: Pair, maps: Maps) -> dict[str, float]:
        mask = maps[0]
        truth, raw, fabric = pair.mask > 0.5, mask > 0.5, clean(mask, profile)
        found = fabric > 0.5
        of = {"raw": raw, "cleaned": found, "true": truth}
        return {
            "accuracy": metrics.accuracy(raw, truth),
            "cross-entropy": metrics.cross_entropy(mask, truth),
            "IoU raw": metrics.iou(raw, truth), "IoU": metrics.iou(found, truth),
            "F1": metrics.f1(found, truth),
            "boundary F 1 px": metrics.boundary_f(found, truth, 1 * px),
            "boundary F 2 px": metrics.boundary_f(found, truth, 2 * px),
            "missed": metrics.missed(widen(fabric, profile), truth),
            "called bare": float(worn(maps, profile) is None),
            **({"IoU straps": _straps(maps[1], pair.straps)} if profile.maps > 1 else {}),
            **{f"specks {name}": float(metrics.specks(which)) for name, which in of.items()},
            **{f"holes {name}": float(metrics.holes(which)) for name, which in of.items()},
        }  # fmt: skip

    rows = [one(*both) for both in zip(pairs, maps, strict=True)]
    mean: Row = {key: metrics.mean(row[key] for row in rows) for key in rows[0]}
    mean["IoU worst tenth"] = metrics.worst_tenth(row["IoU"] for row in rows)
    return mean


def _straps(found: Mask, truth: Mask) -> float:
    """The IoU of straps; NaN where there are none."""
    straps = truth > 0.5
    return metrics.iou(found > 0.5, straps) if straps.any() else float("nan")


def measured(results: Sequence[Image], pairs: Sequence[Pair], profile: Profile) -> dict[str, float]:
    """`metrics.pooled` of results against the true faces."""
    with ThreadPoolExecutor() as pool:
        rows = pool.map(lambda r, p: metrics.quality(r, true(p), p.mask, profile), results, pairs)
        return metrics.pooled(list(rows))


def fill(bench: Bench, kind: Kind, about: Row, pairs: list[Pair], maps: list[Maps]) -> None:
    """Adds to tables B, C and D, and draws the sheets of validation faces."""
    networks, profile = bench.parts.networks, bench.profile
    nothing = np.zeros_like(maps[0][0])
    wide = [nothing if (found := worn(one, profile)) is None else found.wide for one in maps]
    given, meshes = [pair.masked for pair in pairs], [pair.mesh for pair in pairs]
    steps = painted(networks, given, wide, meshes)
    if bench.wanted & {"fill", "enhancer"}:
        true_maps = [pair.hidden(profile) for pair in pairs]
        hidden = {
            "true": true_maps,
            "true, widened": [widen((m > 0.5).astype(np.float32), profile) for m in true_maps],
        }
        filled = {name: painted(networks, given, m, meshes) for name, m in hidden.items()}
        for name, results in (filled | {"predicted": steps}).items():
            figures = {step: measured(made, pairs, profile) for step, made in results.items()}
            if "fill" in bench.wanted:
                rows: list[Row] = [
                    {"masks": kind.name, "map": name, "after": step} | about | _fill_row(m)
                    for step, m in figures.items()
                ]
                bench.add("fill", _B, _B_NOTE, rows)
            if name == "true" and SRCNN in figures and "enhancer" in bench.wanted:
                row = {"masks": kind.name} | about | _luma_row(figures[AE], figures[SRCNN])
                bench.add("enhancer", _SRCNN, "", [row])
    ways = {"ours": steps[MERGED]} if "end" in bench.wanted else {}
    if "baselines" in bench.wanted:
        ways = baselines(given, wide, profile) | ways
    for name, result in ways.items():
        row = {"masks": kind.name, "way": name} | about | _end_row(result, pairs, wide, profile)
        bench.add("end", _C, _C_NOTE, [row])
    if kind.sheet and about["split"] == SPLITS[True] and "sheets" in bench.wanted:
        shown = list(zip(pairs, maps, steps[AE], steps[MERGED], strict=True))[:ON_SHEETS]
        entries = [
            sheets.Entry(
                f"{kind.name} {i}", [p.masked, sheets.grey(m.max(0)), fill, final, true(p)]
            )
            for i, (p, m, fill, final) in enumerate(shown)
        ]
        sheets.write(bench.out, kind.sheet, entries)


def true(pair: Pair) -> Image:
    """The true face of a pair that has one."""
    assert pair.face is not None
    return pair.face


_B = "B. Fill (LFW)"
_B_NOTE = (
    "dB inside: under the true map, over all its pixels; the true map hides exactly, image x (1 -"
    " map), and leaves a rim of mask when merged; the predicted one is cleaned and widened as the"
    " product does, and so, for comparison, is the true one. Profiles that look for straps are"
    " given these, too. Seam: L1 on a ring outside the mask that is as wide as 3 px of the"
    " paper's crop. Skin: CIEDE2000 between mask area and cheeks, then the true face's own."
    " Hands, glasses and straps in front of wide masks are not in the true face, which lowers the"
    " whole-crop figures."
)
_SRCNN = "B. Enhancer: luminance of what the inpainter paints, true map (LFW)"
_C = "C, D. End to end in the crop, predicted map (LFW)"
_C_NOTE = (
    "Every way repaints by the same widened map. Remnant: share of true mask pixels within"
    f" {metrics.LEFT_ALONE}/255 of what they were. Strayed: pixels changed where the map is 0."
)


def _fill_row(m: dict[str, float]) -> Row:
    return {
        "dB inside": m["psnr_in"], "MSE inside": m["mse_in"], "L1 inside": m["l1_in"],
        "SSIM inside": m["ssim_in"], "dB crop": m["psnr"], "MSE crop": m["mse"],
        "L1 crop": m["l1"], "SSIM crop": m["ssim"], "seam": m["seam"],
        "skin": m["skin"], "skin, true": m["skin_true"],
    }  # fmt: skip


def _luma_row(before: dict[str, float], after: dict[str, float]) -> Row:
    return {
        "dB crop, input": before["y_psnr"], "dB crop, output": after["y_psnr"],
        "dB inside, input": before["y_psnr_in"], "dB inside, output": after["y_psnr_in"],
        "MSE crop, input": before["y_mse"], "MSE crop, output": after["y_mse"],
    }  # fmt: skip


def _end_row(
    results: Sequence[Image], pairs: Sequence[Pair], wide: Sequence[Mask], profile: Profile
) -> Row:
    m, triples = measured(results, pairs, profile), list(zip(results, pairs, wide, strict=True))
    left = [metrics.remnant(r, p.masked, p.mask > 0.5) for r, p, _ in triples]
    return {
        "dB inside": m["psnr_in"], "L1 inside": m["l1_in"], "SSIM inside": m["ssim_in"],
        "dB crop": m["psnr"], "SSIM crop": m["ssim"], "seam": m["seam"], "skin": m["skin"],
        "skin, true": m["skin_true"], "remnant": float(np.mean(left)),
        "strayed": sum(metrics.strayed(r, p.masked, m) for r, p, m in triples),
        "called bare": sum(not m.any() for m in wide),
    }  # fmt: skip


def _skin_colour(masked: Image, mask: Mask, profile: Profile) -> Image:
    """The picture with the mean colour of the cheeks merged in."""
    colour = metrics.mean_colour(masked, metrics.cheek(mask > 0.5, profile)) * 255
    if np.isnan(colour).any():
        return masked
    return np.asarray(np.rint(masked + (colour - masked) * mask[..., None]), np.uint8)


def _opencv(way: int) -> Callable[[Image, Mask, Profile], Image]:
    def inpaint(masked: Image, mask: Mask, profile: Profile) -> Image:
        radius = 5 * profile.unit / PAPER.unit
        return np.asarray(cv2.inpaint(masked, (mask > 0).astype(np.uint8), radius, way), np.uint8)

    return inpaint


BASELINES: dict[str, Callable[[Image, Mask, Profile], Image]] = {
    "do nothing": lambda masked, mask, profile: masked,
    "mean skin colour": _skin_colour,
    "OpenCV Telea": _opencv(cv2.INPAINT_TELEA),
    "OpenCV Navier-Stokes": _opencv(cv2.INPAINT_NS),
}


def baselines(
    given: Sequence[Image], wide: Sequence[Mask], profile: Profile
) -> dict[str, list[Image]]:
    """By way, what it makes of crops of a profile, repainting by the maps (h, w)."""
    with ThreadPoolExecutor() as pool:
        return {
            name: list(pool.map(way, given, wide, [profile] * len(given)))
            for name, way in BASELINES.items()
        }
