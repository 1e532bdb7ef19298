"""Whether memory stays constant: the peak on ten minutes of a clip against that on ten seconds.

    python -m benchmarks.memory ../shared/data/clips/masked_woman_desk_404p.mp4

Both files are the clip over and over (its packets are copied, nothing is encoded), and each is
unmasked by a process of its own, which says how much it held at its peak. Exits with 1 if the
longer one took more than a tenth more.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

_ALLOWED = 1.10
_CHILD = """
import json, resource, sys
from stream_unmask import unmask_video
report = unmask_video(sys.argv[1], sys.argv[2])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
print(json.dumps({"frames": report.frames, "seconds": report.seconds, "peak_rss_mib": peak}))
"""


def loop(clip: Path, target: Path, seconds: float) -> None:
    """`target` holds the clip repeated until it lasts `seconds`, sound and picture copied."""
    begin, end = _span(clip)
    with av.open(str(target), "w") as output:
        streams: dict[int, Any] = {}
        shift = Fraction(0)
        while shift < seconds:
            with av.open(str(clip)) as source:
                for stream in _copied(source):
                    if stream.index not in streams:
                        streams[stream.index] = output.add_stream_from_template(stream)
                for packet in source.demux(*_copied(source)):
                    if packet.dts is None:
                        continue
                    moved = round(shift / packet.time_base)
                    packet.pts = None if packet.pts is None else packet.pts + moved
                    packet.dts += moved
                    packet.stream = streams[packet.stream_index]
                    output.mux(packet)
            shift += end - begin


def _copied(container: Any) -> list[Any]:
    return [stream for stream in container.streams if stream.type in ("video", "audio")]


def _span(clip: Path) -> tuple[Fraction, Fraction]:
    """When the first packet of a clip begins and the last one ends, in seconds."""
    begins, ends = [], []
    with av.open(str(clip)) as source:
        for packet in source.demux(*_copied(source)):
            if packet.dts is not None:
                begins.append(packet.dts * packet.time_base)
                last = max(packet.pts or packet.dts, packet.dts) + (packet.duration or 1)
                ends.append(last * packet.time_base)
    return min(begins), max(ends)


def peak(clip: Path, folder: Path) -> dict[str, float]:
    """Frames, seconds and the peak resident size in MiB of a process that unmasks the clip."""
    target = folder / f"unmasked_{clip.name}"
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(clip), str(target)],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    target.unlink()
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares peak memory of a short and a long run.")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--short", type=float, default=10, help="seconds")
    parser.add_argument("--long", type=float, default=600, help="seconds")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seconds in (args.short, args.long):
            looped = folder / f"{seconds:g}s{args.clip.suffix}"
            loop(args.clip, looped, seconds)
            figures[f"{seconds:g} s"] = one = peak(looped, folder)
            looped.unlink()
            print(f"{seconds:g} s: {one['frames']} frames, peak {one['peak_rss_mib']:.0f} MiB")
    short, long = (one["peak_rss_mib"] for one in figures.values())
    print(f"ratio {long / short:.3f}, at most {_ALLOWED}")
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    sys.exit(long > _ALLOWED * short)


if __name__ == "__main__":
    main()
