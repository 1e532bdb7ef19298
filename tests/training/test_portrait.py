"""What the portrait's inpainter learns from and by."""

from collections.abc import Callable

import numpy as np
import pytest

pytestmark = pytest.mark.needs_train
torch = pytest.importorskip("torch")

from stream_unmask.models.profile import PORTRAIT  # noqa: E402
from stream_unmask.pipeline import appearance  # noqa: E402
from training import metrics, portrait, synthesis  # noqa: E402
from training.attributes import Attributes  # noqa: E402
from training.dataset import FaceSet, Samples  # noqa: E402
from training.inpainter import mistaken  # noqa: E402
from training.portrait import UNKNOWN, Critic, Critics, Draw, Loss, Painter  # noqa: E402

SIZE = (PORTRAIT.height, PORTRAIT.width)
Batch = tuple[torch.Tensor, ...]


def draw(faces: FaceSet, exact: bool = False, seed: int = 1) -> Draw:
    samples = Samples([faces], [1.0], PORTRAIT, synthesis.drawn_templates(), seed, 0.05, 0.0)
    model = appearance(PORTRAIT)
    assert model is not None
    return Draw(samples, model, exact)


@pytest.mark.parametrize("exact", [True, False])
def test_samples_have_the_networks_shapes_and_ranges(faces: FaceSet, exact: bool) -> None:
    size = SIZE if exact else portrait.WINDOW[::-1]
    assert not any(side % 32 for side in size)
    for index in range(8):
        given, face, known = draw(faces, exact)(index)
        assert (given.shape, face.shape, known.shape) == ((9, *size), (3, *size), (1, *size))
        for part in (given, face, known):
            assert part.dtype == np.float32
            assert part.flags.c_contiguous
            assert -0.01 <= part.min() <= part.max() <= 1.01
        mask = given[3]
        assert not given[:3, mask >= 1].any()  # what is hidden is not shown
        assert 0.02 < mask.mean() < 0.7
        assert set(np.unique(known)) <= {0, 1}
    assert np.mean([draw(faces, exact)(index)[0][4].any() for index in range(8)]) > 0.5


@pytest.mark.parametrize("exact", [True, False])
def test_a_sample_is_the_same_for_a_seed_and_an_index(faces: FaceSet, exact: bool) -> None:
    first = draw(faces, exact)(3)
    assert all(np.array_equal(*pair) for pair in zip(first, draw(faces, exact)(3), strict=True))
    for other in (draw(faces, exact)(4), draw(faces, exact, seed=2)(3)):
        assert not np.array_equal(other[0], first[0])


def test_outside_the_map_a_sample_shows_what_is_wanted(faces: FaceSet) -> None:
    """In an exact one: where nothing is to be painted, the answer is in the input."""
    for index in range(6):
        sample = draw(faces, exact=True).sample(np.random.default_rng(index))
        off = np.abs(sample.given - sample.face).max(2)
        assert off[sample.mask == 0].max() < 0.3  # a shadow that ends at the rim
        assert np.mean(off[sample.mask == 0] > 0.02) < 0.03
        assert np.mean(off[sample.mask > 0.99] > 0.05) > 0.3
        assert sample.known.min() == 1


def test_mistakes_are_the_same_for_a_seed_and_differ_otherwise(faces: FaceSet) -> None:
    crop = faces.crop(0, PORTRAIT.eyes, PORTRAIT.size)
    assert crop.mesh is not None
    trio = synthesis.wear(crop.image.astype(np.float32) / 255, crop.mesh, np.random.default_rng(0))
    mask = portrait._hard(trio.mask)

    def wrong(seed: int) -> tuple[np.ndarray, np.ndarray]:
        return portrait._mistaken(trio, mask, crop.mesh, np.random.default_rng(seed))

    assert all(np.array_equal(*pair) for pair in zip(wrong(5), wrong(5), strict=True))
    found = [wrong(seed) for seed in range(30)]
    moved = [np.abs(mesh - crop.mesh).max() for _, mesh in found]
    assert 0.2 < np.median(moved) < 8
    overlaps = [metrics.iou(m > 0.5, mask > 0.5) for m, _ in found]
    assert min(overlaps) < 0.95
    assert np.median(overlaps) > 0.6
    assert {found[0][0].dtype, found[0][1].dtype} == {np.dtype(np.float32)}

    one, two = (mistaken(trio.mask, np.random.default_rng(9)) for _ in range(2))
    assert np.array_equal(one, two)
    assert len({float(mistaken(trio.mask, np.random.default_rng(s)).sum()) for s in range(9)}) > 4


def test_what_is_hidden_moves_to_where_the_mesh_has_it(frontal: np.ndarray) -> None:
    true = frontal * PORTRAIT.unit + PORTRAIT.eyes.mean(0)
    believed = true + np.float32([4, -6])
    hidden = np.zeros(SIZE, np.float32)
    hidden[90:] = 1
    shift = portrait._shift(true, believed, hidden)
    assert not shift[hidden == 0].any()
    assert not portrait._shift(true, true, hidden).any()
    x, y = np.rint(believed[152]).astype(int)  # the chin
    assert np.abs(shift[y, x] - (4, -6)).max() < 0.7
    assert np.abs(shift[90:92]).max() < 3  # at the mask's edge face and target nearly meet
    # A mark at the chin lands where the chin is believed to be.
    picture = np.zeros((*SIZE, 3), np.float32)
    at = np.rint(true[152]).astype(int)
    picture[at[1] - 1 : at[1] + 2, at[0] - 1 : at[0] + 2] = 1
    landed = np.argwhere(portrait._shifted(picture, shift)[..., 0] > 0.5).mean(0)[::-1]
    assert np.abs(landed - believed[152]).max() < 1.2


def test_a_picture_without_a_shift_stays() -> None:
    picture = np.random.default_rng(0).random((*SIZE, 3), np.float32)
    assert np.array_equal(portrait._shifted(picture, np.zeros((*SIZE, 2), np.float32)), picture)


def test_whose_face_is_taken(frontal: np.ndarray) -> None:
    """Those who look ahead with closed lips always, open mouths now and then, profiles never."""

    def share(mesh: np.ndarray) -> float:
        rng = np.random.default_rng(0)
        return float(np.mean([portrait._wanted(mesh, rng) for _ in range(200)]))

    closed = frontal.copy()
    closed[13], closed[14] = (0, 1.06), (0, 1.08)
    opened, aside = closed.copy(), closed.copy()
    opened[14] = (0, 1.4)
    aside[1, 0] = 1.0
    assert share(closed) == 1
    assert 0 < share(opened) < 0.1
    assert share(aside) == 0


def test_what_the_frame_repeats_is_not_known() -> None:
    """Only the pixel that is repeated is a picture's; its copies are not."""
    for left, right in ((0, 0), (3, 0), (0, 4), (2, 5)):
        columns = np.arange(12).clip(left, 11 - right)
        real = (np.arange(12) >= left) & (np.arange(12) <= 11 - right)
        assert portrait._inside(columns).tolist() == real.astype(float).tolist()


def small() -> Painter:
    torch.manual_seed(0)
    return Painter((4, 4, 4, 4, 4))


@pytest.fixture
def batch(faces: FaceSet) -> Batch:
    """One sample."""
    return tuple(torch.from_numpy(part[None]) for part in draw(faces)(0))


class Answer(torch.nn.Module):
    """A painter that knows the answer, and adds to it."""

    def __init__(self, faces: torch.Tensor, more: torch.Tensor) -> None:
        super().__init__()
        self.answer = torch.nn.Parameter(faces + more)

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.answer


def test_the_right_answer_costs_nothing(batch: Batch) -> None:
    _, faces, _ = batch
    features = Attributes((4, 4, 4, 4, 4))
    assert Loss(features, False, 1e-3)(Answer(faces, 0 * faces), batch).item() == pytest.approx(0)


def test_inside_the_map_an_error_costs_more_and_where_nothing_is_known_less(batch: Batch) -> None:
    given, faces, _ = batch
    known = torch.ones_like(given[:, :1])
    known[..., :40] = 0
    masks = torch.zeros_like(known)
    masks[..., 20:100] = 1
    given = torch.cat([given[:, :3], masks, given[:, 4:]], 1)

    def cost(first: int, last: int) -> float:
        more = torch.zeros_like(faces)
        more[..., first:last] = 0.1
        return Loss(None, False, 1e-3)(Answer(faces, more), (given, faces, known)).item()

    assert 0 < cost(20, 40) < UNKNOWN * cost(60, 80)  # tone is compared where it is known alone
    assert cost(60, 80) > 5 * cost(140, 160) > 0


def test_tone_is_how_far_a_colour_is_off() -> None:
    where = torch.ones(2, 1, 64, 48)
    shift = torch.tensor([0.1, -0.2, 0.0])[None, :, None, None] * where
    tone = portrait._tone(shift, where).item()
    length = (0.05 / 3) ** 0.5  # of the vector, by which 0.1 in all three is 0.1
    assert tone == pytest.approx(length, rel=1e-4)
    assert portrait._tone(0 * shift, where).item() == 0
    # Half of the squares, and of those a part of each pixel: what is off is off by as much.
    where[..., :24] = 0
    where[..., 24:] = 0.5
    assert portrait._tone(shift * where, where).item() == pytest.approx(length, rel=1e-4)
    shift[..., :24] = 1
    assert portrait._tone(shift * where, where).item() == pytest.approx(length, rel=1e-4)


def test_tone_is_compared_by_squares() -> None:
    """What averages out within one is pores and edges; from square to square it is a stain."""
    rng = torch.Generator().manual_seed(0)
    where, side = torch.ones(1, 1, 64, 64), portrait.BLUR
    noise = 0.1 * torch.randn(1, 3, 64, 64, generator=rng)
    assert noise.abs().mean() > 0.07
    assert portrait._tone(noise, where).item() < 0.015
    stripes = 0.1 * (-1) ** torch.arange(64).expand(1, 3, 64, 64)
    assert portrait._tone(stripes, where).item() == pytest.approx(0, abs=1e-6)
    stains = 0.1 * (-1) ** (torch.arange(64) // side).expand(1, 3, 64, 64)
    assert portrait._tone(stains, where).item() == pytest.approx(0.1, rel=1e-4)


def test_nothing_to_compare_has_no_tone() -> None:
    nowhere = torch.zeros(1, 1, 32, 32)
    assert portrait._tone(torch.zeros(1, 3, 32, 32), nowhere).item() == 0


def test_a_wrong_tone_costs_more_than_wrong_pores_but_only_inside_the_map(batch: Batch) -> None:
    given, faces, _ = batch
    known, masks = torch.ones_like(given[:, :1]), torch.zeros_like(given[:, :1])
    masks[..., 64:128] = 1
    given = torch.cat([given[:, :3], masks, given[:, 4:]], 1)
    checks = (-1) ** (torch.arange(faces.shape[2])[:, None] + torch.arange(faces.shape[3]))

    def cost(pattern: torch.Tensor, where: torch.Tensor) -> float:
        more = 0.05 * pattern * where * torch.ones_like(faces)
        return Loss(None, False, 1e-3)(Answer(faces, more), (given, faces, known)).item()

    even = torch.ones_like(masks)
    inside = cost(even, masks) - cost(checks, masks)
    assert inside == pytest.approx(portrait.TONE * 0.05, rel=1e-2)
    assert cost(even, 1 - masks) == pytest.approx(cost(checks, 1 - masks), rel=1e-3)


def test_the_critic_judges_patches_of_a_crop() -> None:
    critic = Critic((8, 8, 8, 8))
    opinion, seen = critic(torch.rand(2, 3, *SIZE), torch.rand(2, 1, *SIZE))
    assert opinion.shape == (2, 1, SIZE[0] // 8 - 1, SIZE[1] // 8 - 1)
    assert len(seen) == 4
    assert seen[0].shape[2:] == (SIZE[0] // 2, SIZE[1] // 2)


def test_the_masks_shadow_ends_at_no_line_under_the_map() -> None:
    seen = np.zeros((60, 80), np.float32)
    seen[:, 40:] = 1
    face, nothing = np.full((60, 80, 3), 0.8, np.float32), np.zeros_like(seen)
    lit = np.full_like(seen, 0.7)
    trio = synthesis.Trio(face, face * 0.7, nothing, nothing, lit)
    row = portrait._uncovered(trio, seen)[30, :, 0]
    assert np.allclose(row[:40], 0.8 * 0.7, atol=1e-6)  # beside the map it stays
    assert np.allclose(row[52:], 0.8, atol=1e-3)
    assert np.diff(row).min() >= 0
    assert np.diff(row).max() < 0.07  # it would be 0.24 if it ended there


def test_one_critic_sees_the_face_and_the_other_sees_it_at_half_its_size() -> None:
    faces, maps = torch.rand(2, 3, *SIZE), torch.rand(2, 1, *SIZE)
    critics = Critics().eval()
    (fine, _), (coarse, _) = critics(faces, maps)
    assert fine.shape[2:] == (SIZE[0] // 8 - 1, SIZE[1] // 8 - 1)
    assert coarse.shape[2:] == (SIZE[0] // 16 - 1, SIZE[1] // 16 - 1)
    # What repeats from pixel to pixel is gone at half the size.
    grain = faces + 0.1 * (-1) ** torch.arange(SIZE[1])
    (fine_grain, _), (coarse_grain, _) = critics(grain, maps)
    assert not torch.allclose(fine, fine_grain, atol=1e-4)
    assert torch.allclose(coarse, coarse_grain, atol=1e-5)


def steps(loss: Callable[..., torch.Tensor], painter: torch.nn.Module, batch: Batch) -> list[float]:
    """The losses of a few steps; all gradients must be finite."""
    optimizer, values = torch.optim.Adam(painter.parameters(), 3e-3), []
    for _ in range(3):
        optimizer.zero_grad()
        value = loss(painter, batch)
        value.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in painter.parameters())
        assert sum(p.grad is not None and bool(p.grad.any()) for p in painter.parameters()) > 20
        optimizer.step()
        values.append(value.item())
    assert np.isfinite(values).all()
    return values


def test_a_painter_learns(batch: Batch) -> None:
    values = steps(Loss(Attributes((4, 4, 4, 4, 4)), False, 1e-3), small(), batch)
    assert values[-1] < values[0]


def test_painter_and_critic_learn_from_each_other_and_the_critic_is_kept(batch: Batch) -> None:
    torch.manual_seed(0)
    loss = Loss(None, True, 1e-3)
    before = {name: value.clone() for name, value in loss.state_dict()["critics"].items()}
    steps(loss, small(), batch)
    after = loss.state_dict()
    assert all(value.isfinite().all() for value in after["critics"].values())
    changed = [not torch.equal(before[name], value) for name, value in after["critics"].items()]
    assert sum(changed) > len(changed) / 2

    resumed = Loss(None, True, 1e-3)
    resumed.load_state_dict(after)
    kept = resumed.state_dict()
    assert all(torch.equal(kept["critics"][n], value) for n, value in after["critics"].items())
    assert kept["optimizer"]["state"].keys() == after["optimizer"]["state"].keys() != set()


def test_without_a_critic_there_is_nothing_to_keep() -> None:
    loss = Loss(None, False, 1e-3)
    assert loss.state_dict() == {}
    loss.load_state_dict({})
    critical = Loss(None, True, 1e-3)
    critical.load_state_dict({})  # a run that goes on with a critic starts with a new one
    assert critical.state_dict()["critics"]


def test_a_calm_painter_adds_less_to_the_guess_and_paints_the_same_beyond_it() -> None:
    torch.manual_seed(0)
    painter, given = small().eval(), torch.rand(2, 9, *SIZE)
    guess, share = given[:, 5:8], given[:, 8:]
    share[..., : SIZE[1] // 2] = 0
    share[..., SIZE[1] // 2 :] = 1
    before = painter(given)
    painter.calm()
    after = painter(given)
    beyond, face = slice(0, SIZE[1] // 2), slice(SIZE[1] // 2, None)
    assert torch.allclose(after[..., beyond], before[..., beyond], atol=1e-6)
    added = (before - guess)[..., face]
    assert added.abs().max() > 1e-3
    assert torch.allclose((after - guess)[..., face], portrait.CALM * added, atol=1e-5)


def test_painted_faces_are_pictures() -> None:
    painted = portrait.predict(small(), torch.rand(3, 9, *SIZE))
    assert painted.shape == (3, 3, *SIZE)
    assert painted.dtype == torch.float32
    assert 0 <= painted.min() <= painted.max() <= 1


def test_a_blur_has_less_energy_and_noise_has_more() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.random((2, 40, 40, 3), np.float32)
    where = np.zeros((2, 40, 40), np.bool_)
    where[:, 10:30, 10:30] = True
    assert metrics.energy_ratio(pictures, pictures, where) == pytest.approx(1)
    assert metrics.energy_ratio(pictures * 0.5, pictures, where) == pytest.approx(0.25)
    assert metrics.energy_ratio(pictures * 0 + 0.5, pictures, where) == 0
    elsewhere = pictures.copy()
    elsewhere[:, :8] = 0
    assert metrics.energy_ratio(elsewhere, pictures, where) == pytest.approx(1)
