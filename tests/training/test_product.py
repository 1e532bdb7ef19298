import numpy as np
import pytest

pytest.importorskip("skimage", reason="needs the train extra")
pytest.importorskip("torch", reason="needs the train extra")

from stream_unmask.backends.function import FunctionEngine
from stream_unmask.models.enhancer import Enhancer
from stream_unmask.models.inpainter import Inpainter
from stream_unmask.models.profile import PAPER, PORTRAIT
from stream_unmask.models.segmenter import Segmenter
from stream_unmask.pipeline import appearance
from stream_unmask.types import Crop, Face
from stream_unmask.unmask import Networks
from training import product
from training.evaluate_pairs import Pair
from training.evaluate_profiles import Picture, Way, _row, found, repaint

pytestmark = pytest.mark.needs_train


def shape(profile):
    return profile.height, profile.width


def maps(profile):
    """A mask over the lower face and, of profiles that look for them, a strap beside it."""
    found = np.zeros((profile.maps, *shape(profile)), np.float32)
    rows, columns = profile.window(0.4, 1.7, 0.8)
    found[0, rows, columns] = 1
    found[-1, rows.start : rows.start + 4, 4 : columns.start] = profile.maps - 1
    return found


def networks(profile, level=0.5):
    """Networks that find that mask in any crop and paint a plain face."""

    def segmenter(faces):
        return np.repeat(maps(profile)[None], len(faces), 0)

    def inpainter(given):
        return np.full_like(given[:, :3], level)

    enhancer = None
    if profile.enhancer is not None:
        enhancer = Enhancer(FunctionEngine(profile.enhancer, lambda luma: luma))
    return Networks(
        profile, Segmenter(FunctionEngine(profile.segmenter, segmenter)),
        Inpainter(FunctionEngine(profile.inpainter, inpainter), appearance(profile)), enhancer,
    )  # fmt: skip


@pytest.mark.parametrize("profile", [PAPER, PORTRAIT])
def test_worn_parts_fabric_and_straps(profile):
    one = product.worn(maps(profile), profile)
    strap = (profile.window(0.4, 1.7, 0.8)[0].start + 2, 5)
    assert one.fabric[strap] == 0
    assert one.wide[strap] == (1 if profile is PORTRAIT else 0)
    assert (one.wide[one.fabric == 1] == 1).all()
    assert one.wide.sum() > one.fabric.sum()
    assert product.worn(np.zeros_like(maps(profile)), profile) is None


@pytest.mark.parametrize("profile", [PAPER, PORTRAIT])
def test_steps_are_those_of_the_profile(profile):
    face = np.full((*shape(profile), 3), 90, np.uint8)
    steps = product.painted(networks(profile), [face] * 3, [maps(profile)[0]] * 3, [None] * 3)
    enhanced = [product.SRCNN] * (profile is PAPER)
    assert list(steps) == [product.AE, *enhanced, product.MERGED]
    assert all(len(images) == 3 for images in steps.values())
    assert (steps[product.MERGED][0][0] == face[0]).all()


def test_crops_without_a_map_stay_as_they_are():
    image = np.full((*shape(PORTRAIT), 3), 90, np.uint8)
    crop = Crop(image, np.eye(2, 3))
    bare, masked = product.repainted(networks(PORTRAIT), [crop] * 2, [None, maps(PORTRAIT)[0]])
    assert bare is crop
    assert masked.mask is not None
    assert product.repainted(networks(PORTRAIT), [], []) == []


def test_a_picture_goes_through_the_product():
    image = np.full((*shape(PAPER), 3), 90, np.uint8)

    class Parts:
        networks = networks(PAPER)

    faces = (Face((0, 0, 1, 1), PAPER.eyes, 1.0),)
    pictures = [("two", image, faces * 2), ("none", image, ()), ("one", image, faces)]
    two, none, one = product.see(Parts, pictures)
    assert [len(seen.worn) for seen in (two, none, one)] == [2, 0, 1]
    assert none.touched.max() == 0
    assert (none.result == image).all()
    assert one.touched[PAPER.window(0.5, 1.6, 0.7)].min() == 1
    assert one.maps[0].shape == (1, *shape(PAPER))


def picture():
    """A face with a mask on in the portrait crop, the upper three quarters of it photographed."""
    rng = np.random.default_rng(0)
    face = rng.integers(80, 120, (*shape(PORTRAIT), 3), np.uint8)
    mask, straps = maps(PORTRAIT)
    masked = np.where(mask[..., None] > 0, np.uint8(250), face)
    known = np.ones_like(mask)
    known[168:] = 0
    mesh = rng.normal(PORTRAIT.eyes.mean(0) + (0, 60), (35, 45), (468, 2)).astype(np.float32)
    return Picture(0, Pair(face, masked, mask, straps, mesh, known))


@pytest.mark.parametrize("profile", [PAPER, PORTRAIT])
def test_each_profile_repaints_the_same_picture(profile):
    given = picture()
    crops, wide = found(networks(profile), [given])
    assert crops[0].image.shape == (*shape(profile), 3)
    (result,) = repaint(networks(profile), [given], crops, wide)
    assert result.shape == given.pair.masked.shape
    assert (result != given.pair.masked).any()
    (same,) = repaint(networks(profile), [given], crops, [None])
    assert (same == given.pair.masked).all()


def test_only_what_was_photographed_is_compared():
    given = picture()
    result = given.pair.face.copy()
    result[168:] = 0
    row = _row(Way([result], [False]), [given], [True])
    assert row["dB inside"] == row["dB inside, by all found"] == float("inf")
    assert row["gradient energy"] == pytest.approx(1)
    assert row["seam"] == row["skin, apart"] == row["remnant"] == row["called bare"] == 0
    left = _row(Way([given.pair.masked], [True]), [given], [False])
    assert left["dB inside, by all found"] is None
    assert left["remnant"] == left["called bare"] == 1
