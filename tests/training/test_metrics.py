import math

import cv2
import numpy as np
import pytest

pytest.importorskip("skimage", reason="needs the train extra")

from stream_unmask.models.profile import PAPER, PORTRAIT
from training import metrics
from training.metrics import Table

pytestmark = pytest.mark.needs_train

SHAPE = (PAPER.height, PAPER.width)


def square(x0, y0, x1, y1, shape=(40, 40)):
    found = np.zeros(shape, np.bool_)
    found[y0:y1, x0:x1] = True
    return found


def flat(level, shape=SHAPE):
    return np.full((*shape, 3), level, np.uint8)


NOTHING = square(0, 0, 0, 0)
BLOCK = square(10, 10, 20, 20)


def test_perfect_decisions():
    assert metrics.accuracy(BLOCK, BLOCK) == 1
    assert metrics.iou(BLOCK, BLOCK) == 1
    assert metrics.f1(BLOCK, BLOCK) == 1
    assert metrics.boundary_f(BLOCK, BLOCK, 1) == 1


@pytest.mark.parametrize("score", [metrics.iou, metrics.f1])
def test_nothing_found(score):
    assert score(NOTHING, NOTHING) == 1
    assert score(NOTHING, BLOCK) == 0
    assert score(BLOCK, NOTHING) == 0


def test_half_a_block():
    half = square(10, 10, 20, 15)
    assert metrics.iou(half, BLOCK) == pytest.approx(0.5)
    assert metrics.f1(half, BLOCK) == pytest.approx(2 / 3)
    assert metrics.accuracy(half, BLOCK) == pytest.approx(1 - 50 / 1600)


def test_cross_entropy():
    assert metrics.cross_entropy(np.full((40, 40), 0.5, np.float32), BLOCK) == pytest.approx(
        math.log(2)
    )
    assert metrics.cross_entropy(BLOCK.astype(np.float32), BLOCK) < 1e-6
    wrong = metrics.cross_entropy(1 - BLOCK.astype(np.float32), BLOCK)
    assert wrong == pytest.approx(-math.log(1e-7), rel=1e-3)


def test_outlines_within_reach():
    one, two = square(9, 9, 21, 21), square(8, 8, 22, 22)  # larger than BLOCK on every side
    assert 0.8 < metrics.boundary_f(one, BLOCK, 1) < 1  # a corner is further away than a side
    assert metrics.boundary_f(one, BLOCK, 2) == 1
    assert metrics.boundary_f(two, BLOCK, 1) == 0
    assert metrics.boundary_f(two, BLOCK, 3) == 1
    half = square(10, 10, 20, 14)
    precision, recall = 16 / 24, 16 / 36  # the lower side is none of BLOCK's, except for its ends
    wanted = 2 * precision * recall / (precision + recall)
    assert metrics.boundary_f(half, BLOCK, 0) == pytest.approx(wanted)


def test_outlines_of_nothing():
    assert metrics.boundary_f(NOTHING, NOTHING, 1) == 1
    assert metrics.boundary_f(NOTHING, BLOCK, 1) == 0
    assert metrics.boundary_f(BLOCK, NOTHING, 1) == 0


def test_the_edge_of_the_picture_is_no_outline():
    lower_half, lower_third = square(0, 20, 40, 40), square(0, 26, 40, 40)
    assert metrics.boundary_f(lower_half, lower_third, 2) == 0
    assert metrics.boundary_f(~NOTHING, ~NOTHING, 1) == 1


def test_missed():
    cover = square(10, 10, 20, 18).astype(np.float32)
    assert metrics.missed(cover, BLOCK) == pytest.approx(0.2)
    assert metrics.missed(cover * 0.4, BLOCK) == 1
    assert metrics.missed(cover, NOTHING) == 0


def test_specks():
    assert metrics.specks(NOTHING) == 0
    assert metrics.specks(BLOCK) == 0
    assert metrics.specks(BLOCK | square(30, 30, 31, 31) | square(0, 0, 2, 2)) == 2
    assert metrics.specks(BLOCK | square(20, 20, 22, 22)) == 0  # they touch at a corner


def test_holes():
    assert metrics.holes(NOTHING) == 0
    assert metrics.holes(~NOTHING) == 0
    assert metrics.holes(BLOCK) == 0
    assert metrics.holes(BLOCK & ~square(12, 12, 14, 14)) == 1
    assert metrics.holes(BLOCK & ~square(12, 12, 13, 13) & ~square(13, 13, 14, 14)) == 2
    assert metrics.holes(BLOCK & ~square(10, 12, 14, 14)) == 0  # a bay
    band = square(0, 10, 40, 20)  # parts the picture, but neither part is shut off
    assert metrics.holes(band) == 0


def test_ring():
    near = metrics.ring(BLOCK, 0, 3)
    assert not (near & BLOCK).any()
    assert near[8, 15]
    assert near[7, 15]
    assert not near[6, 15]
    assert not metrics.ring(BLOCK, 2, 3)[8, 15]
    assert not metrics.ring(NOTHING, 0, 3).any()


def test_cheeks_are_skin_beside_the_mask():
    mask = square(48, 125, 128, 175, SHAPE)
    cheeks = metrics.cheek(mask, PAPER)
    assert 200 < cheeks.sum() < 2500
    assert not (cheeks & mask).any()
    for x, y in PAPER.eyes:
        assert not cheeks[round(y), round(x)]
    rows, columns = np.nonzero(cheeks)
    assert rows.min() > PAPER.eyes[:, 1].min() - 55
    assert columns.min() > PAPER.eyes[0, 0] - 25
    assert columns.max() < PAPER.eyes[1, 0] + 25


def test_cheeks_are_the_same_in_every_profile():
    (x, y), (wide_x, wide_y) = PAPER.eyes.mean(0), PORTRAIT.eyes.mean(0)
    grow = PORTRAIT.unit / PAPER.unit
    small = square(round(x) - 20, round(y) + 20, round(x) + 20, round(y) + 50, SHAPE)
    left, top = round(wide_x - 20 * grow), round(wide_y + 20 * grow)
    right, bottom = round(wide_x + 20 * grow), round(wide_y + 50 * grow)
    large = square(left, top, right, bottom, (PORTRAIT.height, PORTRAIT.width))
    areas = [metrics.cheek(small, PAPER).sum(), metrics.cheek(large, PORTRAIT).sum()]
    assert areas[1] == pytest.approx(areas[0] * grow**2, rel=0.05)


def test_colours():
    grey, red = flat(128), flat(0)
    red[..., 0] = 255
    everywhere = np.ones(SHAPE, np.bool_)
    first, second = (metrics.mean_colour(p, everywhere) for p in (grey, red))
    assert first == pytest.approx(np.full(3, 128 / 255))
    assert metrics.colour_difference(first, first) == 0
    assert metrics.colour_difference(first, second) > 30
    few = metrics.mean_colour(grey, square(0, 0, 2, 2, SHAPE))
    assert np.isnan(few).all()
    assert math.isnan(metrics.colour_difference(few, first))


def test_decibel():
    assert metrics.decibel(0.01) == pytest.approx(20)
    assert metrics.decibel(0.0036) == pytest.approx(24.44, abs=0.01)
    assert metrics.decibel(0) == math.inf


def test_quality_of_the_truth():
    face = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), np.uint8)
    mask = square(48, 125, 128, 175, SHAPE).astype(np.float32)
    found = metrics.quality(face, face, mask, PAPER)
    for key in ("mse", "mse_in", "y_mse", "l1", "l1_in", "seam"):
        assert found[key] == 0
    assert found["ssim"] == found["ssim_in"] == pytest.approx(1)
    assert found["skin"] == found["skin_true"]
    assert found["area"] == mask.sum()


def test_quality_inside_and_outside():
    face, mask = flat(100), square(48, 125, 128, 175, SHAPE)
    result = face.copy()
    result[mask] = 151  # off by a fifth, under the mask alone
    found = metrics.quality(result, face, mask.astype(np.float32), PAPER)
    assert found["mse_in"] == pytest.approx(0.04)
    assert found["l1_in"] == pytest.approx(0.2)
    assert found["y_mse_in"] == pytest.approx(0.04)
    assert found["mse"] == pytest.approx(0.04 * mask.mean())
    assert found["seam"] == 0
    assert found["skin_true"] == pytest.approx(0, abs=1e-6)
    assert found["skin"] > 5
    assert found["ssim_in"] < found["ssim"] < 1


def test_the_seam_is_outside():
    face, mask = flat(100), square(48, 125, 128, 175, SHAPE)
    result = face.copy()
    result[metrics.ring(mask, 0, 3)] = 151
    found = metrics.quality(result, face, mask.astype(np.float32), PAPER)
    assert found["seam"] == pytest.approx(0.2)
    assert found["mse_in"] == 0


def test_what_is_not_known_does_not_count():
    face, mask = flat(100), square(48, 125, 128, 175, SHAPE)
    result, known = face.copy(), np.ones(SHAPE, np.float32)
    result[150:], known[150:] = 255, 0  # the photograph had ended there
    found = metrics.quality(result, face, mask.astype(np.float32), PAPER, known)
    assert found["area"] == mask[:150].sum()
    assert found["mse_in"] == found["l1_in"] == found["seam"] == found["skin_off"] == 0
    assert metrics.quality(result, face, mask.astype(np.float32), PAPER)["mse_in"] > 0.1


def test_pooling_weighs_by_area():
    face = flat(100)
    small, large = square(60, 130, 70, 140, SHAPE), square(48, 125, 128, 175, SHAPE)
    off = metrics.quality(flat(151), face, small.astype(np.float32), PAPER)
    exact = metrics.quality(face, face, large.astype(np.float32), PAPER)
    pool = metrics.pooled([off, exact])
    inside = 0.04 * small.sum() / (small.sum() + large.sum())
    assert pool["mse_in"] == pytest.approx(inside)
    assert pool["psnr_in"] == pytest.approx(metrics.decibel(inside))
    assert pool["mse"] == pytest.approx(0.02)
    assert pool["psnr"] == pytest.approx(metrics.decibel(0.02))


def test_pooling_leaves_out_what_is_unknown():
    face, everywhere = flat(100), np.ones(SHAPE, np.float32)
    known = metrics.quality(face, face, square(48, 125, 128, 175, SHAPE).astype(np.float32), PAPER)
    unknown = metrics.quality(face, face, everywhere, PAPER)  # no cheek is left to compare with
    assert math.isnan(unknown["skin"])
    assert metrics.pooled([known, unknown])["skin"] == known["skin"]
    assert math.isnan(metrics.pooled([unknown])["skin"])


def test_no_mask_at_all():
    found = metrics.quality(flat(120), flat(100), np.zeros(SHAPE, np.float32), PAPER)
    assert found["mse_in"] == found["seam"] == 0
    assert found["mse"] > 0
    assert math.isnan(found["skin"])


def test_remnant():
    given, truth = flat(100, (40, 40)), BLOCK
    result = given.copy()
    result[10:15, 10:20] = 200
    assert metrics.remnant(result, given, truth) == pytest.approx(0.5)
    result[15:20, 10:20] = 102  # too little to count as a change
    assert metrics.remnant(result, given, truth) == pytest.approx(0.5)
    assert metrics.remnant(given, given, truth) == 1
    assert metrics.remnant(given, given, NOTHING) == 0


def test_strayed():
    given, mask = flat(100, (40, 40)), BLOCK.astype(np.float32) * 0.1
    result = given.copy()
    result[10:20, 10:20] = 0
    assert metrics.strayed(result, given, mask) == 0
    result[5, 5, 2] = 101
    assert metrics.strayed(result, given, mask) == 1


def test_energy_of_gradients():
    rng = np.random.default_rng(0)
    face = rng.random((2, 40, 40, 3), np.float32)
    where = np.stack([BLOCK, BLOCK])
    assert metrics.energy_ratio(face, face, where) == pytest.approx(1)
    assert metrics.energy_ratio(0.5 * face, face, where) == pytest.approx(0.25, rel=1e-4)
    blurred = np.where(where[..., None], np.float32(0.5), face)
    assert metrics.energy_ratio(blurred, face, where & ~metrics.ring(~BLOCK, 0, 1)) == 0


def test_texture():
    rng = np.random.default_rng(0)
    where = np.zeros((60, 80), bool)
    where[10:50, 10:70] = True
    grain = 128 + rng.normal(0, 6, (60, 80, 1)).repeat(3, 2)
    fine, finer = (np.rint(128 + share * (grain - 128)).astype(np.uint8) for share in (1, 0.5))
    assert metrics.texture(finer, where) == pytest.approx(metrics.texture(fine, where) / 2, rel=0.1)
    blurred = cv2.GaussianBlur(fine, (0, 0), 3)
    assert metrics.texture(blurred, where) < 0.2 * metrics.texture(fine, where)
    edged = np.full((60, 80, 3), 90, np.uint8)
    edged[:, 40:] = 160
    assert metrics.texture(edged, where) < 1e-9  # an edge is no grain
    assert np.isnan(metrics.texture(fine, np.zeros_like(where)))


def test_mean_leaves_out_what_is_unknown():
    assert metrics.mean([1.0, math.nan, 3.0]) == 2
    assert math.isnan(metrics.mean([math.nan]))


def test_worst_tenth():
    values = [1.0] * 18 + [0.2, 0.4]
    assert metrics.worst_tenth(values) == pytest.approx(0.3)
    assert metrics.worst_tenth([0.7, 0.9]) == pytest.approx(0.7)
    assert math.isnan(metrics.worst_tenth([]))


def test_table():
    table = Table("A. Title", "A note.", [{"split": "train", "n": 3, "IoU": 0.98765, "dB": None}])
    table.rows.append({"split": "validation", "n": 3, "IoU": float("nan"), "dB": 20.123456})
    assert table.markdown() == (
        "## A. Title\n\nA note.\n\n"
        "| split | n | IoU | dB |\n| --- | --- | --- | --- |\n"
        "| train | 3 | 0.9877 | - |\n| validation | 3 | - | 20.12 |\n"
    )


def test_grouped_rows_keep_their_order():
    rows = [{"way": w, "split": s} for s in ("train", "validation") for w in ("ours", "none")]
    table = Table("", rows=rows)
    table.group("way")
    assert [(r["way"], r["split"]) for r in table.rows] == [
        ("ours", "train"), ("ours", "validation"), ("none", "train"), ("none", "validation"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0035123, "0.003512"), (0.0000012, "0.000001"), (0.98, "0.9800"), (20.5, "20.50"),
        (313.7, "313.7"), (0.0, "0"),
        (math.inf, "inf"), (math.nan, "-"), (None, "-"), (7, "7"), ("ours", "ours"),
    ],
)  # fmt: skip
def test_shown(value, text):
    assert metrics.shown(value) == text
