"""How fast videos are unmasked, beside what else could be done with the same files.

    python -m benchmarks.fps                                  # made clips: heights x faces
    python -m benchmarks.fps ../shared/data/clips/*.mp4       # real ones
    python -m benchmarks.fps --heights 720 --faces 1 --ways product naive deface --deface PATH

All ways take the same clip in turn, several rounds, in one run: machines are shared and noisy, so
what counts is the median of each and their ratio. The first way is the product as `stream-unmask`
runs it, opening the engines included; for the others see `benchmarks/references.py`, except
"unsteady", the product with `--no-smooth`. `x real time` is against the clip's own frame rate.

Stages are told by their milliseconds a frame, in the typical round of the product: the mean, and
what half (p50) and 95 of 100 frames (p95) don't exceed. A sample is a frame: a network's call for
a batch counts for each frame of it in equal shares, and all steps of steadying a frame are one.
"decode" and "find" are what it took to get the next frame; "find" has its first only when it has
looked at all that wait for faces to be found later. Stages run beside each other, so they don't add
up.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

import av
from rich.console import Console
from rich.table import Table

from benchmarks import references
from benchmarks.clips import make_clip
from stream_unmask import Options, Report, unmask_video

WAYS = ("product", "unsteady", "copy", "naive", "deface")
_STAGES = ("decode", "find", "segment", "steady", "repaint", "composite", "encode")
_START = """
import sys, time
begin = time.perf_counter()
from stream_unmask import Options, unmask_video
done = []
def progress(at, total):
    done.append(time.perf_counter() - begin)
unmask_video(sys.argv[1], sys.argv[2], Options(overwrite=True), progress=progress)
print(done[0])
"""


def measure(
    clip: Path, rounds: int, ways: dict[str, Callable[[Path, Path], float | Report]]
) -> dict[str, Any]:
    """The figures of one clip, by way."""
    with av.open(str(clip)) as container:
        video = container.streams.video[0]
        rate, size = float(video.average_rate or 25), f"{video.width}x{video.height}"
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    reports: list[Report] = []
    with tempfile.TemporaryDirectory() as folder:
        for index, (way, run) in product(range(rounds), ways.items()):
            done = run(clip, Path(folder) / f"{way}{index}.mp4")
            if way == "product":
                assert isinstance(done, Report)
                reports.append(done)
            seconds[way].append(done.seconds if isinstance(done, Report) else done)
    typical = sorted(reports, key=lambda report: report.seconds)[rounds // 2]
    frames = typical.frames
    fps = {way: frames / statistics.median(times) for way, times in seconds.items()}
    return {
        "clip": clip.name, "size": size, "frames": frames, "rate": rate,
        "faces": typical.faces / frames, "masked_faces": typical.masked_faces / frames,
        "fps": fps, "rounds": seconds, "real_time": fps["product"] / rate,
        "ratio": {way: fps["product"] / other for way, other in fps.items() if way != "product"},
        "ms": {name: 1000 * typical.stages.get(name, 0) / frames for name in _STAGES},
        "ms_quantiles": typical.stage_ms,
    }  # fmt: skip


def start(clip: Path) -> dict[str, float]:
    """Seconds from the start of Python to the first finished frame, without and with what OpenVINO
    keeps of compiled engines."""
    with tempfile.TemporaryDirectory() as folder:
        place = os.environ | {"XDG_CACHE_HOME": folder}
        command = [sys.executable, "-c", _START, str(clip), f"{folder}/out.mp4"]
        cold, *warm = (
            float(subprocess.run(command, env=place, check=True, capture_output=True).stdout)
            for _ in range(4)
        )
    return {"cold": cold, "warm": statistics.median(warm)}


def show(results: list[dict[str, Any]]) -> None:
    """Prints the figures as two tables."""
    others = list(results[0]["ratio"])
    speeds = Table("clip", "size", "faces", "masked", "fps", "x real time",
                   *(f"x {way}" for way in others))  # fmt: skip
    stages = Table("clip", *_STAGES, title="milliseconds a frame: mean (p50, p95)")
    for one in results:
        numbers = [one["fps"]["product"], one["real_time"], *(one["ratio"][w] for w in others)]
        speeds.add_row(
            one["clip"], one["size"], f"{one['faces']:.1f}", f"{one['masked_faces']:.1f}",
            *(f"{number:.2f}" for number in numbers),
        )  # fmt: skip
        spread = one["ms_quantiles"]
        stages.add_row(
            one["clip"],
            *(f"{one['ms'][n]:.1f} ({spread[n]['p50']:.1f}, {spread[n]['p95']:.1f})"
              for n in _STAGES),
        )  # fmt: skip
    Console(width=200).print(speeds, stages)


def chart(results: list[dict[str, Any]], path: Path) -> None:
    """Frames a second of every way as bars, on a logarithmic scale."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(2 + 1.4 * len(results), 4), layout="constrained")
    ways = list(results[0]["fps"])
    for number, way in enumerate(ways):
        places = [index + 0.8 * number / len(ways) for index in range(len(results))]
        bars = axes.bar(places, [one["fps"][way] for one in results], 0.8 / len(ways), label=way)
        axes.bar_label(bars, fmt="%.0f", fontsize=7)
    axes.set_xticks(
        [i + 0.4 for i in range(len(results))], [o["clip"] for o in results], fontsize=7
    )
    axes.set(ylabel="frames a second", yscale="log")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "python": platform.python_version(), "platform": platform.platform(),
        "cores": os.cpu_count(),
    }  # fmt: skip


def made(args: argparse.Namespace, folder: Path) -> Iterator[Path]:
    """Clips of every height and number of faces that were asked for."""
    for height, faces in product(args.heights, args.faces):
        path = folder / f"{height}p_{faces}.mp4"
        make_clip(path, height, faces, args.seconds)
        yield path


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures frames per second.")
    parser.add_argument("clips", type=Path, nargs="*", help="else some are made")
    parser.add_argument("--heights", type=int, nargs="+", default=[360, 720, 1080])
    parser.add_argument("--faces", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--seconds", type=float, default=8.0, help="of a clip that is made")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=["product", "copy"])
    parser.add_argument("--deface", default="deface", help="the program, from its own environment")
    parser.add_argument("--profile", default=Options().profile)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--chart", type=Path, help="also draw them, as a PNG")
    args = parser.parse_args()
    options = Options(profile=args.profile, backend=args.backend, device=args.device)
    unsteady = Options(options.profile, options.backend, options.device, smooth=False)
    with ExitStack() as stack:
        ways: dict[str, Callable[[Path, Path], float | Report]] = {
            "product": lambda clip, target: unmask_video(clip, target, options),
            "unsteady": lambda clip, target: unmask_video(clip, target, unsteady).seconds,
            "copy": references.copy,
            "deface": lambda clip, target: references.deface(args.deface, clip, target),
        }
        if "naive" in args.ways:
            parts = stack.enter_context(references.torch_parts())
            ways["naive"] = lambda clip, target: references.naive(clip, target, parts)
        wanted = {way: ways[way] for way in dict.fromkeys(["product", *args.ways])}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        clips = args.clips or list(made(args, folder))
        results = [measure(clip, args.rounds, wanted) for clip in clips]
        show(results)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
        about = machine() | {
            "profile": args.profile, "peak_rss_mib": round(peak, 1), "start": start(clips[0]),
        }  # fmt: skip
    print(", ".join(f"{key}: {value}" for key, value in about.items()))
    if args.json is not None:
        args.json.write_text(json.dumps(about | {"clips": results}, indent=1), encoding="utf-8")
    if args.chart is not None:
        chart(results, args.chart)


if __name__ == "__main__":
    main()
