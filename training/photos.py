"""Real photographs of masked people: labelled ones to measure on, unlabelled ones to learn from.

    python -m training.photos --out runs/pseudo

lets the shipped segmenter label the unlabelled photographs and keeps those labels on which it
agrees with itself when the photograph is mirrored, scaled and shifted (self-training). The 48 test
photographs, our own labelled ones and everything that looks like one of them are left out.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from stream_unmask.backends import open_engine
from stream_unmask.faces.crop import cut
from stream_unmask.models.profile import PORTRAIT, PROFILES, Profile
from stream_unmask.models.segmenter import Segmenter
from stream_unmask.pipeline import pasted, whole_mask
from stream_unmask.types import Crop, Face, Image, Maps, Mask, Points
from training import camera, masks, metrics
from training.dataset import Archive, anywhere, face_finder, shaken
from training.fit import chw
from training.masks import Array
from training.metrics import Decision

OWN_LABELS = Path(__file__).parent / "labels_validation.json"
TRAINING_LABELS = Path(__file__).parent / "labels_training.json"
STRAP_LABELS = Path(__file__).parent / "labels_straps.json"  # of photographs that main labels
_BESIDE = 0.06  # the share of crops that are held anywhere in a photograph
REJECTED = Path(__file__).parent / "rejected_photos.txt"  # looked at: wrong, or faces left out
TEST_LABELS = "labels_photos_with_mask.json"
SCENES = "photos_with_mask_in_context"
CLOSE_UPS = "photos_with_mask"


@dataclass(frozen=True)
class Photo:
    """A labelled photograph: image, truth and counted (h, w) bool, and the faces found in it.

    straps, straps_counted: the same of straps; nothing is counted where nobody outlined any.
    """

    name: str
    image: Image
    truth: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    straps: NDArray[np.bool_]
    straps_counted: NDArray[np.bool_]
    faces: tuple[Face, ...]


def read_photo(data: Path, key: str) -> Image:
    """The photograph of a label's key: a close-up's name, or a scene's behind "in_context/"."""
    scene = key.startswith("in_context/")
    archive, names = _opened(data / f"{SCENES if scene else CLOSE_UPS}.zip")
    return archive.read(names[key.rsplit("/", 1)[-1]])


@cache
def _opened(path: Path) -> tuple[Archive, dict[str, str]]:
    """An archive, and its pictures' names by their last part."""
    archive = Archive(path)
    return archive, {name.rsplit("/", 1)[-1]: name for name in archive.names()}


def rasterise(polygons: list[list[list[float]]], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Pixels (h, w) of which polygons cover at least half, drawn at 8 x (data README)."""
    big = np.zeros((shape[0] * 8, shape[1] * 8), np.uint8)
    for polygon in polygons:
        points = (np.asarray(polygon, np.float64) + 0.5) * 8 - 0.5
        cv2.fillPoly(big, [np.rint(points * 16).astype(np.int32)], 255, shift=4)
    covered: NDArray[np.bool_] = cv2.resize(big, shape[1::-1], interpolation=cv2.INTER_AREA) >= 128
    return covered


def stroke(straps: list[dict[str, Any]], shape: tuple[int, ...], wider: float = 0) -> Decision:
    """Pixels (h, w) of which straps cover half. wider: is added to their width."""
    lines = [(np.asarray(strap["points"], np.float64), strap["width"] + wider) for strap in straps]
    return np.asarray(masks.strokes(lines, (shape[1], shape[0])) > 127.5 / 255)


class Photos:
    """Labelled photographs with their faces found once, so that segmenters can be compared."""

    def __init__(self, photos: list[Photo], profile: Profile) -> None:
        self.photos = photos
        self.crops = [
            [cut(photo.image, face, profile.eyes, profile.size) for face in photo.faces]
            for photo in photos
        ]

    @classmethod
    def load(cls, data: Path, labels: Path, profile: Profile) -> "Photos":
        """All photographs of a label file."""
        detector, landmarker = face_finder()
        photos = []
        for name, label in json.loads(labels.read_text(encoding="utf-8")).items():
            if label.get("skip"):
                continue
            image = read_photo(data, name)
            truth = rasterise(label["polygons"], image.shape)
            ignored = rasterise(label["ignore"], image.shape)
            faces = landmarker(image, detector(image))
            straps = _straps(label, image.shape, ~ignored, truth)
            photos.append(Photo(name, image, truth & ~ignored, ~ignored, *straps, faces))
        return cls(photos, profile)

    @classmethod
    def own(cls, data: Path, profile: Profile) -> "Photos":
        """The photographs labelled by this project: they choose checkpoints."""
        return cls.load(data, OWN_LABELS, profile)

    @classmethod
    def test(cls, data: Path, profile: Profile) -> "Photos":
        """The 48 labelled test photographs: they only measure."""
        return cls.load(data, data / TEST_LABELS, profile)

    def maps(self, predict: Callable[[torch.Tensor], list[Array]]) -> list[Mask]:
        """The map of each photograph in its own pixels, from predict(faces NCHW) -> maps HW."""
        crops = [crop for row in self.crops for crop in row]
        stack = np.stack([chw(crop.image.astype(np.float32) / 255) for crop in crops])
        found = iter(predict(torch.from_numpy(stack)))
        rows = [[next(found) for _ in row] for row in self.crops]
        return [
            lay(photo.image.shape, row, maps)
            for photo, row, maps in zip(self.photos, self.crops, rows, strict=True)
        ]

    def straps(self, predict: Callable[[torch.Tensor], list[Array]]) -> tuple[float, float]:
        """Precision and recall of the straps over all photographs in which they were outlined."""
        both = found_all = true_all = 0
        for mask, photo in zip(self.maps(predict), self.photos, strict=True):
            found = (mask > 0.5) & photo.straps_counted
            true = photo.straps & photo.straps_counted
            both += int((found & true).sum())
            found_all += int(found.sum())
            true_all += int(true.sum())
        return both / max(found_all, 1), both / max(true_all, 1)

    def ious(self, predict: Callable[[torch.Tensor], list[Array]]) -> Array:
        """The IoU of each photograph; 0 where no face was found."""
        maps = self.maps(predict)
        return np.array(
            [iou(m > 0.5, photo) for m, photo in zip(maps, self.photos, strict=True)], np.float32
        )


def _straps(
    label: dict[str, Any], shape: tuple[int, ...], counted: Decision, fabric: Decision
) -> tuple[Decision, Decision]:
    """A label's straps and where they count: outlines of something so thin are good to a pixel, so
    their rims do not, nor does what might be one."""
    if "straps" not in label:
        nothing = np.zeros(shape[:2], np.bool_)
        return nothing, nothing
    straps = stroke(label["straps"], shape)
    rim = stroke(label["straps"], shape, wider=2.5) & ~stroke(label["straps"], shape, wider=-1)
    return straps & ~fabric, counted & ~rim & ~rasterise(label["unsure"], shape)


def iou(found: NDArray[np.bool_], photo: Photo) -> float:
    """Intersection over union with a photograph's truth, where it counts."""
    return metrics.iou(found & photo.counted, photo.truth)


def lay(shape: tuple[int, ...], crops: list[Crop], maps: list[Array]) -> Mask:
    """Maps of crops in the pixels of their picture (h, w): the larger where they overlap."""
    sure = (np.where(mask < 0.02, 0, mask).astype(np.float32) for mask in maps)
    masked = [replace(crop, mask=mask) for crop, mask in zip(crops, sure, strict=True)]
    return whole_mask((shape[0], shape[1]), pasted(masked, (shape[0], shape[1])))


def unlabelled(data: Path) -> dict[str, Image]:
    """The photographs to learn from by key, none of which looks like a labelled one."""
    files = (data / TEST_LABELS, OWN_LABELS)
    held = {key for file in files for key in json.loads(file.read_text(encoding="utf-8"))}
    looks = np.stack([_look(read_photo(data, key)) for key in sorted(held)])
    looks = np.concatenate([looks, looks.reshape(-1, 16, 16)[:, :, ::-1].reshape(-1, 256)])
    kept = {}
    for archive_name, prefix in ((CLOSE_UPS, ""), (SCENES, "in_context/")):
        archive = Archive(data / f"{archive_name}.zip")
        for name in archive.names():
            key, image = prefix + name.rsplit("/", 1)[-1], archive.read(name)
            if key not in held and (looks @ _look(image)).max() < 0.93:
                kept[key] = image
    return kept


def _look(image: Image) -> Array:
    """A unit vector (256,) of how a picture looks from far away."""
    grey = cv2.resize(image.mean(2).astype(np.float32), (16, 16), interpolation=cv2.INTER_AREA)
    vector = (grey - grey.mean()).ravel()
    return vector / max(float(np.linalg.norm(vector)), 1e-6)


def agreed(
    image: Image, face: Face, segmenter: Segmenter, profile: Profile
) -> tuple[Crop, Mask, float]:
    """The crop of a face, its map averaged over six views, and how far the views agree (IoU)."""
    rng = np.random.default_rng(0)
    views: list[Points] = [profile.eyes] + [shaken(profile.eyes, rng) for _ in range(5)]
    crops = [cut(image, face, eyes, profile.size) for eyes in views]
    flips = [index % 2 == 1 for index in range(len(crops))]
    pictures = [c.image[:, ::-1] if f else c.image for c, f in zip(crops, flips, strict=True)]
    found = [maps[0] for maps in segmenter(pictures)]
    maps = [m[:, ::-1] if f else m for m, f in zip(found, flips, strict=True)]
    base = crops[0]
    aligned = []
    for crop, mask in zip(crops, maps, strict=True):
        to_frame, base_frame = (np.vstack([c.to_frame, (0, 0, 1)]) for c in (crop, base))
        matrix = (np.linalg.inv(base_frame) @ to_frame)[:2]
        aligned.append(cv2.warpAffine(np.ascontiguousarray(mask), matrix, profile.size))
    mean = np.mean(aligned, axis=0, dtype=np.float32)
    return base, mean, min(metrics.iou(m > 0.5, mean > 0.5) for m in aligned)


@dataclass(frozen=True)
class RealPhotos:
    """Photographs of masked people to learn from: labelled by hand, by a segmenter, or both.

    maps: (h, w, 2) uint8, 255 for fabric and for straps. counted: (h, w, 2) uint8, 255 where these
    are to be believed.
    faces: the anchors of each face and the number of its photograph; the first `by_hand` of them
    are in photographs of which at least the straps were outlined by hand. whole: so many of the
    first photographs were outlined by hand as a whole.
    """

    images: list[Image]
    maps: list[NDArray[np.uint8]]
    counted: list[NDArray[np.uint8]]
    faces: list[tuple[int, Points]]
    by_hand: int
    whole: int = 0

    @classmethod
    def load(cls, data: Path, folder: Path) -> "RealPhotos":
        """Our own outlines, and what `main` left in a folder, less what someone rejected."""
        images, maps, counted = [], [], []
        faces: list[tuple[int, Points]] = []
        for photo in Photos.load(data, TRAINING_LABELS, PORTRAIT).photos:
            for face in photo.faces:
                if face.anchors is not None and _touches(face, photo.truth):
                    faces.append((len(images), face.anchors))
            images.append(photo.image)
            maps.append(_bytes(photo.truth, photo.straps))
            counted.append(_bytes(photo.counted, photo.straps_counted))
        whole = len(images)
        taken = set(json.loads(TRAINING_LABELS.read_text(encoding="utf-8")))
        taken |= set(REJECTED.read_text(encoding="utf-8").split())
        outlined = json.loads(STRAP_LABELS.read_text(encoding="utf-8"))
        entries = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        entries = [entry for entry in entries if entry["key"] not in taken]
        entries.sort(key=lambda entry: entry["key"] not in outlined)
        by_hand = len(faces) + sum(entry["key"] in outlined for entry in entries)
        numbers: dict[str, int] = {}
        for entry in entries:
            key = entry["key"]
            if key not in numbers:
                numbers[key] = len(images)
                images.append(read_photo(data, key))
                found = cv2.imread(str(folder / entry["map"]), cv2.IMREAD_GRAYSCALE)
                everywhere, fabric = np.ones(found.shape, np.bool_), found > 127
                straps = _straps(outlined.get(key, {}), found.shape, everywhere, fabric)
                maps.append(np.dstack([found, straps[0].astype(np.uint8) * np.uint8(255)]))
                counted.append(_bytes(everywhere, straps[1]))
            faces.append((numbers[key], np.array(entry["anchors"], np.float32)))
        return cls(images, maps, counted, faces, by_hand, whole)

    def photographed(self, rng: Generator, profile: Profile) -> tuple[Array, Maps, Maps]:
        """Picture (h, w, 3), fabric and straps and where they count (2, h, w), framed, lit and
        compressed anew; now and then of what is beside the faces."""
        number, held = self._held(rng)
        face, target = Face((0, 0, 1, 1), held, 1.0), shaken(profile.eyes, rng)
        crop = cut(self.images[number], face, target, profile.size)
        labels = np.dstack([self.maps[number], self.counted[number]])
        label = cut(labels, face, target, profile.size).image.astype(np.float32) / 255
        (picture,) = camera.expose([crop.image.astype(np.float32) / 255], rng)
        picture = camera.photograph(picture, rng)
        flip = slice(None, None, -1 if rng.random() < 0.5 else 1)
        parts = label[:, flip].transpose(2, 0, 1)
        return picture[:, flip], parts[:2], parts[2:]

    def _held(self, rng: Generator) -> tuple[int, Points]:
        """The number of a photograph, and the anchors of a face in it, or of anything."""
        if self.whole and rng.random() < _BESIDE:
            number = int(rng.integers(self.whole))
            return number, anywhere(self.images[number].shape, rng)
        rest = len(self.faces) - self.by_hand
        by_hand = rest == 0 or (self.by_hand > 0 and rng.random() < 0.5)
        first, last = (0, self.by_hand) if by_hand else (self.by_hand, len(self.faces))
        return self.faces[int(rng.integers(first, last))]


def _bytes(fabric: Decision, straps: Decision) -> NDArray[np.uint8]:
    return np.dstack([fabric, straps]).astype(np.uint8) * np.uint8(255)


def _touches(face: Face, truth: NDArray[np.bool_]) -> bool:
    """Whether a face wears what was outlined: its lower half is at least a third mask."""
    x0, y0, x1, y1 = (max(round(at), 0) for at in face.box)
    area = truth[(y0 + y1) // 2 : y1, x0:x1]
    return bool(area.size and area.mean() > 0.33)


def main() -> None:
    parser = argparse.ArgumentParser(description="Labels real photographs for self-training.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/pseudo"))
    parser.add_argument("--profile", choices=PROFILES, default=PORTRAIT.name)
    parser.add_argument("--agreement", type=float, default=0.85, help="lowest IoU of the views")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    profile = PROFILES[args.profile]
    segmenter = Segmenter(open_engine(profile.segmenter))
    detector, landmarker = face_finder()
    index = []
    photos = unlabelled(args.data)
    for key, image in photos.items():
        faces = [f for f in landmarker(image, detector(image)) if f.box[2] - f.box[0] > 36]
        labelled = [(face, *agreed(image, face, segmenter, profile)) for face in faces]
        if not labelled or any(
            score < args.agreement or not 0.2 < float((mask > 0.5).sum()) / profile.unit**2 < 9
            for _, _, mask, score in labelled
        ):
            continue
        whole = lay(
            image.shape, [crop for _, crop, _, _ in labelled], [m for _, _, m, _ in labelled]
        )
        name = key.replace("/", "_").rsplit(".", 1)[0] + ".png"
        cv2.imwrite(str(args.out / name), np.rint(whole * 255).astype(np.uint8))
        held = [face.anchors for face, _, _, _ in labelled]
        index += [{"key": key, "map": name, "anchors": a.tolist()} for a in held if a is not None]
    (args.out / "index.json").write_text(json.dumps(index), encoding="utf-8")
    kept = len({entry["key"] for entry in index})
    print(f"{kept} of {len(photos)} photographs kept, {len(index)} faces")


if __name__ == "__main__":
    main()
