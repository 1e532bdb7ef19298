"""What the tests of training share: a tiny face set, found by the product's own parts."""

import zipfile

import cv2
import numpy as np
import pytest

from training.dataset import Archive, FaceSet, face_finder, index

# Named as UTKFace's pictures are; the second one belongs to the validation split.
NAMES = ("35_1_0_20170101.png", "35_1_0_20170132.png", "nobody.png")


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """A zip file with a portrait, the same mirrored, and a picture of nobody."""
    portrait = np.ascontiguousarray(pytest.importorskip("skimage.data").astronaut())[:300, 80:380]
    path = tmp_path_factory.mktemp("faces") / "tiny.zip"
    pictures = (portrait, portrait[:, ::-1], np.full((90, 90, 3), 120, np.uint8))
    with zipfile.ZipFile(path, "w") as file:
        for name, picture in zip(NAMES, pictures, strict=True):
            file.writestr(name, cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
        file.writestr("readme.txt", "no picture")
    return Archive(path)


@pytest.fixture(scope="session")
def faces(archive: Archive) -> FaceSet:
    """Its faces with their meshes."""
    found = index(archive, *face_finder())
    names = np.asarray(found["names"]).tolist()
    return FaceSet(archive, names, np.asarray(found["meshes"]), np.asarray(found["worn"]))
