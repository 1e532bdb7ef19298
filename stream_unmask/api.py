"""From file to file and from picture to picture: what the command line and Python users call."""

import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from stream_unmask.errors import EmptyWindowError, OptionError, OutputError
from stream_unmask.faces.crop import cut
from stream_unmask.label import label_patch, mark
from stream_unmask.options import Options
from stream_unmask.pipeline import (
    Composed,
    Parts,
    finished,
    found,
    laid,
    masked,
    merged,
    open_parts,
    painted,
    pasted,
    present,
    segmented,
    whole_mask,
)
from stream_unmask.prefetch import background, prefetch
from stream_unmask.report import Clock, Report, Track
from stream_unmask.sheet import PreviewSheet
from stream_unmask.steady import worn
from stream_unmask.types import Crop, Face, Image, Mask
from stream_unmask.video.frame import Frame, from_rgb, to_rgb
from stream_unmask.video.image import SUFFIXES, open_picture, save_picture, write_image
from stream_unmask.video.reader import Reader
from stream_unmask.video.segments import Segments
from stream_unmask.video.target import claim
from stream_unmask.video.writer import STDOUT, Writer

# Frames that decoding and finding may run ahead, each, and encoding behind; with a latency, where
# what is ahead only gets older, no more than lets them work at the same time.
_AHEAD, _AHEAD_SOON = 8, 1

Progress = Callable[[float, float | None], None]


@dataclass(frozen=True, slots=True)
class Unmasked:
    """A picture without masks.

    image: (H, W, 3) RGB. mask: (H, W) float32, 0 as it was .. 1 invented. faces: all that were
    found; worn: for each, whether a mask was painted over. backend: what the networks ran on.
    """

    image: Image
    mask: Mask
    faces: tuple[Face, ...]
    worn: tuple[bool, ...]
    backend: str

    @property
    def masked(self) -> int:
        """How many of the faces wore a mask."""
        return sum(self.worn)


def unmask_image(
    image: Image, options: Options | None = None, *, parts: Parts | None = None
) -> Unmasked:
    """A picture, RGB uint8 (H, W, 3), with the masks of the people in it painted over.

    parts: engines that are open already. BackendError if no engine can be opened; OptionError if
    the picture has another shape or type.
    """
    options = options or Options()
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise OptionError(
            f"A picture must be RGB uint8 (H, W, 3), not {image.dtype} {image.shape}."
        )
    with nullcontext(parts) if parts is not None else open_parts(options) as parts:
        profile = parts.networks.profile
        faces = present(image, parts)
        crops = [cut(image, face, profile.eyes, profile.size) for face in faces]
        crops = [
            masked(crop, worn(crop.maps, profile), profile)
            for crop in segmented(crops, parts.networks)
            if crop.maps is not None
        ]
        crops = merged(crops, painted(crops, parts.networks), profile)
    shape = (image.shape[0], image.shape[1])
    patches = pasted(crops, shape)
    labels = [label_patch(shape)] if options.label and patches else []
    result = laid(image, [*patches, *labels])
    worn_by = tuple(crop.mask is not None for crop in crops)
    return Unmasked(result, whole_mask(shape, patches), faces, worn_by, parts.backend)


def unmask_picture(
    source: str | Path,
    target: str | Path,
    options: Options | None = None,
    *,
    mask_target: str | Path | None = None,
    sheet_target: str | Path | None = None,
    parts: Parts | None = None,
) -> Report:
    """What was done: `target` holds the picture of `source` with masks painted over.

    All but the painted faces is kept: depth, transparency, EXIF, colour profile; where there is no
    mask the file is copied. The rest is as in `unmask_video`.
    """
    options = options or Options()
    clock, source = Clock(), Path(source)
    with clock("read"):
        picture = open_picture(source, options.limits.pixels)
    extras = [Path(path) for path in (mask_target, sheet_target) if path is not None]
    for path in (Path(target), *extras):
        claim_picture(path, str(source), options.overwrite)
    with clock("unmask"):
        result = unmask_image(picture.image, options, parts=parts)
    settings: Any = {"mark": mark(), "overwrite": options.overwrite}
    with clock("write"):
        changed = (result.image != picture.image).any(2).astype(np.float32)  # faces, and the label
        dropped = save_picture(target, picture, result.image, changed, **settings)
        if mask_target is not None:
            grey = np.rint(result.mask * 255).astype(np.uint8)
            write_image(mask_target, grey, source=source, **settings)
        if sheet_target is not None:
            sheet = PreviewSheet(None)
            sheet.add(None, picture.image, result.mask, result.image)
            row = sheet.image()
            assert row is not None
            write_image(sheet_target, row, source=source, **settings)
    tracks = {
        number: Track(0.0, 0.0, 1, int(worn), {} if worn else {"no mask": 1})
        for number, worn in enumerate(result.worn)
    }
    return Report(
        source=str(source), target=str(target), profile=options.profile, backend=result.backend,
        decoder=Path(source).suffix[1:].lower(), encoder=Path(target).suffix[1:].lower(),
        frames=1, edited_frames=int(any(result.worn)), faces=len(result.faces),
        masked_faces=result.masked, seconds=sum(clock.seconds.values()), stages=clock.seconds,
        stage_ms=clock.quantiles(), tracks=tracks, dropped=dropped,
    )  # fmt: skip


def claim_picture(target: Path, source: str, overwrite: bool) -> None:
    """Nothing comes back; OutputError now, not after the work, if no picture can go there."""
    if target.suffix.lower() not in SUFFIXES:
        raise OutputError(f"{target} must end in one of {', '.join(SUFFIXES)}.")
    claim(target, Path(source), overwrite)


@dataclass(slots=True)
class Run:
    """What is gathered beside the video itself."""

    clock: Clock = field(default_factory=Clock)
    sheet: PreviewSheet | None = None
    maps: Writer | None = None
    frames: int = 0
    edited: int = 0
    faces: int = 0
    masked: int = 0
    tracks: dict[int, Track] = field(default_factory=dict)

    def note(self, composed: Composed, seconds: float) -> None:
        """Counts a finished frame and adds it to the map's video and the sheet."""
        self.frames += 1
        self.edited += bool(composed.patches)
        self.masked += len(composed.patches)
        for crop in composed.scene.crops:
            self.faces += 1
            self._follow(crop, seconds)
        original = composed.scene.frame.picture
        if self.maps is not None:
            grey = np.rint(composed.mask() * 255).astype(np.uint8)
            self.maps.write(from_rgb(np.repeat(grey[..., None], 3, axis=2), original))
        if self.sheet is not None and self.sheet.wants(seconds):
            after = to_rgb(composed.frame.picture)
            self.sheet.add(seconds, to_rgb(original), composed.mask(), after)

    def _follow(self, crop: Crop, seconds: float) -> None:
        track = self.tracks.setdefault(crop.track or 0, Track(seconds, seconds))
        track.last, track.frames = seconds, track.frames + 1
        if crop.mask is not None and crop.mask.any():
            track.edited += 1
        else:
            why = "no mask" if crop.mask is None else "turned away"
            track.skipped[why] = track.skipped.get(why, 0) + 1


def unmask_video(
    source: str | Path,
    target: str | Path,
    options: Options | None = None,
    *,
    mask_target: str | Path | None = None,
    sheet_target: str | Path | None = None,
    progress: Progress | None = None,
    parts: Parts | None = None,
) -> Report:
    """What was done: `target` holds the video of `source` with masks painted over.

    source: a file, a URL, a sequence of pictures (frame_%04d.png) or `-`; target: a file, or `-`.
    Audio and other streams are copied, times are kept. mask_target: a video of the map, white where
    a face was invented. sheet_target: a picture with before, map and after at a few times.
    progress(done, total) is called with seconds of video. parts: engines that are open already. On
    an UnmaskError, as on any other, nothing is left under the targets' names.
    """
    options = options or Options()
    begin, run = time.perf_counter(), Run()
    with ExitStack() as stack:
        reader = stack.enter_context(open_reader(source, options))
        total = None if reader.duration is None else float(reader.duration)
        if sheet_target is not None:
            claim_picture(Path(sheet_target), reader.source, options.overwrite)
            run.sheet = PreviewSheet(total)
        writer = stack.enter_context(open_writer(target, reader, options))
        if mask_target is not None:
            maps = open_writer(mask_target, reader, options, carry=False)
            run.maps = stack.enter_context(maps)
        parts = parts or stack.enter_context(open_parts(options))
        flow(reader, writer, parts, options, run, progress=progress)
        # All outputs are whole before the first gets its name.
        for output in filter(None, (writer, run.maps)):
            output.finish()
        picture = run.sheet.image() if run.sheet is not None else None
        if sheet_target is not None and picture is not None:
            write_image(sheet_target, picture, mark=mark(), overwrite=options.overwrite)
        elif sheet_target is not None:
            reader.warnings.append("The video is too short for a preview sheet.")
    return Report(
        source=reader.source, target=str(target), profile=options.profile, backend=parts.backend,
        decoder=reader.decoder.name, encoder=writer.encoder, frames=writer.frames,
        edited_frames=run.edited, faces=run.faces, masked_faces=run.masked,
        seconds=time.perf_counter() - begin, stages=run.clock.seconds,
        stage_ms=run.clock.quantiles(), tracks=run.tracks,
        carried=tuple(writer.carried), dropped=tuple(writer.dropped),
        warnings=(*reader.warnings, *writer.warnings), damaged=reader.damaged,
    )  # fmt: skip


def flow(
    reader: Reader,
    writer: Writer,
    parts: Parts,
    options: Options,
    run: Run,
    *,
    since: Fraction | None = None,
    progress: Progress | None = None,
) -> None:
    """Nothing comes back; all frames have gone from the reader through the engines to the writer.

    since: the instant before which frames are only looked at. EmptyWindowError if there is none
    from then on.
    """
    total = None if reader.duration is None else float(reader.duration)
    ahead = _AHEAD if options.latency is None else _AHEAD_SOON
    with ExitStack() as stack:
        frames = stack.enter_context(prefetch(run.clock.each("decode", reader), ahead))

        def encode(frame: Frame) -> None:
            with run.clock("encode"):
                writer.write(frame)

        write = stack.enter_context(background(encode, ahead))
        scenes = found(frames, parts, options, run.clock)
        scenes = stack.enter_context(prefetch(scenes, ahead))
        for composed in finished(scenes, parts, options, run.clock):
            time = composed.frame.seconds or Fraction(0)
            if since is None or time >= since:
                run.note(composed, float(time))
                write(composed.frame)  # last: the encoder's thread stamps it with its own time
            if progress is not None:
                progress(float(time), total)
        if not run.frames:
            raise EmptyWindowError(f"{reader.source} has no frame between the given start and end.")


def open_reader(source: str | Path, options: Options) -> Reader:
    """The opened input; InputError if it can't be."""
    rate = Fraction(options.rate).limit_denominator(1001)
    return Reader(
        source, options.start, options.end,
        rate=rate, limits=options.limits, hwaccel=options.hwaccel,
    )  # fmt: skip


def open_writer(
    target: str | Path,
    reader: Reader,
    options: Options,
    *,
    carry: bool = True,
    segments: Segments | None = None,
) -> Writer:
    """The opened output for what the reader reads; OutputError if it can't be written."""
    encoding = options.encoding
    if options.latency is not None and str(target) == STDOUT:  # a file is read when it is whole
        encoding = replace(encoding, undelayed=True)
    return Writer(
        target, reader, encoding=encoding, overwrite=options.overwrite,
        keep_partial=options.keep_partial, metadata={"comment": mark()}, carry=carry,
        segments=segments,
    )  # fmt: skip
