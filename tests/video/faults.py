"""Spoils files, and shows them to the reader and the writer: one process of the fuzzer.

`tests/video/test_fuzz.py` starts it (`python -m tests.video.faults ORDER`) as often as need be.
A case is a number: with the same seed files, the same number spoils the same bytes.
"""

import gc
import json
import os
import re
import resource
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any, Literal

import av
import cv2
import numpy as np

from stream_unmask.errors import UnmaskError
from stream_unmask.label import label_patch
from stream_unmask.video.frame import Frame, to_rgb, with_patches
from stream_unmask.video.image import SUFFIXES, open_picture, save_picture
from stream_unmask.video.reader import Reader
from stream_unmask.video.source import Limits
from stream_unmask.video.writer import Writer

_LIMITS = Limits(errors=5)  # the clips are short
_ADDRESSES = 12 << 30  # beyond, allocations fail: the machine must survive, and the case is told
# Names at which containers keep numbers: sizes before them (MP4, PNG), after them (AVI, WebP).
_BOXES = re.compile(
    b"ftyp|moov|mvhd|trak|tkhd|edts|elst|mdia|mdhd|hdlr|minf|stbl|stsd|stts|stss|ctts|stsc|stsz|"
    b"stco|co64|udta|meta|ilst|mdat|moof|mfhd|traf|tfhd|tfdt|trun|mvex|trex|sidx|avc1|avcC|hvcC|"
    b"av1C|colr|pasp|mp4a|esds|mdcv|clli|tref|chap|uuid|pssh|IHDR|PLTE|IDAT|iCCP|eXIf|tRNS|acTL"
)
_CHUNKS = re.compile(
    b"RIFF|LIST|avih|strh|strf|idx1|indx|movi|0[01](?:dc|wb)|VP8[ LX]|ICCP|EXIF|ALPH|ANIM"
)
_ELEMENTS = re.compile(  # EBML's identifiers; a size of one to eight bytes comes after
    b"\x1aE\xdf\xa3|\x18S\x80g|\x11M\x9bt|\x15I\xa9f|\x16T\xaek|\x1fC\xb6u|\x1cS\xbbk|\x10C\xa7p|"
    b"\x12T\xc3g|\x19A\xa4i|[\xae\xe0\xe1\xa3\xa0\xa1]|c\xa2|\x55\xb0|[\xb0\xba\x86\xd7\x83\xe7]",
    re.DOTALL,
)
_EXTREMES = [0, 1, 7, 8, 127, 128, 255, 2**15 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31]
_EXTREMES += [2**32 - 2, 2**32 - 1, 2**63 - 1, 2**64 - 1]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A clip: encoder, format of its pixels, encoder of the sound, and the muxer's wishes."""

    codec: str
    pixels: str = "yuv420p"
    sound: str | None = None
    muxer: dict[str, str] = field(default_factory=dict)


RECIPES = {
    "whole.mp4": Recipe("libx264", sound="aac", muxer={"movflags": "faststart"}),
    "plain.mp4": Recipe("libx264"),
    "pieces.mp4": Recipe("libx264", sound="aac", muxer={"movflags": "frag_keyframe+empty_moov"}),
    "hevc.mp4": Recipe("libx265", "yuv420p10le"),
    "av1.mp4": Recipe("libsvtav1"),
    "prores.mov": Recipe("prores_ks", "yuv422p10le", "pcm_s16le"),
    "lines.mov": Recipe("qtrle", "rgb24"),
    "whole.mkv": Recipe("libx264", sound="aac"),
    "exact.mkv": Recipe("ffv1", "yuv444p", "flac"),
    "vp9.webm": Recipe("libvpx-vp9", sound="libopus"),
    "vp8.webm": Recipe("libvpx"),
    "mpeg4.avi": Recipe("mpeg4", sound="libmp3lame"),
    "jpegs.avi": Recipe("mjpeg", "yuvj420p"),
    "raw.avi": Recipe("rawvideo", "bgr24"),
    "whole.ts": Recipe("libx264", sound="aac"),
    "mpeg2.mpg": Recipe("mpeg2video", sound="mp2"),
    "sorenson.flv": Recipe("flv", sound="libmp3lame"),
    "wmv2.wmv": Recipe("wmv2", sound="mp2"),
    "broadcast.mxf": Recipe("mpeg2video", "yuv422p"),
    "colours.gif": Recipe("gif", "rgb8"),
}  # fmt: skip


def make_seeds(folder: Path, frames: int = 20) -> list[Path]:
    """Small clips in every container that can be made here, and three pictures."""
    for name, recipe in RECIPES.items():
        _make_clip(folder / name, recipe, frames)
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    for name in ("grey.png", "photo.jpg", "photo.webp"):
        shown = noise[..., 0] if name.startswith("grey") else noise
        cv2.imwrite(str(folder / name), shown)
    return sorted(folder.iterdir())


def _make_clip(path: Path, recipe: Recipe, frames: int) -> None:
    muxer = {"fflags": "+bitexact"} | recipe.muxer  # Matroska invents identifiers otherwise
    with av.open(str(path), "w", container_options=muxer) as container:
        container.metadata.update({"title": "A long walk " * 8, "comment": "ours", "artist": "é"})
        chapter = {"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000)}
        container.set_chapters([{**chapter, "metadata": {"title": "one"}}])  # type: ignore[list-item]
        # Slow, so that seconds get lost, for which a file is refused; MPEG-2 knows few rates.
        rate = 25 if recipe.codec == "mpeg2video" else 5
        stream: Any = container.add_stream(recipe.codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 96, 64, recipe.pixels
        stream.codec_context.thread_count = 1  # the same bytes wherever it is made
        stream.codec_context.gop_size = 6
        quiet = {
            "libx265": {"x265-params": "log-level=none:pools=1"},
            "libsvtav1": {"preset": "12"},
        }
        stream.options = quiet.get(recipe.codec, {})
        sound: Any = recipe.sound and container.add_stream(recipe.sound, rate=48000, layout="mono")
        rng = np.random.default_rng(1)
        for index in range(frames):
            image = np.full((64, 96, 3), 40 + 9 * index % 200, np.uint8)
            image[10:50, 20 + 2 * index % 40 :][:, :30] = rng.integers(0, 255, (40, 30, 3))
            frame = av.VideoFrame.from_ndarray(image).reformat(format=recipe.pixels)
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
            if sound:
                length = 48000 // rate
                tone = (8000 * np.sin(np.arange(length) / 9)).astype(np.int16)
                heard = av.AudioFrame.from_ndarray(tone[None], "s16", "mono")
                heard.sample_rate, heard.pts = 48000, index * length
                heard.time_base = Fraction(1, 48000)
                container.mux(sound.encode(heard))
        container.mux(stream.encode(None))
        if sound:
            container.mux(sound.encode(None))


def spoiled(data: bytes, other: bytes, rng: Random) -> bytes:
    """The data after one to five mishaps; `other` is a file that parts are taken from."""
    result = bytearray(data)
    for _ in range(min(1 + int(rng.expovariate(0.8)), 5)):
        rng.choice(_MISHAPS)(result, other, rng)
    return bytes(result)


def _place(data: bytearray, rng: Random) -> int:
    """Somewhere; one time in two near the beginning, where headers are."""
    size = len(data)
    return rng.randrange(min(size, 600) if rng.random() < 0.5 else size) if size else 0


def _span(data: bytearray, rng: Random) -> slice:
    begin = _place(data, rng)
    return slice(begin, begin + 1 + int(rng.expovariate(1 / rng.choice((4, 200, 4000)))))


def _flip(data: bytearray, _: bytes, rng: Random) -> None:
    for _ in range(rng.choice((1, 1, 4, 32))):
        if data:
            data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _run(data: bytearray, _: bytes, rng: Random) -> None:
    where = _span(data, rng)
    length = len(data[where])
    data[where] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))


def _cut(data: bytearray, _: bytes, rng: Random) -> None:
    del data[_place(data, rng) :]


def _remove(data: bytearray, _: bytes, rng: Random) -> None:
    del data[_span(data, rng)]


def _double(data: bytearray, _: bytes, rng: Random) -> None:
    piece = data[_span(data, rng)]
    at = _place(data, rng)
    data[at:at] = piece * rng.choice((1, 1, 2, 20))


def _number(data: bytearray, _: bytes, rng: Random) -> None:
    _put(data, _place(data, rng), _extreme(rng, rng.choice((1, 2, 3, 4, 8)), data), rng)


def _field(data: bytearray, _: bytes, rng: Random) -> None:
    """A size, a count or another number of the container becomes an extreme one."""
    pattern = rng.choice([p for p in (_BOXES, _CHUNKS, _ELEMENTS) if p.search(data)] or [None])
    if pattern is None:
        _number(data, b"", rng)
        return
    name = rng.choice(list(pattern.finditer(data)))
    if pattern is _ELEMENTS:
        data[name.end() : name.end() + rng.choice((1, 8))] = rng.choice(
            (b"\x01" + b"\xff" * 7, b"\x01" + bytes(7), b"\x80", b"\xff", b"\xfe", b"\x08\x7f")
        )
        return
    before = name.start() - 4
    at = rng.choice((before, name.end() + 4 * rng.randrange(12)))
    at = before if pattern is _BOXES and rng.random() < 0.4 else at
    _put(data, max(at, 0), _extreme(rng, 4, data), rng, big=pattern is _BOXES)


def _splice(data: bytearray, other: bytes, rng: Random) -> None:
    """The beginning of one and the end of the other."""
    data[_place(data, rng) :] = other[rng.randrange(len(other) + 1) :]


def _graft(data: bytearray, other: bytes, rng: Random) -> None:
    """A piece of the other in the middle of the one, or all of it behind."""
    piece = other[_span(bytearray(other), rng)] if rng.random() < 0.7 else other
    at = _place(data, rng) if rng.random() < 0.7 else len(data)
    data[at : at + rng.choice((0, len(piece)))] = piece


def _swap(data: bytearray, _: bytes, rng: Random) -> None:
    one, two = sorted((_place(data, rng), _place(data, rng)))
    length = min(1 + int(rng.expovariate(1 / 200)), two - one, len(data) - two)
    data[one : one + length], data[two : two + length] = (
        data[two : two + length],
        data[one : one + length],
    )


Mishap = Callable[[bytearray, bytes, Random], None]
_MISHAPS: list[Mishap] = [_flip, _run, _cut, _remove, _double, _number, _splice, _graft, _swap]
_MISHAPS += [_field] * 5 + [_flip, _number]


def _extreme(rng: Random, length: int, data: bytearray) -> bytes:
    value = rng.choice((*_EXTREMES, len(data), 2 * len(data), rng.getrandbits(8 * length)))
    return (value % 256**length).to_bytes(length, "big")


def _put(data: bytearray, at: int, number: bytes, rng: Random, big: bool | None = None) -> None:
    big = rng.random() < 0.5 if big is None else big
    data[at : at + len(number)] = number if big else number[::-1]


@dataclass(frozen=True, slots=True)
class Order:
    """What a process is to do: cases begin .. end of a seed, with the files of a folder.

    folder: where it may write. subject: "all", or for the test of the fuzzer itself what is to go
    wrong. memory: the most bytes that a case may need; these clips are tiny.
    """

    seeds: str
    folder: str
    seed: int
    begin: int
    end: int
    subject: str = "all"
    memory: int = 2 << 30


def _no_sound(seeds: Path) -> tuple[str, bytes]:
    """Noise where sound should be: after a jump, streams turn up that nobody knew of."""
    data = bytearray((seeds / "sorenson.flv").read_bytes())
    data[14900:17081] = b"\xff" * 2181
    return ".flv", bytes(data)


def _huge_chunk(seeds: Path) -> tuple[str, bytes]:
    """A small picture with pixels that say to be four gigabytes long."""
    data = bytearray((seeds / "grey.png").read_bytes())
    at = data.index(b"IDAT")
    data[at - 4 : at] = b"\xff" * 4
    return ".png", bytes(data)


def _sound_in_days(seeds: Path) -> tuple[str, bytes]:
    """A packet of sound that says to come in twelve days, amid others: muxers gave up on it."""
    data = bytearray((seeds / "sorenson.flv").read_bytes())
    at, sounds = 13, 0
    while sounds < 100:
        sounds += data[at] == 8
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        last, at = at, at + size + 15
    data[last + 7] = 0x40
    return ".flv", bytes(data)


# What was found once: cases -1, -2 ... of every seed.
FOUND = (_no_sound, _huge_chunk, _sound_in_days)


def case(order: Order, number: int) -> tuple[str, bytes, Random]:
    """The suffix and the bytes of a case, and the chance that is left for what is done with it."""
    rng = Random(f"{order.seed}/{number}")
    if number < 0:
        return *FOUND[-number - 1](Path(order.seeds)), rng
    files = sorted(Path(order.seeds).iterdir())
    chosen, other = rng.choice(files), rng.choice(files)
    # Like meets like more often than chance would have it.
    alike = [path for path in files if path.suffix == chosen.suffix]
    other = rng.choice(alike) if rng.random() < 0.5 else other
    return chosen.suffix, spoiled(chosen.read_bytes(), other.read_bytes(), rng), rng


def read(source: Path, folder: Path, rng: Random) -> None:
    """Nothing comes back; all frames were decoded and seen as RGB."""
    del folder, rng
    _look(source, None, None)


def from_the_middle(source: Path, folder: Path, rng: Random) -> None:
    """Nothing comes back; the same with frames from the middle on."""
    del folder
    _look(source, 2.5, rng.choice((None, 3.5)))


def _look(source: Path, start: float | None, end: float | None) -> None:
    with Reader(source, start, end, limits=_LIMITS) as reader:
        for frame in reader:
            assert to_rgb(frame.picture).shape[2] == 3
        _one_line(*reader.warnings)


def copy(source: Path, folder: Path, rng: Random) -> None:
    """Nothing comes back; what was read is written, some frames with a label on, and plays."""
    target = folder / f"out{rng.choice(('.mp4', '.mp4', '.mov', '.mkv', '.mkv', '.webm'))}"
    every = rng.choice((0, 0, 3))
    with (
        Reader(source, limits=_LIMITS) as reader,
        Writer(target, reader, metadata={"comment": "ours"}) as writer,
    ):
        for index, frame in enumerate(reader):
            picture = frame.picture
            if every and index % every == 0:
                shape = to_rgb(picture).shape
                picture = with_patches(picture, [label_patch((shape[0], shape[1]))])
            writer.write(Frame(picture, frame.passengers))
    _one_line(*writer.dropped, *writer.carried)
    with av.open(str(target), metadata_errors="replace") as container:
        index = container.streams.video[0].index
        packets = sum(p.size > 0 for p in container.demux() if p.stream_index == index)
    assert packets == writer.frames, f"{packets} of {writer.frames} pictures are in {target.name}"


def picture(source: Path, folder: Path, rng: Random) -> None:
    """Nothing comes back; the picture is read, and written with a repainted corner."""
    shown = open_picture(source, Limits().pixels)
    mask = np.zeros(shown.image.shape[:2], np.float32)
    mask[:4, :4] = rng.choice((0, 1))
    save_picture(folder / f"out{rng.choice(SUFFIXES)}", shown, shown.image, mask, mark="ours")


def crash(source: Path, folder: Path, rng: Random) -> None:
    """For the test of the fuzzer: the process dies."""
    del source, folder, rng
    os.abort()


def hang(source: Path, folder: Path, rng: Random) -> None:
    """For the test of the fuzzer: it never comes back."""
    del source, folder, rng
    threading.Event().wait()


def raise_(source: Path, folder: Path, rng: Random) -> None:
    """For the test of the fuzzer: an error that is none of ours."""
    del source, folder, rng
    raise IndexError("list index out of range")


def litter(source: Path, folder: Path, rng: Random) -> None:
    """For the test of the fuzzer: an error that leaves a file."""
    del source, rng
    (folder / "out.mp4").write_bytes(b"half")
    raise UnmaskError("It can't be.")


def bloat(source: Path, folder: Path, rng: Random) -> None:
    """For the test of the fuzzer: it takes too much memory."""
    del source, folder, rng
    np.ones(500 << 20, np.uint8)


def subjects(name: str, suffix: str) -> list[Callable[[Path, Path, Random], None]]:
    """What a case is shown to."""
    if name != "all":
        return [globals()[name]]
    return [picture] if suffix in SUFFIXES else [read, from_the_middle, copy]


Kind = Literal["error", "file", "memory", "thread", "descriptor", "crash", "hang"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What went wrong with a case. what: in words, or a traceback; data: the file as it was."""

    case: int
    kind: Kind
    what: str
    suffix: str = ""


def trial(order: Order, number: int) -> Iterator[Finding | str]:
    """What became of a case, in a few words for each subject, and all that went wrong."""
    suffix, data, rng = case(order, number)
    folder = Path(order.folder)
    source = folder / f"in{suffix}"
    source.write_bytes(data)
    for subject in subjects(order.subject, suffix):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is measured anew
        before, whole = _held(), False
        try:
            subject(source, folder, rng)
            whole = True
        except UnmaskError as error:
            text = str(error)
            if "\n" in text or not text.endswith("."):
                yield Finding(number, "error", f"no sentence: {text!r}", suffix)
        except Exception:
            yield Finding(number, "error", traceback.format_exc(), suffix)
        yield f"{subject.__name__} {'done' if whole else 'refused'}"
        left = {path for path in folder.iterdir() if path != source}
        if any(not whole or ".part" in path.name for path in left):
            names = ", ".join(path.name for path in left)
            yield Finding(number, "file", f"{subject.__name__} left {names}", suffix)
        for path in left:
            path.unlink()
        for kind, more in _more_held(before).items():
            yield Finding(number, kind, f"{subject.__name__}: {more} more than before", suffix)
        peak = _peak()
        if peak > order.memory:
            yield Finding(number, "memory", f"{subject.__name__}: {peak >> 20} MiB", suffix)
    source.unlink()


def _one_line(*texts: str) -> None:
    for text in texts:
        assert "\n" not in text, f"no sentence: {text!r}"


def _held() -> dict[Kind, int]:
    """How many threads there are, and open files."""
    threads, files = (len(os.listdir(f"/proc/self/{what}")) for what in ("task", "fd"))  # noqa: PTH208
    return {"thread": threads, "descriptor": files}


def _more_held(before: dict[Kind, int]) -> dict[Kind, int]:
    """How many more there are now, once nothing but Python's garbage is gone; only what grew."""
    if _held() != before:
        gc.collect()
    return {kind: now - before[kind] for kind, now in _held().items() if now > before[kind]}


def _peak() -> int:
    """The most bytes that were in memory since it was last set back."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def main() -> None:
    """Goes through the cases of an order; says each before it begins, and what it finds."""
    order = Order(**json.loads(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cv2.setNumThreads(1)
    for number in range(order.begin, order.end):
        print(json.dumps({"case": number}), flush=True)
        for finding in trial(order, number):
            said = {"came": finding} if isinstance(finding, str) else asdict(finding)
            print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
