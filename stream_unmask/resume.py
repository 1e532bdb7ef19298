"""A long video in segments, so that a run that was interrupted can be taken up.

Each segment is worked on by itself, from some seconds before it, and kept; at the end all are
joined with the sound and everything else of the input. A run that was never interrupted does the
same, so that both end in the same file.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stream_unmask.api import Progress, Run, flow, open_reader, open_writer
from stream_unmask.errors import EmptyWindowError, OutputError
from stream_unmask.options import Options
from stream_unmask.pipeline import Parts, open_parts
from stream_unmask.report import Report, Track
from stream_unmask.video.encoder import usable
from stream_unmask.video.segments import Segments
from stream_unmask.video.target import claim

_SECONDS = 60.0  # how long a segment is
_BEFORE = 2.0  # by which people are looked at earlier, to be held steady from its first frame


def unmask_resumably(
    source: str | Path,
    target: str | Path,
    options: Options | None = None,
    *,
    progress: Progress | None = None,
    parts: Parts | None = None,
    seconds: float = _SECONDS,
) -> Report:
    """What was done, as `unmask_video` says it; an earlier run's segments are taken up.

    They stay in the folder NAME.part beside the target until it is whole, whatever happens. People
    count anew in each segment. source: a file. Errors are those of `unmask_video`.
    """
    options, begin = options or Options(), time.perf_counter()
    source, target = Path(source), Path(target)
    with ExitStack() as stack:
        with open_reader(source, options) as reader:  # refuses what is no video before all else
            length = reader.duration
            encoding, _ = usable(options.encoding, reader.first, reader.frame_rate)
        claim(target, source, options.overwrite)
        folder = target.with_name(f"{target.stem}.part")
        # One track can't be of two encoders: when hardware comes or goes, all begins anew.
        what = _fingerprint(source, replace(options, encoding=encoding), seconds)
        segments = Segments(folder, target.suffix, what)
        windows = list(_windows(options, length, seconds))
        if len(segments.facts) < len(windows):
            parts = parts or stack.enter_context(open_parts(options))
        for window in windows[len(segments.facts) :]:
            assert parts is not None
            segments.add(_segment(source, segments, window, options, parts, progress))
        report = _joined(source, target, segments, options)
    segments.discard()
    return replace(report, seconds=time.perf_counter() - begin)


def _fingerprint(source: Path, options: Options, seconds: float) -> dict[str, Any]:
    """What makes segments useless when it changes."""
    facts = source.stat()
    kept = asdict(replace(options, overwrite=False, keep_partial=False, start=None, end=None))
    return {
        "version": version("stream-unmask"), "source": str(source.resolve()),
        "size": facts.st_size, "changed": facts.st_mtime_ns, "seconds": seconds,
        "start": options.start, "end": options.end, "options": kept,
    }  # fmt: skip


def _windows(
    options: Options, length: Fraction | None, seconds: float
) -> Iterator[tuple[float, float | None]]:
    """(start, end) of each segment; the last goes on to the end, wherever that is."""
    begin = options.start or 0.0
    count = max(math.ceil(length / Fraction(seconds)), 1) if length is not None else 1
    for index in range(count):
        last = index == count - 1
        yield begin + index * seconds, options.end if last else begin + (index + 1) * seconds


def _segment(
    source: Path,
    segments: Segments,
    window: tuple[float, float | None],
    options: Options,
    parts: Parts,
    progress: Progress | None,
) -> dict[str, Any]:
    """What is to be known of the next segment, which is made."""
    start, end = window
    run, index = Run(), len(segments.facts)
    before = max(start - _BEFORE, 0.0)
    apart = replace(
        options, start=before, end=end, overwrite=True, keep_partial=False,
        encoding=replace(options.encoding, repeatable=True),
    )  # fmt: skip
    try:
        with open_reader(source, apart) as reader:
            # The first one may hold pictures from before the clock begins, as edit lists have them.
            instant = reader.clock - reader.zero + Fraction(start).limit_denominator(1_000_000)
            since = instant if start > 0 else None
            with open_writer(segments.path(index), reader, apart, carry=False) as writer:
                made = [each["encoder"] for each in segments.facts if each["frames"]]
                if made and made[0] != writer.encoder:
                    raise OutputError(
                        f"{source}: {made[0]} encoded it so far, and {writer.encoder} would now."
                    )
                flow(
                    reader, writer, parts, apart, run, since=since,
                    progress=_shifted(progress, before, options.start or 0.0),
                )  # fmt: skip
            zero, encoder, frames = reader.zero - writer.shift, writer.encoder, writer.frames
            dropped, decoder = writer.dropped, reader.decoder.name
            warnings = [*filter(None, [reader.decoder.warning]), *writer.warnings]
    except EmptyWindowError:
        return {"frames": 0}
    return {
        "zero": str(zero), "encoder": encoder, "frames": frames, "edited": run.edited,
        "faces": run.faces, "masked": run.masked, "backend": parts.backend, "decoder": decoder,
        "dropped": dropped, "warnings": warnings, "stages": run.clock.seconds,
        "tracks": [asdict(track) for track in run.tracks.values()],
    }  # fmt: skip


def _shifted(progress: Progress | None, before: float, start: float) -> Progress | None:
    """Progress of a segment as that of the whole, whose length is not known here."""
    if progress is None:
        return None
    return lambda done, _: progress(before + done - start, None)


def _joined(source: Path, target: Path, segments: Segments, options: Options) -> Report:
    """What was done in all segments, whose pictures are in the target with all else."""
    with (
        open_reader(source, options) as reader,
        segments,
        open_writer(target, reader, options, segments=segments) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    facts = [each for each in segments.facts if each["frames"]]
    sums: Counter[str] = Counter()
    stages: Counter[str] = Counter()
    for each in facts:
        sums.update({key: each[key] for key in ("edited", "faces", "masked")})
        stages.update(each["stages"])
    tracks = [Track(**track) for each in facts for track in each["tracks"]]
    lost = dict.fromkeys(phrase for each in facts for phrase in each["dropped"])
    told = [sentence for each in facts for sentence in each["warnings"]]
    decoders = dict.fromkeys(name for each in facts for name in each["decoder"].split(", "))
    return Report(
        source=str(source), target=str(target), profile=options.profile,
        backend=facts[0]["backend"], decoder=", ".join(decoders), encoder=writer.encoder,
        frames=writer.frames, edited_frames=sums["edited"], faces=sums["faces"],
        masked_faces=sums["masked"], seconds=0.0, stages=dict(stages),
        tracks=dict(enumerate(tracks)), carried=tuple(writer.carried),
        dropped=(*lost, *writer.dropped),
        warnings=tuple(dict.fromkeys([*reader.warnings, *told])), damaged=reader.damaged,
    )  # fmt: skip
