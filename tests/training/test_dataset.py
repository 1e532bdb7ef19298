"""The face sets, and the samples drawn from them: the same for the same seed, in either crop."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from stream_unmask.faces.geometry import apply, invert
from stream_unmask.faces.landmarks import anchors
from stream_unmask.models.profile import PAPER, PORTRAIT, Profile
from training import synthesis
from training.dataset import (
    Archive,
    FaceSet,
    Framing,
    Samples,
    exact,
    face_finder,
    mirrored,
    nudged,
    shaken,
)


def samples(faces: FaceSet, profile: Profile = PORTRAIT, seed: int = 3, **shares: float) -> Samples:
    """Wide masks alone, unless told."""
    parts = {"paper": 0.0, "bare": 0.0} | shares
    templates = synthesis.drawn_templates()
    return Samples([faces], [1.0], profile, templates, seed, **parts, framing=shaken)


def test_pictures_are_read_in_red_green_blue(archive: Archive) -> None:
    assert len(archive.names()) == 3
    portrait = np.ascontiguousarray(pytest.importorskip("skimage.data").astronaut())[:300, 80:380]
    assert np.array_equal(archive.read(archive.names()[0]), portrait)


def test_an_archive_travels_to_another_process(archive: Archive) -> None:
    archive.read("nobody.png")
    assert pickle.loads(pickle.dumps(archive)).read("nobody.png").shape == (90, 90, 3)


def test_each_face_is_found_with_its_mesh_bare_and_masked(faces: FaceSet) -> None:
    assert faces.names == ["35_1_0_20170101.png", "35_1_0_20170132.png"]
    assert faces.meshes.shape == faces.worn.shape == (2, 468, 2)
    unit = np.linalg.norm(np.diff(anchors(faces.meshes[0]), axis=0))
    off = np.linalg.norm(faces.worn - faces.meshes, axis=2) / unit
    assert 0.005 < off.mean() < 0.2  # the landmarker guesses, but not wildly
    # The second picture is the first one mirrored.
    first, second = (anchors(mesh)[:, 0] for mesh in faces.meshes)
    assert np.abs(first + second[::-1] - 299).max() < 0.1 * unit


def test_the_split_keeps_names_and_meshes_together(faces: FaceSet) -> None:
    train, unseen = faces.split(False), faces.split(True)
    assert (train.names, unseen.names) == ([faces.names[0]], [faces.names[1]])
    assert np.array_equal(train.meshes, faces.meshes[:1])
    assert np.array_equal(unseen.worn, faces.worn[1:])


def test_a_crop_holds_the_face_by_its_anchors(faces: FaceSet, profile: Profile) -> None:
    crop = faces.crop(0, profile.eyes, profile.size)
    assert crop.image.shape == (profile.height, profile.width, 3)
    assert crop.mesh is not None
    assert np.abs(anchors(crop.mesh) - profile.eyes).max() < 0.02


def test_a_masked_face_is_held_by_its_smaller_mesh(faces: FaceSet) -> None:
    crop, _ = faces.cropped(0, PORTRAIT.eyes, PORTRAIT.size, masked=True)
    assert crop.mesh is not None
    held = apply(invert(crop.to_frame), anchors(faces.worn[0]))
    assert np.abs(held - PORTRAIT.eyes).max() < 0.02
    # What it holds is still the true mesh.
    assert np.abs(apply(crop.to_frame, crop.mesh) - faces.meshes[0]).max() < 0.02


def test_a_masks_mesh_is_that_of_being_placed_again_and_again(faces: FaceSet) -> None:
    """It hardly changes any more, and is not what the first placing gives."""
    _, landmarker = face_finder()
    crop = faces.crop(0, PORTRAIT.eyes, PORTRAIT.size)
    trio = Samples([faces], [1.0], PORTRAIT, [], 0, paper=0, bare=0).dress(
        crop, np.random.default_rng(0)
    )
    assert trio is not None
    picture = np.rint(trio.masked.clip(0, 1) * 255).astype(np.uint8)
    mesh = apply(invert(crop.to_frame), faces.worn[0])
    (again,) = landmarker.place(picture, (replace(faces.face(0), mesh=mesh),))
    (once,) = landmarker.place(picture, (replace(faces.face(0), mesh=crop.mesh),))
    assert again.mesh is not None
    assert once.mesh is not None
    settled, first = (np.linalg.norm(m - mesh, axis=1).mean() for m in (again.mesh, once.mesh))
    assert settled < 0.25 * first


def test_where_the_picture_ended_is_known(faces: FaceSet) -> None:
    """The portrait fills the tight crop; above the paper's it ends."""
    whole = faces.cropped(0, PORTRAIT.eyes, PORTRAIT.size)[1]
    assert whole.min() == 1
    crop, known = faces.cropped(0, PAPER.eyes, PAPER.size)
    assert known.shape == crop.image.shape[:2]
    assert known[50:].min() == 1
    assert not known[0].any()
    border = crop.image[:4].astype(int)
    assert np.abs(np.diff(border, axis=0)).max() <= 2  # what is not known is a repetition


@pytest.mark.parametrize(
    ("framing", "low", "high"), [(exact, 0, 1e-5), (nudged, 0.01, 0.04), (shaken, 0.04, 0.1)]
)
def test_framings_are_reproducible_and_stay_near(
    framing: Framing, profile: Profile, low: float, high: float
) -> None:
    def draw(seed: int) -> np.ndarray:
        return framing(profile.eyes, np.random.default_rng(seed))

    drawn = np.stack([draw(seed) for seed in range(60)])
    assert np.array_equal(drawn[7], draw(7))
    assert low <= drawn.mean(1).std(0).max() / profile.unit <= high


def test_a_face_is_dressed_in_its_crop(faces: FaceSet, profile: Profile) -> None:
    source, crop = samples(faces, profile), faces.crop(0, profile.eyes, profile.size)
    trios = [source.dress(crop, np.random.default_rng(seed)) for seed in range(12)]
    again = source.dress(crop, np.random.default_rng(4))
    assert again is not None
    assert trios[4] is not None
    assert np.array_equal(trios[4].masked, again.masked)
    straps = 0
    for trio in trios:
        assert trio is not None
        assert trio.masked.shape == trio.face.shape == crop.image.shape
        assert trio.mask.shape == trio.straps.shape == crop.image.shape[:2]
        assert -1e-6 < trio.straps.min() <= trio.straps.max() < 1 + 1e-6
        assert (trio.mask + trio.straps).max() <= 1 + 1e-5  # a strap ends where the cloth begins
        straps += bool(trio.straps.any())
    assert 6 <= straps < 12


def test_a_mask_that_does_not_fit_gives_none(faces: FaceSet) -> None:
    crop = faces.crop(0, PORTRAIT.eyes, PORTRAIT.size)
    assert crop.mesh is not None
    collapsed = replace(crop, mesh=np.repeat(crop.mesh[:1], 468, 0))
    assert samples(faces, paper=1.0).dress(collapsed, np.random.default_rng(0)) is None
    assert samples(faces, paper=1.0).dress(crop, np.random.default_rng(0)) is not None


def test_mirrored_exchanges_left_and_right_of_all_parts(faces: FaceSet) -> None:
    trio = samples(faces).trio(np.random.default_rng(0))
    twin = mirrored(trio)
    for part in ("face", "masked", "mask", "straps"):
        assert np.array_equal(getattr(twin, part)[:, ::-1], getattr(trio, part))
    assert not np.array_equal(twin.masked, trio.masked)


def test_photographs_are_the_same_for_a_seed_and_an_index(faces: FaceSet, profile: Profile) -> None:
    picture, maps = samples(faces, profile).photographed(5)
    assert picture.shape == (profile.height, profile.width, 3)
    assert maps.shape == (2, profile.height, profile.width)
    assert 0 <= picture.min() <= picture.max() <= 1
    assert -1e-6 < maps.min() <= maps.max() < 1 + 1e-6
    assert maps[0].max() > 0.9
    same = samples(faces, profile).photographed(5)
    assert np.array_equal(same[0], picture)
    assert np.array_equal(same[1], maps)
    for seed, index in ((3, 6), (4, 5)):
        assert not np.array_equal(samples(faces, profile, seed).photographed(index)[0], picture)


def test_bare_faces_have_empty_maps(faces: FaceSet) -> None:
    source = samples(faces, bare=1.0)
    assert not any(source.photographed(index)[1].any() for index in range(5))
