"""`cut` and `paste` are each other's inverse, to a fraction of a pixel."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from stream_unmask.faces.crop import cut, paste
from stream_unmask.faces.geometry import apply, invert, scale_of, similarity
from stream_unmask.types import Face

EYE_SHARE = 0.47  # distance of the eyes in widths of the face


def face_at(centre, width, roll=0.0):
    """A face whose eyes' middle is at `centre`; `roll` in degrees."""
    angle = math.radians(roll)
    arm = EYE_SHARE * width / 2 * np.array([math.cos(angle), math.sin(angle)])
    eyes = np.stack([centre - arm, centre + arm]).astype(np.float32)
    return Face((0, 0, 1, 1), eyes, 1.0)


def cut_for(profile, image, face):
    return cut(image, face, profile.eyes, profile.size)


def smooth_picture(width, height, period):
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = [
        np.sin(2 * np.pi * (x * math.cos(a) + y * math.sin(a)) / period) for a in (0.3, 1.2, 2)
    ]
    return np.rint(127.5 + 100 * np.stack(waves, -1)).astype(np.uint8)


def blob(size, centre, sigma):
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float64)
    return np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))


def centroid(grey):
    weight = grey.astype(np.float64)
    y, x = np.mgrid[: grey.shape[0], : grey.shape[1]]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


def round_mask(profile, radius=1.3):
    """A soft disc around the mouth, as `widen` makes masks; in eye distances."""
    y, x = np.mgrid[: profile.height, : profile.width]
    middle = profile.eyes.mean(0)
    distance = np.hypot(x - middle[0], y - middle[1] - 0.86 * profile.unit)
    return np.clip((radius * profile.unit - distance) / 3 + 0.5, 0, 1).astype(np.float32)


FACES = [
    *[((640.0, 360.0), width, roll) for width in (40, 90, 250, 700) for roll in (0.0, 30.0, -45.0)],
    ((20.0, 15.0), 120, 10.0),  # hangs out of a corner
    ((1275.0, 700.0), 300, -20.0),
]


@pytest.mark.parametrize(("centre", "width", "roll"), FACES)
def test_eyes_land_where_the_profile_wants_them(profile, centre, width, roll):
    face = face_at(np.array(centre), width, roll)
    crop = cut_for(profile, np.zeros((720, 1280, 3), np.uint8), face)
    assert crop.image.shape == (profile.height, profile.width, 3)
    assert np.allclose(apply(invert(crop.to_frame), face.eyes), profile.eyes, atol=2e-3)
    assert np.allclose(apply(crop.to_frame, profile.eyes), face.eyes, atol=2e-3)


def test_a_face_is_cut_by_its_anchors_and_takes_its_mesh_along(profile, frontal):
    plain = face_at(np.array((300.0, 200.0)), 90, 20.0)
    mesh = apply(similarity(np.array([(-0.5, 0), (0.5, 0)]), plain.eyes), frontal)
    shown = replace(plain, mesh=mesh, anchors=plain.eyes + (4, 9), track=5)
    picture = smooth_picture(600, 400, 60)
    crop = cut_for(profile, picture, shown)
    assert np.allclose(apply(invert(crop.to_frame), shown.anchors), profile.eyes, atol=2e-3)
    assert np.allclose(apply(crop.to_frame, crop.mesh), mesh, atol=2e-3)
    assert crop.track == 5
    held = cut_for(profile, picture, face_at(np.array((304.0, 209.0)), 90, 20.0))
    assert np.abs(held.image.astype(int) - crop.image).max() <= 1
    assert held.mesh is None


@pytest.mark.parametrize(("centre", "width", "roll"), FACES)
def test_what_was_cut_pastes_back_onto_itself(profile, centre, width, roll):
    picture = smooth_picture(1280, 720, period=max(0.4 * width, 40))
    crop = cut_for(profile, picture, face_at(np.array(centre), width, roll))
    x, y, image, mask = paste(replace(crop, mask=round_mask(profile)), (720, 1280))
    there = picture[y : y + mask.shape[0], x : x + mask.shape[1]].astype(float)
    error = np.abs(image - there).max(2)
    assert error[mask > 0.5].mean() < 1.5
    # The last pixel of a crop repeats the frame's edge, so there its neighbour is a guess.
    edge = math.ceil(1.5 * scale_of(crop.to_frame))
    inner = np.zeros((720, 1280), bool)
    inner[edge:-edge, edge:-edge] = True
    assert error[(mask > 0.5) & inner[y : y + mask.shape[0], x : x + mask.shape[1]]].max() < 8


@pytest.mark.parametrize("roll", [0.0, 25.0, -45.0])
@pytest.mark.parametrize("width", [40, 90, 250, 700])
def test_a_dot_comes_back_to_its_place(profile, width, roll):
    """Through cut and paste a dot's centroid moves by less than a tenth of a pixel."""
    face = face_at(np.array([400.3, 300.8]), width, roll)
    there = profile.eyes.mean(0) + (0.2, 0.88 * profile.unit)
    crop = cut_for(profile, np.zeros((9, 9, 3), np.uint8), face)
    mouth = apply(crop.to_frame, there[None])[0]
    sigma = max(0.03 * width, 2.5)
    dot = np.rint(255 * blob((800, 700), mouth, sigma)).astype(np.uint8)
    crop = cut_for(profile, np.repeat(dot[..., None], 3, 2), face)
    assert np.abs(centroid(crop.image[..., 0]) - there).max() < 0.1
    x, y, image, _ = paste(replace(crop, mask=round_mask(profile)), (700, 800))
    assert np.abs(centroid(image[..., 0]) + (x, y) - mouth).max() < 0.1


def test_a_step_of_one_pixel_is_seen(profile):
    """The measure above is sharp enough: a crop moved by a pixel is told apart."""
    face = face_at(np.array([400.0, 300.0]), 83)
    picture = smooth_picture(800, 700, period=40)
    crop = cut_for(profile, picture, face)
    moved = replace(
        crop, mask=round_mask(profile), to_frame=crop.to_frame + np.array([[0, 0, 1], [0, 0, 0]])
    )
    x, y, image, mask = paste(moved, (700, 800))
    there = picture[y : y + mask.shape[0], x : x + mask.shape[1]].astype(float)
    assert np.abs(image - there)[mask > 0.5].max() > 8


def test_the_rectangle_holds_the_mask_and_little_more(profile):
    crop = cut_for(
        profile, np.zeros((720, 1280, 3), np.uint8), face_at(np.array([640.0, 360.0]), 83)
    )
    mask = np.zeros((profile.height, profile.width), np.float32)
    mask[120:150, 60:100] = 1
    x, y, image, laid = paste(replace(crop, mask=mask), (720, 1280))
    assert image.shape == (*laid.shape, 3)
    corners = apply(crop.to_frame, np.array([(60, 120), (99, 149)], np.float32))
    assert np.all(corners[0] - (x, y) >= 0)
    assert np.all(corners[0] - (x, y) <= 3)
    right, below = x + laid.shape[1] - 1 - corners[1, 0], y + laid.shape[0] - 1 - corners[1, 1]
    assert 0 <= right <= 3
    assert 0 <= below <= 3
    # Nothing of the mask was cut off: outside it, the rectangle ends in zeros.
    border = np.concatenate([laid[0], laid[-1], laid[:, 0], laid[:, -1]])
    assert border.max() < 0.2
    whole = cv2.warpAffine(mask, crop.to_frame, (1280, 720))
    assert laid.sum() == pytest.approx(whole.sum(), rel=1e-3)


@pytest.mark.parametrize("centre", [(2.0, 3.0), (1278.0, 3.0), (2.0, 718.0), (1278.0, 718.0)])
def test_at_the_edge_the_rectangle_stays_inside(profile, centre):
    crop = cut_for(
        profile, np.zeros((720, 1280, 3), np.uint8), face_at(np.array(centre), 200, 20.0)
    )
    found = paste(replace(crop, mask=round_mask(profile, 2.5)), (720, 1280))
    assert found is not None
    x, y, _, mask = found
    assert 0 <= x < x + mask.shape[1] <= 1280
    assert 0 <= y < y + mask.shape[0] <= 720


def test_nothing_to_paste(profile):
    crop = cut_for(
        profile, np.zeros((720, 1280, 3), np.uint8), face_at(np.array([640.0, 360.0]), 90)
    )
    empty = np.zeros((profile.height, profile.width), np.float32)
    assert paste(crop, (720, 1280)) is None
    assert paste(replace(crop, mask=empty), (720, 1280)) is None
    outside = cut_for(
        profile, np.zeros((720, 1280, 3), np.uint8), face_at(np.array([-900.0, 0.0]), 90)
    )
    assert paste(replace(outside, mask=empty + 1), (720, 1280)) is None


def test_a_large_face_is_averaged(profile):
    """Fine stripes come out grey rather than as false, coarse ones."""
    side = 23 * int(profile.unit)
    stripes = np.zeros((side, side, 3), np.uint8)
    stripes[::2] = 255
    crop = cut_for(profile, stripes, face_at(np.array([0.5, 0.45]) * side, 18 * profile.unit))
    assert np.abs(crop.image[20:-20, 20:-20].astype(int) - 128).max() < 20


def test_beyond_the_edge_the_border_is_repeated(profile):
    picture = np.full((200, 200, 3), 77, np.uint8)
    for width in (60, 500):
        crop = cut_for(profile, picture, face_at(np.array([0.0, 0.0]), width))
        assert np.all(crop.image == 77)


def test_a_face_outside_the_picture_is_no_error(profile):
    picture = np.full((200, 200, 3), 77, np.uint8)
    for width in (60, 900):
        assert (
            cut_for(profile, picture, face_at(np.array([5000.0, -900.0]), width)).image.shape[2]
            == 3
        )
