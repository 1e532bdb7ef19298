"""How fast clips are unmasked, beside the same files decoded and encoded untouched.

    python -m benchmarks.fps ../shared/data/clips/*.mp4 --json fps.json

Both are run in turn, in one process; of several rounds the median counts. Opening the engines is
part of the time. `x real time` is against the clip's own frame rate: above 1 is faster than it
plays. Milliseconds are per frame; stages run beside each other, so they don't add up.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from stream_unmask import Options, Report, unmask_video
from stream_unmask.prefetch import prefetch
from stream_unmask.video.reader import Reader
from stream_unmask.video.writer import Writer

_STAGES = ("decode", "find", "segment", "steady", "repaint", "composite", "encode")


@dataclass(frozen=True)
class Round:
    """One run of each kind."""

    copy_seconds: float
    report: Report


def copy(source: Path, target: Path, duration: float | None) -> float:
    """Seconds to decode a file ahead, as unmasking does, and encode it again untouched."""
    begin = time.perf_counter()
    with (
        Reader(source, end=duration) as reader,
        Writer(target, reader) as writer,
        prefetch(reader, 8) as frames,
    ):
        for frame in frames:
            writer.write(frame)
    return time.perf_counter() - begin


def measure(clip: Path, rounds: int, options: Options) -> dict[str, Any]:
    """The figures of one clip."""
    with Reader(clip) as reader:
        rate, size = float(reader.frame_rate), f"{reader.width}x{reader.height}"
    done = []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(rounds):
            plain, result = (Path(folder) / f"{kind}{index}.mp4" for kind in ("copy", "unmasked"))
            done.append(
                Round(
                    copy(clip, plain, options.duration),
                    unmask_video(clip, result, options),
                )
            )
    typical = sorted((one.report for one in done), key=lambda report: report.seconds)[rounds // 2]
    frames = typical.frames
    copied = frames / statistics.median(one.copy_seconds for one in done)
    fps = frames / typical.seconds
    return {
        "clip": clip.name, "size": size, "frames": frames, "rate": rate,
        "faces": typical.faces, "masked_faces": typical.masked_faces,
        "copy_fps": copied, "fps": fps, "ratio": fps / copied, "real_time": fps / rate,
        "ms": {name: 1000 * typical.stages.get(name, 0) / frames for name in _STAGES},
        "backend": typical.backend,
    }  # fmt: skip


def show(results: list[dict[str, Any]]) -> None:
    """Prints the figures as a table."""
    table = Table("clip", "size", "frames", "faces", "masked", "copy fps", "fps", "ratio",
                  "x real time", *(f"{name} ms" for name in _STAGES))  # fmt: skip
    for one in results:
        numbers = (one[key] for key in ("copy_fps", "fps", "ratio", "real_time"))
        table.add_row(
            one["clip"], one["size"], *(str(one[k]) for k in ("frames", "faces", "masked_faces")),
            *(f"{number:.2f}" for number in numbers), *(f"{one['ms'][n]:.1f}" for n in _STAGES),
        )  # fmt: skip
    console = Console(width=200)
    console.print(table)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "python": platform.python_version(), "platform": platform.platform(),
        "cores": os.cpu_count(),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures frames per second.")
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="of each clip, from its start")
    parser.add_argument("--profile", default=Options().profile)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    options = Options(
        profile=args.profile, backend=args.backend, device=args.device, end=args.seconds
    )
    results = [measure(clip, args.rounds, options) for clip in args.clips]
    show(results)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    facts = machine() | {
        "profile": args.profile,
        "backend": results[0]["backend"],
        "peak_rss_mib": round(peak, 1),
    }
    print(", ".join(f"{key}: {value}" for key, value in facts.items()))
    if args.json is not None:
        args.json.write_text(json.dumps(facts | {"clips": results}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
