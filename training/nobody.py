"""Crops in which nobody wears a mask: what the detector takes for faces beside a picture's person,
and windows anywhere.

python -m training.nobody ../shared/data

Who was only shown faces sees a mask on a car and on a lamp. All pictures here are of bare people,
so whoever else is in them wears none either.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stream_unmask.faces.crop import cut
from stream_unmask.faces.detector import Detector, covers
from stream_unmask.faces.landmarks import Landmarker
from stream_unmask.models.profile import Profile
from stream_unmask.types import Face, Points
from training import camera
from training.dataset import FaceSet, anywhere, face_finder, is_validation, load_faces, shaken
from training.masks import Array

SOURCE = "lfw_deepfunneled"  # its pictures show most besides the person whom they are of
_PASSES = 3  # as the product places meshes
_FOUND = 0.6  # the share of crops that the detector would take for faces


def others(index: int, faces: FaceSet, detector: Detector, landmarker: Landmarker) -> list[Face]:
    """What the detector sees in a picture besides its person, however unsure the landmarks are."""
    image, mesh = faces.archive.read(faces.names[index]), faces.meshes[index]
    person = replace(faces.face(index), box=(*mesh.min(0).tolist(), *mesh.max(0).tolist()))
    found = tuple(face for face in detector(image) if not covers(face, person))
    for _ in range(_PASSES):
        found = landmarker.place(image, found)
    return [face for face in found if not covers(face, person)]


@dataclass(frozen=True)
class Nobody:
    """Draws such crops. faces: the set they are from. found: picture and anchors (2, 2) of each."""

    faces: FaceSet
    found: list[tuple[str, Points]]

    @classmethod
    def load(cls, cache: Path, faces: FaceSet, validation: bool) -> "Nobody":
        """Of the training or the validation pictures."""
        with np.load(cache / "nobody.npz") as stored:
            both = zip(stored["names"].tolist(), stored["anchors"], strict=True)
            found = [(name, held) for name, held in both if is_validation(name) == validation]
        return cls(faces.split(validation), found)

    def photographed(self, rng: Generator, profile: Profile) -> Array:
        """A crop (h, w, 3) of the profile, as a camera delivers it."""
        if rng.random() < _FOUND:
            name, held = self.found[int(rng.integers(len(self.found)))]
            image = self.faces.archive.read(name)
        else:
            image = self.faces.archive.read(self.faces.names[rng.integers(len(self.faces.names))])
            held = anywhere(image.shape, rng)
        face, target = Face((0, 0, 1, 1), held, 1.0), shaken(profile.eyes, rng)
        crop = cut(image, face, target, profile.size)
        (picture,) = camera.expose([crop.image.astype(np.float32) / 255], rng)
        return camera.photograph(picture, rng)


def main() -> None:
    parser = argparse.ArgumentParser(description="Finds what is taken for faces and is not one.")
    parser.add_argument("data", type=Path, help="folder with the zip files")
    parser.add_argument("--cache", type=Path, default=Path("runs/faces"))
    arguments = parser.parse_args()
    faces = load_faces(arguments.cache, arguments.data, (SOURCE,))[SOURCE]
    finder = face_finder()
    names: list[str] = []
    held: list[NDArray[np.float32]] = []
    for index, name in enumerate(faces.names):
        for face in others(index, faces, *finder):
            if face.anchors is not None:
                names.append(name)
                held.append(face.anchors)
    np.savez(arguments.cache / "nobody.npz", names=np.array(names), anchors=np.stack(held))
    print(f"{len(names)} besides {len(faces.names)} people")


if __name__ == "__main__":
    main()
