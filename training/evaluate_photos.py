"""Evaluation on real photographs: tables A (labelled), C (false edits) and F of evaluation.md."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_unmask.faces.crop import cut
from stream_unmask.faces.geometry import scale_of
from stream_unmask.models.profile import Profile
from stream_unmask.pipeline import present
from stream_unmask.types import Crop, Face, Image, Maps
from stream_unmask.unmask import clean
from training import metrics, sheets
from training.dataset import Archive
from training.metrics import Row
from training.photos import CLOSE_UPS, Photo, Photos, iou, lay
from training.product import Bench, Seen, Worn, batches, see, segment, worn

PARTS = ("photos", "false-edits", "unlabelled")
COUNT, ON_SHEETS = 300, 48
UNMASKED = "photos_without_mask"
# Of the 48: a balaclava and a costume (evaluation.md).
ODD = ("with_mask223", "with_mask006")
MIN_PRESENCE = 0.5

Decision = NDArray[np.bool_]
Picture = tuple[str, Image, tuple[Face, ...]]

_A = "A. Segmentation of labelled real photographs"
_A_NOTE = (
    "Of the fabric without straps, as it is labelled, in the photograph's own pixels, after"
    " detection, alignment and warping back; a face that is not found counts 0. Raw: the"
    " segmenter's map over 0.5. Cleaned: what the product takes for mask, before it is widened."
    " Missed: share of true mask pixels outside the widened map. No face: no face found on the"
    " mask; called bare: a face, but no mask. The test photographs only measure; our own chose"
    " checkpoints."
)


def labelled(bench: Bench) -> None:
    """Table A on the 48 test photographs and on our own, with their sheets, worst first."""
    for name, load in (("48 test", Photos.test), ("own validation", Photos.own)):
        photos = load(bench.data, bench.profile).photos
        photos = photos[: bench.count(len(photos))]
        pictures = ((p.name, p.image, present(p.image, bench.parts)) for p in photos)
        seen = list(see(bench.parts, pictures))
        rows = [_figures(*both) for both in zip(photos, seen, strict=True)]
        order = np.argsort([row["IoU"] for row in rows], kind="stable")
        bench.details[name] = {
            photos[i].name: {key: rows[i][key] for key in ("IoU", "IoU raw")} for i in order
        }
        bench.add("photos", _A, _A_NOTE, _rows(name, rows))
        if any(p.name.startswith(ODD) for p in photos):
            usual = [r for r, p in zip(rows, photos, strict=True) if not p.name.startswith(ODD)]
            if usual:
                bench.add("photos", _A, _A_NOTE, _rows(f"{name}, less {' and '.join(ODD)}", usual))
        entries = [_entry(photos[i], seen[i], rows[i]["IoU"]) for i in order]
        sheets.write(bench.out, f"photos_{name.split()[-1]}", entries)


def _figures(photo: Photo, seen: Seen) -> dict[str, float]:
    shape, truth = photo.image.shape, photo.truth
    raw = (lay(shape, seen.crops, [maps[0] for maps in seen.maps]) > 0.5) & photo.counted
    found = _fabric(seen) & photo.counted
    wide = [np.zeros_like(maps[0]) if w is None else w.wide for maps, w in _both(seen)]
    boxes = [np.rint(face.box).clip(0).astype(int) for face in seen.faces]
    met = any(truth[y0 : y1 + 1, x0 : x1 + 1].any() for x0, y0, x1, y1 in boxes)
    return {
        "IoU raw": iou(raw, photo), "IoU": iou(found, photo),
        "F1 raw": metrics.f1(raw, truth), "F1": metrics.f1(found, truth),
        "boundary F 1 px raw": metrics.boundary_f(raw, truth, 1),
        "boundary F 1 px": metrics.boundary_f(found, truth, 1),
        "boundary F 2 px raw": metrics.boundary_f(raw, truth, 2),
        "boundary F 2 px": metrics.boundary_f(found, truth, 2),
        "missed": metrics.missed(lay(shape, seen.crops, wide), truth),
        "no face": float(truth.any() and not met),
        "called bare": float(truth.any() and met and not found.any()),
    }  # fmt: skip


def _both(seen: Seen) -> Iterator[tuple[Maps, Worn | None]]:
    return zip(seen.maps, seen.worn, strict=True)


def _fabric(seen: Seen) -> Decision:
    """What the product takes for mask (H, W) in the picture's pixels, less its straps."""
    fabrics = [np.zeros_like(maps[0]) if w is None else w.fabric for maps, w in _both(seen)]
    return np.asarray(lay(seen.image.shape, seen.crops, fabrics) > 0.5)


def _outlines(seen: Seen) -> list[sheets.Outline]:
    """What was painted over, wider and with straps, and what was taken for mask."""
    return [(seen.touched > 0.5, sheets.PAINTED), (_fabric(seen), sheets.FOUND)]


def _rows(name: str, figures: Sequence[dict[str, float]]) -> list[Row]:
    """One row for the raw and one for the cleaned map."""
    rows: list[Row] = []
    for of, end in (("raw", " raw"), ("cleaned", "")):
        values = {key: np.array([figure[key] for figure in figures]) for key in figures[0]}
        ious = values["IoU" + end]
        rows.append({
            "photographs": name, "map": of, "n": len(figures),
            "mean IoU": float(ious.mean()), "median": float(np.median(ious)),
            "worst tenth": metrics.worst_tenth(ious), "above 0.8": float((ious > 0.8).mean()),
            "F1": float(values["F1" + end].mean()),
            "boundary F 1 px": float(values["boundary F 1 px" + end].mean()),
            "boundary F 2 px": float(values["boundary F 2 px" + end].mean()),
            "missed": None if end else float(values["missed"].mean()),
            "no face": int(values["no face"].sum()),
            "called bare": None if end else int(values["called bare"].sum()),
        })  # fmt: skip
    return rows


def _entry(photo: Photo, seen: Seen, score: float) -> sheets.Entry:
    """Input, outlines (true, found, painted over), result, around the faces and the mask."""
    mask_box = sheets.box_of(photo.truth)
    boxes = [face.box for face in seen.faces] + ([] if mask_box is None else [mask_box])
    box = sheets.around(boxes, photo.image.shape)
    outlines = [*_outlines(seen), (photo.truth, sheets.TRUE)]
    tiles = sheets.before_and_after(seen.image, seen.result, box, outlines)
    return sheets.Entry(f"IoU {score:.3f}  {photo.name}", tiles)


def false_edits(bench: Bench) -> None:
    """Table C on people who wear no mask, and a sheet of those that were changed."""
    sources = {
        "LFW train": _lfw(bench, False, COUNT),
        "LFW validation": _lfw(bench, True, len(bench.faces.names)),
        UNMASKED: searched(bench, UNMASKED, None),
    }
    entries = []
    for name, pictures in sources.items():
        total, faces, called, changed = 0, 0, [], []
        for seen in see(bench.parts, pictures):
            total, faces = total + 1, faces + len(seen.faces)
            called += [float((maps[0] > 0.5).mean()) for maps in seen.maps]
            if (seen.result != seen.image).any():
                changed.append(seen.name)
                entries.append(_changed(seen))
        bench.details[f"changed in {name}"] = changed
        more = len(changed) > 40
        row: Row = {
            "pictures of": name, "n": total, "faces": faces, "changed": len(changed),
            "share": len(changed) / max(total, 1),
            "area called mask": float(np.mean(called)) if called else None,
            "which": ", ".join([Path(one).stem for one in changed[:40]] + ["..."] * more),
        }  # fmt: skip
        note = "LFW: only the person whom the picture is of. Area: of the crop, raw map over 0.5."
        bench.add("false edits", "C. Unmasked faces that were changed", note, [row])
    sheets.write(bench.out, "false_edits", entries[:ON_SHEETS])


def _lfw(bench: Bench, validation: bool, most: int) -> Iterator[Picture]:
    faces = bench.faces.split(validation)
    for index in spread(len(faces.names), bench.count(most)):
        name = faces.names[index]
        yield name, faces.archive.read(name), (faces.face(index),)


def searched(bench: Bench, name: str, most: int | None) -> Iterator[Picture]:
    """Pictures of a zip file, evenly spread, with the faces that the product finds."""
    archive = Archive(bench.data / f"{name}.zip")
    names = archive.names()
    for index in spread(len(names), bench.count(len(names) if most is None else most)):
        image = archive.read(names[index])
        yield names[index], image, present(image, bench.parts)


def spread(total: int, wanted: int) -> list[int]:
    return np.linspace(0, total - 1, min(wanted, total)).astype(int).tolist() if total else []


def _changed(seen: Seen) -> sheets.Entry:
    faces = [f for f, one in zip(seen.faces, seen.worn, strict=True) if one is not None]
    boxes = [f.box if f.mesh is None else (*f.mesh.min(0), *f.mesh.max(0)) for f in faces]
    box = sheets.around(boxes, seen.image.shape, 0.4)
    tiles = sheets.before_and_after(seen.image, seen.result, box, _outlines(seen))
    return sheets.Entry(seen.name, tiles)


_F = "F. Real photographs without truth"
_F_NOTE = (
    "Photographs of masked people, evenly spread over the archive, the labelled ones among them;"
    " most of the others took part in self-training. Second look: the area that the segmenter, when"
    " asked again, calls mask in the result, in areas of the mask that was found. Still worn: faces"
    " on which the product would find a mask again. Accepted: share of masked faces that the"
    f" landmarker's network calls a face (presence over {MIN_PRESENCE}), before and after. Strayed:"
    " pixels changed where the map that was painted by is 0. Texture: the median contrast with what"
    " is 1.5 px around, in the photograph's own pixels, well inside the map in that on the cheeks"
    " beside it; of faces that are smaller than the crop and of those that are enlarged."
)


def unlabelled(bench: Bench) -> None:
    """Table F: what can be said of photographs of masked people without knowing the truth."""
    pictures, with_face, with_mask, faces, strayed = 0, 0, 0, 0, 0
    masked: list[dict[str, float]] = []
    for chunk in batches(see(bench.parts, searched(bench, CLOSE_UPS, COUNT))):
        for seen in chunk:
            pictures, faces = pictures + 1, faces + len(seen.faces)
            with_face += bool(seen.faces)
            with_mask += any(one is not None for one in seen.worn)
            strayed += metrics.strayed(seen.result, seen.image, seen.touched)
        masked += _second_look(bench, chunk)

    def mean(key: str) -> float | None:
        return float(np.mean([row[key] for row in masked])) if masked else None

    def middle(enlarged: bool) -> float | None:
        ratios = [row["texture"] for row in masked if (row["scale"] > 1) == enlarged]
        known = [ratio for ratio in ratios if not np.isnan(ratio)]
        return float(np.median(known)) if known else None

    row: Row = {
        "pictures of": CLOSE_UPS, "n": pictures, "with a face": with_face / max(pictures, 1),
        "with a mask": with_mask / max(pictures, 1), "faces": faces, "masked": len(masked),
        "second look": mean("second look"), "still worn": mean("still worn"),
        "accepted before": mean("before"), "accepted after": mean("after"), "strayed": strayed,
        "texture, small": middle(False), "texture, enlarged": middle(True),
    }  # fmt: skip
    bench.add("unlabelled", _F, _F_NOTE, [row])


def _second_look(bench: Bench, chunk: Sequence[Seen]) -> list[dict[str, float]]:
    """For each masked face, what the networks say of its result."""
    parts, profile = bench.parts, bench.profile
    masked = [
        (seen, face, one.fabric) for seen in chunk
        for face, one in zip(seen.faces, seen.worn, strict=True) if one is not None
    ]  # fmt: skip
    crops = [cut(seen.result, face, profile.eyes, profile.size) for seen, face, _ in masked]
    rows = []
    second = segment(parts.networks, [crop.image for crop in crops])
    for (seen, face, fabric), crop, maps in zip(masked, crops, second, strict=True):
        presence = [parts.landmarker.place(p, (face,))[0].score for p in (seen.image, seen.result)]
        rows.append({
            "second look": clean(maps[0], profile).sum() / fabric.sum(),
            "still worn": float(worn(maps, profile) is not None),
            "before": float(presence[0] > MIN_PRESENCE), "after": float(presence[1] > MIN_PRESENCE),
            "scale": scale_of(crop.to_frame), "texture": _texture(seen, crop, fabric > 0, profile),
        })  # fmt: skip
    return rows


def _texture(seen: Seen, crop: Crop, fabric: Decision, profile: Profile) -> float:
    """The texture of what was painted in that of the cheeks beside it."""
    inside = cv2.erode(fabric.astype(np.float32), np.ones((9, 9), np.uint8))
    cheeks = metrics.cheek(fabric, profile).astype(np.float32)
    painted, skin = (lay(seen.image.shape, [crop], [part]) > 0.5 for part in (inside, cheeks))
    beside = metrics.texture(seen.image, skin & (seen.touched == 0))
    return metrics.texture(seen.result, painted) / max(beside, 1 / 255 / 8)
