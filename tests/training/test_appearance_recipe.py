"""The recipe of the appearance model: its mesh, and what it learns from a tiny face set."""

import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.needs_train
pytest.importorskip("torch")
pytest.importorskip("scipy")
from scipy.spatial import ConvexHull  # noqa: E402

from stream_unmask.faces.geometry import apply, similarity  # noqa: E402
from stream_unmask.faces.landmarks import _UPRIGHT, anchors  # noqa: E402
from stream_unmask.models.appearance import SCALE, Appearance, scaled  # noqa: E402
from stream_unmask.models.profile import PORTRAIT  # noqa: E402
from training import appearance  # noqa: E402
from training.appearance import corrected, spread, triangulated  # noqa: E402
from training.dataset import Archive, FaceSet, is_validation  # noqa: E402

POINTS = np.random.default_rng(0).uniform(0, 80, (120, 2)).astype(np.float32)
NAMES = [name for name in (f"{i}.png" for i in range(99)) if not is_validation(name)]
UNSEEN = next(name for name in (f"{i}.png" for i in range(99)) if is_validation(name))
GREEN = np.array([0, 255, 0], np.uint8)


def doubled(triangles: np.ndarray) -> np.ndarray:
    """Twice the areas of triangles (n, 3, 2), positive where they are turned to the front."""
    (ax, ay), (bx, by) = ((triangles[:, i] - triangles[:, 0]).astype(np.float64).T for i in (1, 2))
    return ax * by - ay * bx


@pytest.mark.parametrize("count", [20, 60, len(POINTS)])
def test_vertices_are_spread_over_the_face_and_its_outline(count: int) -> None:
    chosen = spread(POINTS, count)
    assert len(chosen) == len(set(chosen.tolist())) == count
    assert set(ConvexHull(POINTS).vertices) <= set(chosen.tolist())
    away = np.linalg.norm(POINTS[:, None] - POINTS[chosen], axis=2).min(1)
    first = np.linalg.norm(POINTS[:, None] - POINTS[:count], axis=2).min(1)
    assert away.max() < first.max() or count == len(POINTS)  # than of any others


def test_each_further_vertex_is_the_one_furthest_away() -> None:
    fewer, more = (set(spread(POINTS, count).tolist()) for count in (40, 41))
    (new,) = more - fewer
    away = np.linalg.norm(POINTS[:, None] - POINTS[sorted(fewer)], axis=2).min(1)
    assert away[new] == away.max()


def test_an_outline_of_more_vertices_is_kept_whole() -> None:
    turn = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn)], 1).astype(np.float32)
    assert spread(ring, 10).tolist() == list(range(30))


def test_triangles_cover_the_face_once_and_face_the_front() -> None:
    triangles = triangulated(POINTS, POINTS.mean(0))
    areas = doubled(POINTS[triangles])
    assert areas.min() > 0
    # None is left out, none lies on another.
    assert areas.sum() / 2 == pytest.approx(ConvexHull(POINTS).volume, rel=1e-5)
    assert set(triangles.ravel().tolist()) == set(range(len(POINTS)))


@pytest.mark.parametrize("nose", [(40, 40), (5, 60)])
def test_the_triangles_by_the_nose_come_last(nose: tuple[float, float]) -> None:
    triangles = triangulated(POINTS, np.float32(nose))
    away = np.linalg.norm(POINTS[triangles].mean(1) - nose, axis=1)
    assert away.argmin() == len(away) - 1
    assert (np.diff(away) < 1e-4).all()


def masked(meshes: np.ndarray, seed: int) -> np.ndarray:
    """Meshes as a landmarker might place them on masked faces: two parts of what does not hold a
    crop are moved by more or less, and all of it a little."""
    rng = np.random.default_rng(seed)
    moves = 4 * rng.standard_normal((3, *meshes.shape[1:]))
    moves[:, list(_UPRIGHT)] = 0
    shares = np.column_stack([rng.standard_normal((len(meshes), 2)), np.ones(len(meshes))])
    return (meshes + np.tensordot(shares, moves, 1)).astype(np.float32)


def test_by_how_masked_faces_lie_their_meshes_are_corrected(frontal: np.ndarray) -> None:
    """Wherever on its picture, however large and however turned each of them is."""
    rng = np.random.default_rng(2)
    crop = (PORTRAIT.eyes.mean(0) + PORTRAIT.unit * frontal).astype(np.float32)
    held = apply(similarity(anchors(crop), PORTRAIT.eyes), crop)
    true = np.stack([held] * 40)
    worn = masked(true, 0)
    turns, sizes = rng.uniform(-0.5, 0.5, 40), rng.uniform(0.2, 2, 40)
    places = [
        size * np.array([[np.cos(a), -np.sin(a), 50], [np.sin(a), np.cos(a), 20]])
        for a, size in zip(turns, sizes, strict=True)
    ]
    scattered = [
        np.float32([apply(place, mesh) for place, mesh in zip(places, meshes, strict=True)])
        for meshes in (true, worn)
    ]
    sets = [
        FaceSet(Archive(Path()), [""] * 20, *(part[where] for part in scattered))
        for where in (slice(20), slice(20, None))
    ]
    correction = corrected(sets, 2)
    under = np.ones((PORTRAIT.height, PORTRAIT.width), np.float32)
    for mesh in worn:
        assert np.abs(mesh - held).max() > 2
        assert np.abs(correction(mesh, under) - held).max() < 0.05


def lit(portrait: np.ndarray, light: float, side: float) -> np.ndarray:
    """A portrait in less light, more of which comes from one side."""
    across = np.linspace(-1, 1, portrait.shape[1])[:, None]
    return np.rint(portrait * light * (1 + side * across)).astype(np.uint8)


@pytest.fixture(scope="module")
def portrait(faces: FaceSet) -> np.ndarray:
    return faces.archive.read(faces.names[0])


@pytest.fixture(scope="module")
def lights(
    faces: FaceSet, portrait: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> FaceSet:
    """One portrait in 14 lights, and green ones that are not to be learned from: an open mouth, a
    head that is turned, a face that its picture cuts, one of the validation split.

    It lies beside its index, as training.dataset leaves both.
    """
    folder = tmp_path_factory.mktemp("lights")
    rng = np.random.default_rng(0)
    opened = faces.meshes[0]
    shut = opened.copy()
    shut[14] = shut[13] + (0, 0.5)
    aside = shut.copy()
    aside[1] = aside[234]
    pictures = [lit(portrait, *rng.uniform((0.3, -0.3), (0.75, 0.3))) for _ in range(14)]
    meshes = [shut] * 14 + [opened, aside, shut - np.float32([145, 0]), shut]
    green = np.broadcast_to(GREEN, portrait.shape)
    pictures += [green, green, green[:, 145:], green]
    names = [*NAMES[:17], UNSEEN]
    with zipfile.ZipFile(folder / "lights.zip", "w") as file:
        for name, picture in zip(names, pictures, strict=True):
            file.writestr(name, cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
    true = np.stack(meshes)
    found = FaceSet(Archive(folder / "lights.zip"), names, true, masked(true, 1))
    np.savez(folder / "lights.npz", names=np.array(names), meshes=found.meshes, worn=found.worn)
    return found


def test_faces_are_drawn_at_random_among_those_who_look_ahead_with_closed_lips(
    lights: FaceSet,
) -> None:
    ahead = {*range(14), 16, 17}
    assert set(appearance._chosen(lights, 99, 0)) == ahead
    few = appearance._chosen(lights, 5, 0)
    assert len(set(few)) == 5
    assert few == appearance._chosen(lights, 5, 0) != appearance._chosen(lights, 5, 1)


def test_what_is_learned_can_be_loaded_and_guesses_the_light_on_a_hidden_half(
    lights: FaceSet,
    portrait: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, folder = tmp_path / "appearance.npz", str(lights.archive._path.parent)
    monkeypatch.setattr(
        sys, "argv",
        ["", "--data", folder, "--cache", folder, "--sets", "lights", "--out", str(out),
         "--components", "2", "--vertices", "60", "--directions", "2"],
    )  # fmt: skip
    appearance.main()
    assert capsys.readouterr().out.startswith("14 faces,")
    model = Appearance.load(out)
    hold = similarity(anchors(lights.worn[0]), PORTRAIT.eyes)
    worn, true = (apply(hold, meshes[0]) for meshes in (lights.worn, lights.meshes))
    right = model.correction(worn, np.ones((PORTRAIT.height, PORTRAIT.width), np.float32))
    assert np.abs(right - true).mean() < 0.2 * np.abs(worn - true).mean()

    crops = [lights.crop(i, PORTRAIT.eyes, PORTRAIT.size) for i in range(14)]
    mesh = crops[0].mesh
    assert mesh is not None
    pictures = np.float32([crop.image for crop in crops]) / 255
    mean = cv2.resize(pictures.mean(0), None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_AREA)
    with np.load(out) as stored:
        assert len(stored["vertices"]) == 60
        assert len(stored["components"]) == len(stored["deviations"]) == 2
        assert np.abs(stored["mean"] - model.texture(mean, scaled(mesh))).max() < 2e-3
        # Each component's deviation is that of its share in the faces.
        directions = (stored["components"] * stored["scales"][:, None, None]).reshape(2, -1)
        assert np.allclose(directions @ directions.T, np.eye(2), atol=0.02)
        small = [cv2.resize(p, None, fx=SCALE, fy=SCALE, interpolation=3) for p in pictures]
        off = np.stack([model.texture(s, scaled(mesh)) - stored["mean"] for s in small])
        shares = off.reshape(14, -1) @ directions.T
        assert np.allclose((shares**2).mean(0) ** 0.5, stored["deviations"], rtol=0.03)

    # A light in which the portrait was not shown, from the left half of the face.
    other = lit(portrait, 0.35, -0.2)
    crop = cv2.warpAffine(other, crops[0].to_frame, PORTRAIT.size, flags=cv2.WARP_INVERSE_MAP)
    picture = crop.astype(np.float32) / 255
    mask = np.zeros(picture.shape[:2], np.float32)
    mask[:, PORTRAIT.width // 2 :] = 1

    def off_tone(mask: np.ndarray) -> float:
        guess = model(picture, mask, mesh)
        where = (guess[..., 3] > 0.9)[:, PORTRAIT.width // 2 :]
        assert where.sum() > 1000
        tones = (cv2.GaussianBlur(p, (0, 0), 3) for p in (guess[..., :3], picture))
        return float(np.abs(np.subtract(*tones))[:, PORTRAIT.width // 2 :][where].mean())

    assert off_tone(mask) < 0.02
    assert off_tone(np.ones_like(mask)) > 0.1  # the mean
