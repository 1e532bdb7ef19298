"""What both segmenters learn from and by: samples, labels of photographs, the loss."""

import json
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.needs_train
torch = pytest.importorskip("torch")

from stream_unmask.backends import open_engine  # noqa: E402
from stream_unmask.backends.artefacts import engine_path  # noqa: E402
from stream_unmask.faces.landmarks import anchors  # noqa: E402
from stream_unmask.models.profile import PORTRAIT, Profile  # noqa: E402
from stream_unmask.models.segmenter import Segmenter  # noqa: E402
from training import photos, synthesis  # noqa: E402
from training.dataset import FaceSet, Samples, shaken  # noqa: E402
from training.engines import begin_from  # noqa: E402
from training.photos import RealPhotos, rasterise  # noqa: E402
from training.segmenter import Draw, Exported, Loss, build, predictor  # noqa: E402

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def samples(faces: FaceSet, profile: Profile, seed: int = 1) -> Samples:
    templates = synthesis.drawn_templates()
    return Samples([faces], [1.0], profile, templates, seed, 0.12, 0.35, shaken)


@pytest.fixture(scope="module")
def real(faces: FaceSet) -> RealPhotos:
    """The portrait as two photographs: in one, all below the eyes is mask; the other is unsure."""
    image = faces.archive.read(faces.names[0])
    held = anchors(faces.meshes[0])
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[round(float(held[:, 1].mean())) + 12 :] = 255
    everywhere, nowhere = np.full_like(mask, 255), np.zeros_like(mask)
    maps = np.dstack([mask, nowhere])  # and no straps
    counted = [np.dstack([fabric, nowhere]) for fabric in (everywhere, nowhere)]
    return RealPhotos([image, image], [maps, maps], counted, [(0, held), (1, held)], by_hand=1)


def test_synthetic_samples_count_everywhere(faces: FaceSet, profile: Profile) -> None:
    draw = Draw(samples(faces, profile), None, 0.5)
    for index in range(6):
        picture, maps, counted = draw(index)
        size = (profile.height, profile.width)
        assert (picture.shape, maps.shape, counted.shape) == ((3, *size), (2, *size), (2, *size))
        assert counted.min() == 1
        assert {part.dtype for part in (picture, maps, counted)} == {np.dtype(np.float32)}
        assert maps.flags.c_contiguous
    assert all(np.array_equal(*pair) for pair in zip(draw(2), draw(2), strict=True))


def test_photographs_say_nothing_of_straps(
    faces: FaceSet, profile: Profile, real: RealPhotos
) -> None:
    draw, sure = Draw(samples(faces, profile), real, 1.0), set()
    for index in range(12):
        picture, maps, counted = draw(index)
        assert picture.shape == (3, profile.height, profile.width)
        assert not maps[1].any()
        assert not counted[1].any()
        # The map came along with the face: its upper edge is below the eyes.
        assert maps[0, : round(profile.eyes[0, 1] - 0.5 * profile.unit)].max() < 0.5
        assert 0.2 < maps[0].mean() < 0.8
        sure.add(float(counted[0].max()))
    assert sure == {0.0, 1.0}  # from both photographs: labelled by hand, and by a segmenter
    assert all(np.array_equal(*pair) for pair in zip(draw(3), draw(3), strict=True))
    assert not np.array_equal(draw(3)[0], draw(4)[0])


def test_about_the_share_that_was_asked_for_is_real(faces: FaceSet, real: RealPhotos) -> None:
    draw = Draw(samples(faces, PORTRAIT), real, 0.4)
    share = np.mean([not draw(index)[2][1].any() for index in range(40)])
    assert 0.2 < share < 0.6


class Says(torch.nn.Module):
    """A network that has one answer, whatever it is shown."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.logits


def answer(maps: torch.Tensor, profile: Profile, sure: float = 12.0) -> Says:
    """The logits of maps (n, 2, h, w) as the profile's network states them."""
    margins = (2 * maps[:, : profile.maps] - 1) * sure
    if profile.maps == 1:  # the paper's: keep and mask
        margins = torch.cat([-margins / 2, margins / 2], 1)
    return Says(margins)


def truth() -> torch.Tensor:
    maps = torch.zeros(2, 2, 32, 32)
    maps[:, 0, 16:, 8:24] = 1
    maps[:, 1, 18, 24:] = 1
    return maps


def test_the_truth_costs_almost_nothing_and_its_contrary_much(profile: Profile) -> None:
    maps, loss = truth(), Loss(profile)
    batch = (torch.rand(2, 3, 32, 32), maps, torch.ones_like(maps))
    assert loss(answer(maps, profile), batch).item() < 1e-3
    unsure = loss(answer(maps, profile, 0.0), batch).item()
    assert loss(answer(1 - maps, profile), batch).item() > 2 * unsure > 1


def test_what_does_not_count_teaches_nothing(profile: Profile) -> None:
    maps, counted = truth(), torch.ones(2, 2, 32, 32)
    counted[..., :12] = 0
    network = answer(maps * 0.8, profile, 3.0)
    Loss(profile)(network, (torch.rand(2, 3, 32, 32), maps, counted)).backward()
    gradient = network.logits.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert not gradient[..., :12].any()
    assert gradient[..., 12:].any()


def test_unlabelled_straps_leave_the_strap_map_alone() -> None:
    maps, counted = truth(), torch.ones(2, 2, 32, 32)
    counted[:, 1] = 0
    network = answer(maps, PORTRAIT, 0.5)
    Loss(PORTRAIT)(network, (torch.rand(2, 3, 32, 32), maps, counted)).backward()
    gradient = network.logits.grad
    assert gradient is not None
    assert gradient[:, 0].any()
    assert not gradient[:, 1].any()


def test_a_missed_strap_costs_more_than_an_invented_one() -> None:
    maps, loss = truth(), Loss(PORTRAIT)
    batch = (torch.rand(2, 3, 32, 32), maps, torch.ones_like(maps))
    missed, invented = maps.clone(), maps.clone()
    missed[:, 1] = 0
    invented[:, 1] = maps[:, 1].roll(1, 1).maximum(maps[:, 1])  # as many pixels
    right, *wrong = (
        loss(answer(said, PORTRAIT, 4.0), batch).item() for said in (maps, missed, invented)
    )
    assert wrong[0] - right > 2 * (wrong[1] - right) > 0


def test_pictures_without_straps_are_no_worse_for_what_is_found_in_others() -> None:
    """Straps are compared over the batch: where there are none, finding none is right."""
    maps, loss = truth(), Loss(PORTRAIT)
    maps[1, 1] = 0
    batch = (torch.rand(2, 3, 32, 32), maps, torch.ones_like(maps))
    assert loss(answer(maps, PORTRAIT), batch).item() < 1e-3


def test_training_goes_on_from_the_shipped_engine(faces: FaceSet) -> None:
    network, draw = build(PORTRAIT), Draw(samples(faces, PORTRAIT), None, 0.0)
    given = torch.from_numpy(np.stack([draw(index)[0] for index in range(16)]))
    begin_from(Exported(network, PORTRAIT), engine_path(PORTRAIT.segmenter.name), given)
    crops = [np.rint(255 * one.permute(1, 2, 0).numpy()).astype(np.uint8) for one in given[:4]]
    shipped = np.stack(Segmenter(open_engine(PORTRAIT.segmenter))(crops))
    ours = predictor(network, PORTRAIT)(given[:4])
    assert shipped[:, 0].max() > 0.9
    assert np.abs(ours - shipped).mean() < 2e-3


def test_a_step_lowers_the_loss(faces: FaceSet, profile: Profile) -> None:
    torch.manual_seed(0)
    network, loss, draw = build(profile), Loss(profile), Draw(samples(faces, profile), None, 0.0)
    parts = (part[None, :, :64, :64] for part in draw(0))
    batch = tuple(torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
    optimizer, values = torch.optim.SGD(network.parameters(), 1e-3), []
    for _ in range(3):
        optimizer.zero_grad()
        value = loss(network, batch)
        value.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0]


def test_predictions_are_maps_in_the_order_of_the_faces(profile: Profile) -> None:
    class Level(torch.nn.Module):
        """Logits of the faces' own brightness."""

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            level = 8 * pictures[:, :1] - 4
            return torch.cat([-level, level], 1)

    faces = torch.linspace(0, 1, 20)[:, None, None, None].repeat(1, 3, 8, 6)
    maps = predictor(Level(), profile)(faces)
    assert maps.shape == (20, profile.maps, 8, 6)
    last = maps[:, -1, 0, 0]
    assert (np.diff(last) >= 0).all()
    assert last[0] < 0.05
    assert last[-1] > 0.95


def test_an_outline_covers_the_pixels_inside_it() -> None:
    square = rasterise([[[2, 3], [6, 3], [6, 8], [2, 8]]], (12, 10, 3))
    assert square.shape == (12, 10)
    rows, columns = np.nonzero(square)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 8, 2, 6)
    assert not rasterise([], (12, 10)).any()


def labels(path: Path) -> dict[str, dict[str, list[list[list[float]]]]]:
    found: dict[str, dict[str, list[list[list[float]]]]] = json.loads(path.read_text())
    return found


def test_nothing_is_learned_from_what_is_measured_on() -> None:
    taught, chosen_by = labels(photos.TRAINING_LABELS), labels(photos.OWN_LABELS)
    assert len(taught) > 50
    assert not set(taught) & set(chosen_by)
    if not DATA.is_dir():
        pytest.skip(f"there is no {DATA}")
    assert not set(taught) & set(labels(DATA / photos.TEST_LABELS))


@pytest.mark.parametrize("path", [photos.TRAINING_LABELS, photos.OWN_LABELS], ids=lambda p: p.stem)
def test_own_outlines_are_outlines(path: Path) -> None:
    used = [label for label in labels(path).values() if not label.get("skip")]
    assert len(used) > 20
    for label in used:
        for outline in [*label["polygons"], *label["ignore"]]:
            points = np.array(outline, np.float64)
            assert points.ndim == 2
            assert points.shape[0] >= 3
            assert points.shape[1] == 2
            assert points.min() > -20
            assert np.ptp(points, axis=0).min() > 1
    assert sum(bool(label["polygons"]) for label in used) > 0.8 * len(used)
