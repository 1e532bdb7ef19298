"""The faces to train on, found once and kept in an index; the samples that recipes draw from them.

    python -m training.dataset ../shared/data --cache runs/faces

reads the face sets (zip files of pictures), finds the face in each picture with the product's own
detector and landmarker, and keeps its mesh. Pictures are read from the zip files when needed.
"""

import argparse
import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stream_unmask.backends import open_engine
from stream_unmask.faces.crop import cut
from stream_unmask.faces.detector import FACE_DETECTION, Detector
from stream_unmask.faces.geometry import apply
from stream_unmask.faces.landmarks import FACE_LANDMARK, Landmarker, anchors
from stream_unmask.models.profile import PORTRAIT, Profile
from stream_unmask.types import Crop, Face, Image, Maps, Mask, Points
from training import camera, occluders, synthesis
from training.masks import Array
from training.synthesis import PlacementError, Template, Trio

Framing = Callable[[Points, Generator], Points]
_WORN_PASSES = 4
FACE_SETS = ("lfw_deepfunneled", "utkface_200x200", "celeba_89x109")


def is_validation(name: str) -> bool:
    """Whether a picture belongs to the validation split: LFW by person, the others by file."""
    path = PurePosixPath(name)
    key = path.parts[-2] if len(path.parts) > 1 else path.name
    return int(hashlib.sha1(key.encode()).hexdigest()[:8], 16) % 10 == 1


class Archive:
    """Pictures in a zip file; opened anew in each process that reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: zipfile.ZipFile | None = None

    def names(self) -> list[str]:
        """The names of all pictures."""
        with zipfile.ZipFile(self._path) as file:
            return sorted(n for n in file.namelist() if n.lower().endswith((".jpg", ".png")))

    def read(self, name: str) -> Image:
        """The picture, RGB; ValueError if it can't be decoded."""
        self._file = self._file or zipfile.ZipFile(self._path)
        data = np.frombuffer(self._file.read(name), np.uint8)
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
        if picture is None:
            raise ValueError(f"{name} in {self._path.name} is not a picture")
        return np.ascontiguousarray(picture[..., ::-1])

    def __getstate__(self) -> dict[str, object]:
        return {"_path": self._path, "_file": None}


def face_finder() -> tuple[Detector, Landmarker]:
    """The product's detector and landmarker."""
    detector = Detector(open_engine(FACE_DETECTION))
    return detector, Landmarker(open_engine(FACE_LANDMARK))


def main_face(image: Image, detector: Detector, landmarker: Landmarker) -> Face | None:
    """The largest face in a picture, with its mesh."""
    faces = landmarker(image, detector(image))
    return max(faces, key=lambda f: f.box[2] - f.box[0], default=None)


@dataclass(frozen=True)
class FaceSet:
    """Faces with their meshes (n, 468, 2) in the pixels of their pictures.

    worn: the meshes that the landmarker places on the same faces with a mask on.
    """

    archive: Archive
    names: list[str]
    meshes: NDArray[np.float32]
    worn: NDArray[np.float32]

    def split(self, validation: bool) -> "FaceSet":
        """The validation or the training faces alone."""
        keep = [i for i, name in enumerate(self.names) if is_validation(name) == validation]
        names = [self.names[i] for i in keep]
        return FaceSet(self.archive, names, self.meshes[keep], self.worn[keep])

    def face(self, index: int) -> Face:
        """A face as the landmarker found it."""
        mesh = self.meshes[index]
        held = anchors(mesh)
        return Face((0, 0, 1, 1), held, 1.0, mesh, held)

    def crop(self, index: int, eyes: Points, size: tuple[int, int], masked: bool = False) -> Crop:
        """The crop of a face whose anchors (2, 2) land where told."""
        return self.cropped(index, eyes, size, masked)[0]

    def cropped(
        self, index: int, eyes: Points, size: tuple[int, int], masked: bool = False
    ) -> tuple[Crop, Mask]:
        """The same, and where its picture is (h, w), 1, and not its repeated border, 0.

        masked: as the face will be held that wears a mask: closer, by its smaller mesh.
        """
        image, face = self.archive.read(self.names[index]), self.face(index)
        if masked:
            face = replace(face, anchors=anchors(self.worn[index]))
        crop = cut(image, face, eyes, size)
        whole = np.ones(image.shape[:2], np.float32)
        return crop, cv2.warpAffine(whole, crop.to_frame, size, flags=cv2.WARP_INVERSE_MAP)


def load_faces(cache: Path, data: Path, names: tuple[str, ...] = FACE_SETS) -> dict[str, FaceSet]:
    """The indexed face sets by name, as `main` left them in `cache`."""
    sets = {}
    for name in names:
        with np.load(cache / f"{name}.npz") as stored:
            sets[name] = FaceSet(
                Archive(data / f"{name}.zip"),
                stored["names"].tolist(), stored["meshes"], stored["worn"],
            )  # fmt: skip
    return sets


def exact(eyes: Points, _: Generator) -> Points:
    """The eyes (2, 2) where the profile wants them, as in live use."""
    return eyes


def nudged(eyes: Points, rng: Generator) -> Points:
    """The eyes as a good landmarker leaves them: a pixel and a degree off."""
    return _framed(eyes, rng.normal(0, 0.02, 2), rng.normal(1, 0.02), rng.normal(0, 1))


def shaken(eyes: Points, rng: Generator) -> Points:
    """The eyes where they land on hard faces: shifted, turned, and enlarged.

    Where much of a face is hidden the mesh is a guess, and its anchors are further off.
    """
    zoom = rng.uniform(0.88, 1.14) if rng.random() < 0.8 else rng.uniform(0.75, 1.4)
    return _framed(eyes, rng.normal(0, 0.064, 2), zoom, rng.normal(0, 4))


def _framed(eyes: Points, shift: NDArray[np.float64], zoom: float, degrees: float) -> Points:
    distance = float(eyes[1, 0] - eyes[0, 0])
    centre = eyes.mean(0) + shift * distance
    reach = distance / 2 * zoom
    angle = np.radians(degrees)
    arm = reach * np.array([np.cos(angle), np.sin(angle)])
    return np.stack([centre - arm, centre + arm]).astype(np.float32)


def anywhere(shape: tuple[int, ...], rng: Generator) -> Points:
    """Anchors (2, 2) of any size and roll anywhere in a picture: as a rule not on a face."""
    height, width = shape[:2]
    reach = rng.uniform(0.03, 0.14) * max(height, width)
    angle = rng.normal(0, 0.4)
    arm = reach * np.array([np.cos(angle), np.sin(angle)])
    centre = rng.uniform(0, 1, 2) * (width, height)
    return np.array([centre - arm, centre + arm], np.float32)


@dataclass(frozen=True)
class Samples:
    """Draws trios from face sets: sample `index` is always the same for a seed.

    weights: how often each set is drawn. paper: share of the paper's twelve overlays. bare: share
    of faces without a mask. The rest wears wide masks. framing: where the eyes land in the crop.
    """

    sets: list[FaceSet]
    weights: list[float]
    profile: Profile
    templates: list[Template]
    seed: int
    paper: float
    bare: float
    framing: Framing = exact

    def trio(self, rng: Generator) -> Trio:
        """A trio in the profile's crop, before any camera; half of them mirrored."""
        while True:
            faces = self.sets[rng.choice(len(self.sets), p=self.weights)]
            eyes = self.framing(self.profile.eyes, rng)
            # A mask makes the mesh small and the crop close. Half of all, with a mask or bare, so
            # that the scale doesn't tell which.
            close = bool(rng.random() < 0.5)
            crop = faces.crop(int(rng.integers(len(faces.names))), eyes, self.profile.size, close)
            trio = self.dress(crop, rng)
            if trio is not None:
                return mirrored(trio) if rng.random() < 0.5 else trio

    def dress(self, crop: Crop, rng: Generator) -> Trio | None:
        """The trio of a bare face's crop; None if the mask that was drawn doesn't fit it."""
        assert crop.mesh is not None
        try:
            return self._dress(crop.image.astype(np.float32) / 255, crop.mesh, rng)
        except PlacementError:
            return None

    def _dress(self, face: Array, mesh: Points, rng: Generator) -> Trio:
        kind = rng.random()
        if kind < self.bare:
            return synthesis.unmasked(face, mesh, rng)
        if kind < self.bare + self.paper:
            template = self.templates[rng.integers(len(self.templates))]
            return synthesis.overlay(face, mesh, template)
        if rng.random() < 0.12:
            face = occluders.scarf(face, mesh, rng)
        return synthesis.wear(face, mesh, rng, lambda: self._patch(rng))

    def photographed(self, index: int) -> tuple[Array, Maps]:
        """Picture (h, w, 3) of a trio as a camera delivers it, and the maps (2, h, w) of fabric and
        straps: for the segmenter."""
        rng = np.random.default_rng((self.seed, index))
        trio = self.trio(rng)
        # Photographs of masked people are often cut close to the face: unless as many bare faces
        # are, too, a network takes the repeated border for the sign of a mask.
        tight = 0.3 if trio.mask.any() else 0.7
        rows, columns = camera.frame(rng, self.profile.size, tight)
        (picture,) = camera.expose([trio.masked], rng)
        window = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        window = np.ascontiguousarray(camera.photograph(window, rng))
        top, left = rows[0], columns[0]
        maps = np.stack([trio.mask, trio.straps])
        return window[rows - top][:, columns - left], maps[:, rows][:, :, columns]

    def _patch(self, rng: Generator) -> Array:
        """A piece of any photograph."""
        faces = self.sets[rng.integers(len(self.sets))]
        image = faces.archive.read(faces.names[rng.integers(len(faces.names))])
        height, width = image.shape[:2]
        side = int(rng.uniform(0.2, 0.8) * min(height, width))
        y, x = rng.integers(0, height - side), rng.integers(0, width - side)
        return image[y : y + side, x : x + side].astype(np.float32) / 255


def mirrored(trio: Trio) -> Trio:
    """A trio, left and right exchanged."""
    parts = (trio.face, trio.masked, trio.mask, trio.straps, trio.lit)
    return Trio(*(part[:, ::-1] for part in parts))


def index(archive: Archive, detector: Detector, landmarker: Landmarker) -> dict[str, object]:
    """Names and meshes, bare and `worn`, of all pictures of an archive with a face."""
    names, faces = [], []
    for name in archive.names():
        face = main_face(archive.read(name), detector, landmarker)
        if face is not None and face.mesh is not None:
            names.append(name)
            faces.append(face)
    meshes = np.stack([face.mesh for face in faces if face.mesh is not None])
    worn = meshes_with_masks(FaceSet(archive, names, meshes, meshes), landmarker)
    return {"names": np.array(names), "meshes": meshes, "worn": worn}


def meshes_with_masks(faces: FaceSet, landmarker: Landmarker) -> NDArray[np.float32]:
    """The meshes (n, 468, 2) that the landmarker places on faces that were given a mask.

    As in use, where each is looked for around the one before: a mesh that a mask makes small is
    then looked for too closely, and shrinks again. After four times it hardly changes.
    """
    samples = Samples([faces], [1.0], PORTRAIT, [], 0, paper=0, bare=0)
    worn = np.empty_like(faces.meshes)
    for index in range(len(worn)):
        crop = faces.crop(index, PORTRAIT.eyes, PORTRAIT.size)
        trio = samples.dress(crop, np.random.default_rng(index))
        assert trio is not None
        assert crop.mesh is not None
        picture = np.rint(trio.masked.clip(0, 1) * 255).astype(np.uint8)
        face = replace(faces.face(index), mesh=crop.mesh)
        for _ in range(_WORN_PASSES):
            (face,) = landmarker.place(picture, (face,))
        assert face.mesh is not None
        worn[index] = apply(crop.to_frame, face.mesh)
    return worn


def main() -> None:
    parser = argparse.ArgumentParser(description="Finds the faces in the training pictures.")
    parser.add_argument("data", type=Path, help="folder with the zip files")
    parser.add_argument("--cache", type=Path, default=Path("runs/faces"))
    parser.add_argument("--sets", nargs="+", default=FACE_SETS, help="names of the zip files")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    detector, landmarker = face_finder()
    for name in arguments.sets:
        archive = Archive(arguments.data / f"{name}.zip")
        found = index(archive, detector, landmarker)
        np.savez(arguments.cache / f"{name}.npz", **found)
        print(f"{name}: {len(found['names'])} faces in {len(archive.names())} pictures", flush=True)


if __name__ == "__main__":
    main()
