import numpy as np

from stream_unmask.faces.smoothing import OneEuro, SteadyAnchors

ANCHORS = np.array([(100.0, 100.0), (140.0, 102.0)], np.float32)


def run(track):
    steady = SteadyAnchors()
    return np.stack([steady(anchors.astype(np.float32)) for anchors in track])


def test_first_value_is_kept():
    assert np.allclose(SteadyAnchors()(ANCHORS), ANCHORS, atol=1e-4)


def test_a_still_face_shakes_less():
    noise = np.random.default_rng(0).normal(0, 0.4, (200, 2, 2))  # 1 % of their distance
    out = run(ANCHORS + noise)
    shake = [np.diff(track, axis=0).std() for track in (ANCHORS + noise, out)]
    assert shake[1] < 0.4 * shake[0]


def test_a_moving_face_lags_little():
    for speed in (0.4, 2.0, 8.0):  # px per frame: 1, 5 and 20 % of their distance
        moving = ANCHORS + speed * np.arange(60)[:, None, None] * np.array([1.0, 0.0])
        assert np.abs(run(moving) - moving).max() < 0.04 * 40


def test_it_stops_where_the_face_stops():
    moving = ANCHORS + np.minimum(np.arange(60), 20)[:, None, None] * 4.0
    assert np.abs(run(moving)[-1] - moving[-1]).max() < 0.2


def test_face_size_makes_no_difference():
    track = ANCHORS + np.random.default_rng(1).normal(0, 1, (30, 2, 2))
    assert np.allclose(run(track * 5), run(track) * 5, atol=0.01)


def test_components_share_a_speed():
    """A component that rests is let through as fast as the one that moves."""
    filtered = OneEuro(rest=0.01, gain=5)
    for step in range(10):
        filtered(np.array([step * 1.0, 0.0]))
    assert filtered(np.array([10.0, 1.0]))[1] > 0.9
