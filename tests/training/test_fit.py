"""The loop that all recipes share, on a network of ten numbers."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.needs_train
torch = pytest.importorskip("torch")

from training import fit  # noqa: E402
from training.fit import Config, Score  # noqa: E402

SECOND = 1 / 60  # in minutes


@pytest.fixture(autouse=True)
def _memory_and_threads_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What speeds up a long run is set for the whole process, which here has other tests to do."""
    monkeypatch.setattr(fit, "_keep_memory", lambda: None)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Conv2d(1, 1, 3, padding=1)


def draw(index: int) -> tuple[np.ndarray, ...]:
    picture = np.random.default_rng(index).random((1, 8, 8), np.float32)
    return picture, picture * 2


def loss(net: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    pictures, doubled = batch
    return torch.nn.functional.mse_loss(net(pictures), doubled)


def error(net: torch.nn.Module) -> Score:
    pictures, doubled = (torch.from_numpy(part)[None] for part in draw(10**6))
    with torch.no_grad():
        return {"score": -float(loss(net, (pictures, doubled))), "also": 1.0}


def run(out: Path, seconds: float = 1.0, score: float | None = None) -> Score:
    config = Config(out, 1, seconds * SECOND, 8, 3e-2, check_every=0.3 * SECOND, workers=0)
    validate = error if score is None else lambda net: {"score": score}
    return fit.fit(network(), draw, loss, validate, config)


def lines(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_a_run_learns_and_leaves_its_files(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "toy"
    best = run(out, 1.5)
    assert {p.name for p in out.iterdir()} == {"last.pt", "best.pt", "best.json", "log.jsonl"}
    assert len(lines(out)) >= 2
    assert best["score"] == max(line["score"] for line in lines(out))
    assert best["score"] > 0.7 * error(network())["score"]
    trained = fit.load_best(network(), out)
    assert error(trained)["score"] == pytest.approx(best["score"], abs=1e-6)
    assert not trained.training


def test_a_resumed_run_goes_on(tmp_path: Path) -> None:
    run(tmp_path, 0.5)
    first = lines(tmp_path)[-1]
    run(tmp_path, 1.0)
    later = lines(tmp_path)[-1]
    assert later["step"] > first["step"]
    assert 1.0 * SECOND - 0.01 <= later["minutes"] < 2.0 * SECOND
    steps = [line["step"] for line in lines(tmp_path)]
    assert steps == sorted(steps)


def test_samples_already_seen_are_not_seen_again(tmp_path: Path) -> None:
    seen: list[int] = []

    def noted(index: int) -> tuple[np.ndarray, ...]:
        seen.append(index)
        return draw(index)

    config = Config(tmp_path, 1, 0.3 * SECOND, 8, 1e-2, check_every=SECOND, workers=0)
    fit.fit(network(), noted, loss, error, config)
    done = 8 * int(lines(tmp_path)[-1]["step"])
    seen.clear()
    config = Config(tmp_path, 1, 0.6 * SECOND, 8, 1e-2, check_every=SECOND, workers=0)
    fit.fit(network(), noted, loss, error, config)
    assert min(seen) == done


def test_a_worse_run_does_not_replace_the_best(tmp_path: Path) -> None:
    run(tmp_path, 0.3, score=5.0)
    kept = (tmp_path / "best.pt").read_bytes(), (tmp_path / "best.json").read_bytes()
    (tmp_path / "last.pt").unlink()  # a new run in the same folder
    assert run(tmp_path, 0.3, score=4.0)["score"] == 5.0
    assert ((tmp_path / "best.pt").read_bytes(), (tmp_path / "best.json").read_bytes()) == kept
    assert lines(tmp_path)[-1]["score"] == 4.0
    (tmp_path / "last.pt").unlink()
    assert run(tmp_path, 0.3, score=6.0)["score"] == 6.0


def test_a_seed_gives_the_same_first_step(tmp_path: Path) -> None:
    losses = []
    for name in ("one", "two"):
        config = Config(tmp_path / name, 1, 1e-6, 8, 1e-2, check_every=1.0, workers=0)
        fit.fit(network(), draw, loss, error, config)
        losses.append([(line["step"], line["loss"]) for line in lines(tmp_path / name)])
    assert losses[0] == losses[1]
    assert losses[0][0][0] == 1


class Counted:
    """Something that learns on the way: it counts the batches, in a number that it can keep."""

    def __init__(self) -> None:
        self.batches = torch.zeros(1)

    def __call__(self, net: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        self.batches = self.batches + 1
        return loss(net, batch)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"batches": self.batches}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.batches = state["batches"]


def test_what_else_learns_is_kept_on_resume(tmp_path: Path) -> None:
    for seconds in (0.3, 0.6):
        learner = Counted()
        config = Config(tmp_path, 1, seconds * SECOND, 8, 1e-2, check_every=SECOND, workers=0)
        fit.fit(network(), draw, learner, error, config, learner)
        assert learner.batches.item() == lines(tmp_path)[-1]["step"]
    first, last = (line["step"] for line in lines(tmp_path))
    assert last > first


def test_what_else_learned_is_found_in_a_runs_folder(tmp_path: Path) -> None:
    """So that another run can start with it."""
    assert fit.last_learner(tmp_path) == {}
    assert fit.last_learner(tmp_path / "nowhere") == {}
    learner = Counted()
    config = Config(tmp_path, 1, 0.3 * SECOND, 8, 1e-2, check_every=SECOND, workers=0)
    fit.fit(network(), draw, learner, error, config, learner)
    kept = fit.last_learner(tmp_path)
    assert kept.keys() == {"batches"}
    assert kept["batches"].item() == learner.batches.item() == lines(tmp_path)[-1]["step"] > 0
    heir = Counted()
    heir.load_state_dict(kept)
    assert heir.batches.item() == learner.batches.item()


def test_a_run_in_which_nothing_else_learned_leaves_nothing(tmp_path: Path) -> None:
    run(tmp_path, 0.3)
    assert (tmp_path / "last.pt").is_file()
    assert fit.last_learner(tmp_path) == {}


def test_the_mean_gradient_is_kept_as_long_as_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adversarial run forgets faster: `beta` reaches the optimizer."""
    seen: list[tuple[float, float]] = []

    class Watched(torch.optim.AdamW):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[arg-type]
            seen.append(self.param_groups[0]["betas"])

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    config = Config(tmp_path, 1, 1e-6, 8, 1e-2, check_every=1.0, workers=0, beta=0.5)
    fit.fit(network(), draw, loss, error, config)
    assert seen == [(0.5, 0.999)]
