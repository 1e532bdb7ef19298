"""The training loop that all recipes share: time budget, schedule, averaged weights, checkpoints.

A run folder holds `last.pt` (to resume), `best.pt` and `best.json` (the best score ever reached in
that folder and how; a later run that does worse leaves them alone) and `log.jsonl`.
"""

import argparse
import copy
import ctypes
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

Score = dict[str, float]  # "score" decides, higher is better; the rest is logged


@dataclass(frozen=True, slots=True)
class Config:
    """What a run may use. minutes: of training, resumed ones included."""

    out: Path
    seed: int
    minutes: float
    batch: int
    rate: float
    check_every: float = 3.0  # minutes
    workers: int = 1
    decay: float = 0.995  # of the averaged weights, per step
    beta: float = 0.9  # of the mean gradient


class Stateful(Protocol):
    """Something whose state can be kept in a file."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> object: ...


class Drawn(Dataset[tuple[NDArray[np.float32], ...]]):
    """An endless dataset: item `index` is `draw(index)`, a tuple of arrays."""

    def __init__(self, draw: Callable[[int], tuple[NDArray[np.float32], ...]], start: int) -> None:
        self._draw, self._start = draw, start

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], ...]:
        return self._draw(self._start + index)


def device() -> torch.device:
    """CUDA where there is a GPU, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast() -> torch.autocast:
    """bf16 arithmetic, on a CPU as on a GPU."""
    return torch.autocast(device().type, torch.bfloat16)


def fit(
    network: nn.Module,
    draw: Callable[[int], tuple[NDArray[np.float32], ...]],
    loss: Callable[[nn.Module, tuple[Tensor, ...]], Tensor],
    validate: Callable[[nn.Module], Score],
    config: Config,
    learner: Stateful | None = None,
) -> Score:
    """The best score reached; the averaged weights that reached it are in `best.pt`.

    draw(index) gives one sample's arrays; loss(network, batch) the scalar to minimise;
    validate(network) is asked every `check_every` minutes, about the averaged weights. learner:
    something else that learns on the way and must be kept to resume.
    """
    torch.manual_seed(config.seed)
    _keep_memory()
    config.out.mkdir(parents=True, exist_ok=True)
    network = network.to(device(), memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        network.parameters(), config.rate, (config.beta, 0.999), weight_decay=1e-4
    )
    run = _Run(config, network, average, optimizer, learner)
    run.resume()
    for batch in _batches(draw, config, run.step * config.batch):
        run.advance(loss, batch)
        if run.due() or run.over():
            run.check(validate)
        if run.over():
            break
    return run.best()


class _Run:
    """The state of a run, and what is kept of it on disk."""

    def __init__(
        self,
        config: Config,
        network: nn.Module,
        average: nn.Module,
        optimizer: torch.optim.AdamW,
        learner: Stateful | None,
    ) -> None:
        self.config, self.network, self.average = config, network, average
        self.parts: dict[str, Stateful] = {
            "network": network, "average": average, "optimizer": optimizer,
        }  # fmt: skip
        if learner is not None:
            self.parts["learner"] = learner
        self.optimizer = optimizer
        self.step, self.seconds, self._checked, self._loss = 0, 0.0, 0.0, 0.0
        self._tick = time.monotonic()

    def advance(
        self, loss: Callable[[nn.Module, tuple[Tensor, ...]], Tensor], batch: tuple[Tensor, ...]
    ) -> None:
        self.network.train()
        done = min(self.seconds / (self.config.minutes * 60), 1)
        warm = min((self.step + 1) / 100, 1)
        for group in self.optimizer.param_groups:
            group["lr"] = (
                self.config.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
            )
        self.optimizer.zero_grad(set_to_none=True)
        value = loss(self.network, batch)
        value.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._blend()
        self._loss += 0.02 * (value.item() - self._loss) if self.step > 1 else value.item()
        now = time.monotonic()
        self.seconds, self._tick = self.seconds + now - self._tick, now

    def _blend(self) -> None:
        decay = min(self.config.decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            pairs = zip(
                self.average.state_dict().values(), self.network.state_dict().values(), strict=True
            )
            for kept, new in pairs:
                if kept.is_floating_point():
                    kept.lerp_(new, 1 - decay)
                else:
                    kept.copy_(new)

    def due(self) -> bool:
        return self.seconds - self._checked >= self.config.check_every * 60

    def over(self) -> bool:
        return self.seconds >= self.config.minutes * 60

    def check(self, validate: Callable[[nn.Module], Score]) -> None:
        score = validate(self.average)
        line = {"step": self.step, "minutes": round(self.seconds / 60, 2), "loss": self._loss}
        line |= score
        print(json.dumps({k: round(v, 4) for k, v in line.items()}), flush=True)
        with (self.config.out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        if score["score"] > self.best().get("score", -math.inf):
            _save(self.average.state_dict(), self.config.out / "best.pt")
            settings = {key: str(value) for key, value in asdict(self.config).items()}
            text = json.dumps({**line, "config": settings}, indent=1)
            (self.config.out / "best.json").write_text(text, encoding="utf-8")
        state: dict[str, Any] = {name: part.state_dict() for name, part in self.parts.items()}
        _save(state | {"step": self.step, "seconds": self.seconds}, self.config.out / "last.pt")
        self._checked, self._tick = self.seconds, time.monotonic()

    def resume(self) -> None:
        path = self.config.out / "last.pt"
        if not path.is_file():
            return
        state = torch.load(path, map_location=device(), weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.step, self.seconds = state["step"], state["seconds"]
        self._checked, self._tick = self.seconds, time.monotonic()
        print(f"resumed at step {self.step}, minute {self.seconds / 60:.1f}", flush=True)

    def best(self) -> Score:
        path = self.config.out / "best.json"
        return cast(Score, json.loads(path.read_text())) if path.is_file() else {}


def _batches(
    draw: Callable[[int], tuple[NDArray[np.float32], ...]], config: Config, start: int
) -> Iterator[tuple[Tensor, ...]]:
    # Samples are made by index, so a resumed run goes on with those that it has not yet seen.
    # Spawned, as a worker forked from a process with OpenVINO's or OpenCV's threads hangs.
    loader = DataLoader(
        Drawn(draw, start), config.batch, num_workers=config.workers, worker_init_fn=_quiet,
        prefetch_factor=4 if config.workers else None,
        multiprocessing_context="spawn" if config.workers else None,
    )  # fmt: skip
    for batch in loader:
        yield tuple(
            part.to(device(), non_blocking=True).contiguous(
                memory_format=torch.channels_last if part.dim() == 4 else torch.contiguous_format
            )
            for part in batch
        )


def _keep_memory() -> None:
    """Has glibc keep what is freed: handing large tensors back to the kernel and taking them anew
    costs a third of a step on a CPU."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        trim_threshold, mmap_max = -1, -4  # malloc.h
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)


def _quiet(_: int) -> None:
    threadpool_limits(1, user_api="blas")
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _save(state: Any, path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def load_best(network: nn.Module, out: Path) -> nn.Module:
    """`network` with the best weights of a run folder, ready to evaluate."""
    network.load_state_dict(torch.load(out / "best.pt", map_location="cpu", weights_only=True))
    return network.eval()


def last_learner(out: Path) -> dict[str, Any]:
    """What a run folder's `learner` had learned at last; empty if it had none."""
    path = out / "last.pt"
    if not path.is_file():
        return {}
    state = torch.load(path, map_location=device(), weights_only=True)
    return cast(dict[str, Any], state.get("learner", {}))


def chw(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """(3, h, w) contiguous float32 from (h, w, 3)."""
    return np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32)


def arguments(description: str, minutes: float, out: str) -> argparse.ArgumentParser:
    """The command line that all recipes share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="zip files")
    parser.add_argument("--cache", type=Path, default=Path("runs/faces"), help="training.dataset's")
    parser.add_argument("--templates", type=Path, help="mask pictures instead of the drawn ones")
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--start", type=Path, help="run folder, or engine, to start from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--batch", type=int, default=16)
    return parser
