"""Small clips of every awkward kind, made on the spot."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from threading import Thread
from typing import Any

import av
import numpy as np
import pytest

from tests.video.serving import Server

DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture
def shared_clips() -> list[Path]:
    """The real clips beside the repository."""
    clips = sorted((DATA / "clips").glob("*.mp4"))
    if not clips:
        pytest.skip(f"no clips in {DATA / 'clips'}")
    return clips


def scene(index: int, width: int, height: int) -> np.ndarray:
    """A picture with a red, a green, a blue and a white quarter, and a moving bar."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (200, 30, 30)
    image[: height // 2, width // 2 :] = (30, 200, 30)
    image[height // 2 :, : width // 2] = (30, 30, 200)
    image[height // 2 :, width // 2 :] = (230, 230, 230)
    image[:, index * 2 % width :][:, :4] //= 2
    return image


def _add_audio(container: Any, seconds: float, start: Fraction) -> None:
    stream = container.add_stream("aac", rate=48000, layout="mono")
    for index in range(int(seconds * 48000) // 1024):
        tone = np.sin(np.arange(index * 1024, index * 1024 + 1024) / 20).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = 48000, Fraction(1, 48000)
        frame.pts = index * 1024 + round(start * 48000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a clip and returns its path."""

    def make(
        name: str = "clip.mp4",
        *,
        frames: int = 20,
        size: tuple[int, int] = (96, 64),
        pts: Sequence[int] | None = None,
        time_base: Fraction = Fraction(1, 12800),
        pixel_format: str = "yuv420p",
        codec: str = "libx264",
        audio: bool = False,
        rotation: tuple[int, bool] | None = None,
        aspect: Fraction | None = None,
        colours: tuple[int, int, int, int] | None = None,
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
        metadata: dict[str, str] | None = None,
        chapters: list[dict[str, Any]] | None = None,
        bare: bool = False,
    ) -> Path:
        path = tmp_path / name
        pts = list(pts if pts is not None else range(0, 512 * frames, 512))
        finer = {"movie_timescale": "12800"} if path.suffix in (".mp4", ".mov") else {}
        muxer = finer | (container_options or {})
        with av.open(str(path), "w", container_options=muxer) as container:
            container.metadata.update(metadata or {})
            if chapters:
                container.set_chapters(chapters)
            if not bare:
                stream: Any = container.add_stream(codec, rate=25, time_base=time_base)
                stream.width, stream.height = size
                stream.pix_fmt = pixel_format
                quick = {"crf": "10", "preset": "ultrafast", "g": "8"} if "x" in codec else {}
                stream.options = quick | (options or {})
                if aspect:
                    stream.codec_context.sample_aspect_ratio = aspect
                if colours:
                    context = stream.codec_context
                    context.color_range, context.colorspace = colours[:2]
                    context.color_primaries, context.color_trc = colours[2:]
                if rotation:
                    stream.set_display_rotation(rotation[0], hflip=rotation[1])
            if audio:
                seconds = float((pts[-1] - pts[0]) * time_base) + 0.04
                _add_audio(container, seconds, max(pts[0] * time_base, Fraction(0)))
            for index, stamp in enumerate([] if bare else pts):
                frame = av.VideoFrame.from_ndarray(scene(index, *size))
                frame = frame.reformat(format=pixel_format, dst_colorspace=(colours or (0, 5))[1])
                frame.pts, frame.time_base = stamp, time_base
                container.mux(stream.encode(frame))
            if not bare:
                container.mux(stream.encode(None))
        return path

    return make


class Facts:
    """What another reader sees in a file, packet by packet."""

    def __init__(self, path: Path) -> None:
        self.times: list[Fraction] = []
        self.pictures: list[np.ndarray] = []
        self.packets: dict[int, list[tuple[bytes, Fraction]]] = {}
        with av.open(str(path), metadata_errors="replace") as container:
            video = container.streams.video[0]
            self.metadata = {key.lower(): value for key, value in container.metadata.items()}
            self.chapters = container.chapters()
            self.aspect = video.sample_aspect_ratio
            self.codecs = [
                s.codec_context.codec.canonical_name for s in container.streams if s.codec_context
            ]
            for packet in container.demux():
                if packet.stream.index == video.index:
                    for frame in packet.decode():
                        self.times.append(frame.pts * frame.time_base)
                        self.last = frame
                elif packet.size:
                    kept = self.packets.setdefault(packet.stream_index, [])
                    kept.append((bytes(packet), packet.pts * packet.time_base))
        frame = self.last
        self.size = (frame.width, frame.height)
        self.format, self.rotation = frame.format.name, frame.rotation
        self.colours = (
            int(frame.color_range),
            int(frame.colorspace),
            int(frame.color_primaries),
            int(frame.color_trc),
        )


@pytest.fixture
def facts() -> type[Facts]:
    return Facts


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()
