"""Crops of nobody: found beside the person of a picture, or cut anywhere."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.needs_train
pytest.importorskip("torch")

from stream_unmask.models.profile import PORTRAIT, Profile  # noqa: E402
from training.dataset import Archive, FaceSet, Samples, anywhere, face_finder, shaken  # noqa: E402
from training.nobody import Nobody, others  # noqa: E402
from training.segmenter import Draw  # noqa: E402


@pytest.fixture(scope="module")
def pair(faces: FaceSet, tmp_path_factory: pytest.TempPathFactory) -> FaceSet:
    """One picture of two people: the person whom it is of is on the left."""
    image = faces.archive.read(faces.names[0])
    path = tmp_path_factory.mktemp("pair") / "pair.zip"
    both = np.hstack([image, image[:, ::-1]])
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("pair.png", cv2.imencode(".png", both[..., ::-1])[1].tobytes())
    return FaceSet(Archive(path), ["pair.png"], faces.meshes[:1], faces.worn[:1])


def test_others_are_who_is_beside_the_person(pair: FaceSet) -> None:
    middle = pair.archive.read("pair.png").shape[1] / 2
    found = others(0, pair, *face_finder())
    assert any(face.eyes[:, 0].min() > middle for face in found)
    mine = pair.meshes[0].mean(0)
    for face in found:
        x0, y0, x1, y1 = face.box
        assert not (x0 < mine[0] < x1 and y0 < mine[1] < y1)


def test_crops_show_what_was_found_or_anything(faces: FaceSet, profile: Profile) -> None:
    held = np.float32([(40, 40), (70, 40)])
    nobody = Nobody(faces, [(faces.names[0], held)])
    seen = [nobody.photographed(np.random.default_rng(seed), profile) for seed in range(6)]
    assert {crop.shape for crop in seen} == {(profile.height, profile.width, 3)}
    again = nobody.photographed(np.random.default_rng(3), profile)
    assert np.array_equal(again, seen[3])
    assert not np.array_equal(seen[0], seen[1])


def test_anywhere_is_within_the_picture_and_of_any_size() -> None:
    rng, sides = np.random.default_rng(0), []
    for _ in range(200):
        held = anywhere((300, 400, 3), rng)
        assert 0 <= held[:, 0].mean() <= 400
        assert 0 <= held[:, 1].mean() <= 300
        sides.append(float(np.linalg.norm(held[1] - held[0])))
    assert min(sides) < 40 < 100 < max(sides)


def test_the_segmenter_is_shown_that_nobody_wears_no_mask(faces: FaceSet) -> None:
    """In about the share of crops that was planned."""
    samples = Samples([faces], [1.0], PORTRAIT, [], 1, paper=0, bare=0.35, framing=shaken)
    held = np.float32([(40, 40), (70, 40)])
    with_nobody, without = (
        Draw(samples, None, 0.0, nobody)
        for nobody in (Nobody(faces, [(faces.names[0], held)]), None)
    )
    other = [
        index for index in range(60) if not np.array_equal(with_nobody(index)[0], without(index)[0])
    ]
    assert 2 <= len(other) <= 20
    assert not any(with_nobody(index)[1].any() for index in other)


def test_only_the_split_that_was_asked_for_is_loaded(faces: FaceSet, tmp_path: Path) -> None:
    held = np.zeros((2, 2, 2), np.float32)
    np.savez(tmp_path / "nobody.npz", names=np.array(faces.names[:2]), anchors=held)
    loaded = [Nobody.load(tmp_path, faces, validation) for validation in (False, True)]
    assert [one.found[0][0] for one in loaded] == faces.names[:2]
