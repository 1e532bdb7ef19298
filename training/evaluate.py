"""Measures the shipped engines through the product's own functions: evaluation.md, A to F.

    python -m training.evaluate
    python -m training.evaluate --profile paper --parts segmentation photos --limit 40
    python -m training.evaluate --parts profiles attributes --before runs/portrait
    python -m training.evaluate video --out runs/evaluation_video

prints tables in Markdown and leaves them in OUT/tables.md and OUT/results.json, with contact
sheets beside them. The same engines give the same figures.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from stream_unmask.backends.artefacts import manifest
from stream_unmask.models.profile import PORTRAIT, PROFILES
from stream_unmask.options import Options
from stream_unmask.pipeline import Parts, open_parts
from stream_unmask.unmask import Networks
from training import (
    evaluate_detection,
    evaluate_glance,
    evaluate_pairs,
    evaluate_photos,
    evaluate_profiles,
    evaluate_video,
)
from training.dataset import load_faces
from training.product import LFW, SEED, UTKFACE, Bench

PARTS = (
    *evaluate_pairs.PARTS, *evaluate_photos.PARTS, *evaluate_detection.PARTS,
    *evaluate_profiles.PARTS, *evaluate_glance.PARTS,
)  # fmt: skip
VIDEO = "video"
ONLY_LFW = {VIDEO, *evaluate_photos.PARTS, *evaluate_detection.PARTS}  # of the sets of faces


def run(bench: Bench) -> None:
    """Fills the tables of all parts that are wanted; says on stderr how long each step took."""
    steps: dict[Callable[[Bench], None], set[str]] = {
        evaluate_detection.detection: set(evaluate_detection.PARTS),
        evaluate_photos.labelled: {"photos"},
        evaluate_photos.false_edits: {"false-edits"},
        evaluate_photos.unlabelled: {"unlabelled"},
        evaluate_glance.glance: set(evaluate_glance.PARTS),
        evaluate_profiles.compared: set(evaluate_profiles.PARTS),
        evaluate_pairs.synthetic: set(evaluate_pairs.PARTS),
        evaluate_video.video: {VIDEO},
    }
    for step, parts in steps.items():
        if bench.wanted & parts:
            begin = time.perf_counter()
            step(bench)
            print(f"{step.__name__}: {time.perf_counter() - begin:.0f} s", file=sys.stderr)


@contextmanager
def opened(
    profile: str, wanted: set[str], before: Path | None
) -> Iterator[tuple[Parts, dict[str, Networks]]]:
    """The product with a profile, and by name the networks to compare with each other, if wanted.

    before: run folder of the portrait's inpainter as it was before the critic.
    """
    with ExitStack() as stack:
        parts = stack.enter_context(open_parts(Options(profile=profile)))
        networks = {}
        if wanted & set(evaluate_profiles.PARTS):
            for name in reversed(PROFILES):
                other = parts if name == profile else None
                other = other or stack.enter_context(open_parts(Options(profile=name)))
                networks[name] = other.networks
            if before is not None:
                found = evaluate_profiles.without_critic(before, networks[PORTRAIT.name])
                networks[evaluate_profiles.BEFORE] = found
        yield parts, networks


def facts(bench: Bench) -> dict[str, Any]:
    """Which code and which engines are measured, and how much of the data.

    commit: with a "+" if the working tree has other changes. engines: the first digits of their
    checksums.
    """
    commit, changes = (
        subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *command],
            capture_output=True, text=True, check=False,
        ).stdout.strip()
        for command in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain"))
    )  # fmt: skip
    return {
        "commit": commit + "+" * bool(changes), "profile": bench.profile.name,
        "engines": {name: str(entry["sha256"])[:12] for name, entry in manifest().items()},
        "runs on": bench.parts.backend, "seed": SEED, "limit": bench.limit,
        "parts": [part for part in (*PARTS, VIDEO) if part in bench.wanted],
    }  # fmt: skip


def markdown(bench: Bench, about: dict[str, Any]) -> str:
    """All tables, under the facts that every figure needs."""
    known = [f"- {key}: {_plain(value)}" for key, value in about.items()]
    tables = [t.markdown() for t in sorted(bench.tables.values(), key=lambda t: t.title)]
    return "\n".join(["# Evaluation", "", *known, "", *tables])


def results(bench: Bench, about: dict[str, Any]) -> dict[str, Any]:
    """The same for a machine, with the figures of single photographs; null where there is none."""
    tables = {
        name: {"title": table.title, "note": table.note, "rows": table.rows}
        for name, table in bench.tables.items()
    }
    whole: dict[str, Any] = _finite({"facts": about, "tables": tables, "details": bench.details})
    return whole


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {entry}" for key, entry in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main() -> None:
    """Runs the parts that are asked for."""
    parser = argparse.ArgumentParser(description="Measures the shipped engines.")
    parser.add_argument(
        "what", nargs="?", choices=("pictures", VIDEO), default="pictures", help="pictures, or E"
    )
    parser.add_argument("--profile", choices=PROFILES, default=PORTRAIT.name)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/faces"))
    parser.add_argument("--out", type=Path, default=Path("runs/evaluation"))
    parser.add_argument("--limit", type=int, help="at most so many pictures of each kind")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--before", type=Path, help="run folder of the portrait without critics")
    parser.add_argument(
        "--check-network", type=Path, default=Path("runs/attributes_check"),
        help="run folder of training.attributes --check",
    )  # fmt: skip
    args = parser.parse_args()
    if args.limit is not None and args.limit < 1:
        parser.error("--limit must be at least 1")
    args.out.mkdir(parents=True, exist_ok=True)
    wanted = {VIDEO} if args.what == VIDEO else set(args.parts)
    needed = (LFW,) if wanted <= ONLY_LFW else (UTKFACE, LFW)
    sets = load_faces(args.cache, args.data, needed)
    with opened(args.profile, wanted, args.before) as (parts, networks):
        bench = Bench(
            parts, args.data, args.out, args.limit, wanted, sets, networks, args.check_network
        )
        about = facts(bench) | ({"before": str(args.before)} if args.before else {})
        run(bench)
    text = markdown(bench, about)
    (args.out / "tables.md").write_text(text, encoding="utf-8")
    found = json.dumps(results(bench, about), indent=1)
    (args.out / "results.json").write_text(found, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
