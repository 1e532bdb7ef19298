"""What tests of the whole program share."""

import os
import signal
from collections.abc import Callable, Iterator
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from stream_unmask.errors import UnmaskError
from stream_unmask.faces.landmarks import _EYES, _UPRIGHT
from stream_unmask.models.guide import _FACE, _LIPS, _NOSE
from stream_unmask.models.profile import PROFILES, Profile

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session", params=PROFILES)
def profile(request: pytest.FixtureRequest) -> Profile:
    """Every profile in turn."""
    return PROFILES[request.param]


@pytest.fixture(scope="session")
def frontal() -> np.ndarray:
    """A plain mesh (468, 2) that looks straight ahead, in eye distances from between its eyes."""
    points = np.random.default_rng(0).uniform((-0.8, -0.5), (0.8, 1.4), (468, 2))
    turn = np.linspace(0, 2 * np.pi, len(_FACE), endpoint=False)
    points[list(_FACE)] = np.stack([1.1 * np.sin(turn), 0.465 - 1.285 * np.cos(turn)], 1)
    turn = np.linspace(0, 2 * np.pi, len(_LIPS), endpoint=False)
    points[list(_LIPS)] = np.stack([-0.42 * np.cos(turn), 1.07 + 0.17 * np.sin(turn)], 1)
    nose = [(0, 0.1), (-0.18, 0.45), (-0.22, 0.62), (-0.12, 0.7), (0, 0.73)]
    points[list(_NOSE)] = nose + [(-x, y) for x, y in nose[3:0:-1]]
    for outline, x in zip(_EYES, (-0.5, 0.5), strict=True):
        points[list(outline)] = (x, 0)
    for index, place in _UPRIGHT.items():
        points[index] = place
    return points.astype(np.float32)


@pytest.fixture(scope="session")
def example() -> Path:
    """The example clip, 4 s with sound, of one person in a mask."""
    return ROOT / "examples" / "masked_portrait.mp4"


@pytest.fixture(scope="session")
def masked_picture(example: Path) -> np.ndarray:
    """The example's first frame, RGB."""
    with av.open(str(example)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


@pytest.fixture(scope="session")
def bare_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of six frames with nobody in it."""
    path = tmp_path_factory.mktemp("clips") / "bare.mp4"
    # With the index up front, as on the web: cut in two, it still opens.
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream: Any = container.add_stream("libx264", rate=25, width=96, height=64)
        stream.pix_fmt = "yuv420p"
        for index in range(6):
            image = np.full((64, 96, 3), 40 + 20 * index, np.uint8)
            image[:, : 10 + index] = (200, 60, 20)
            frame = av.VideoFrame.from_ndarray(image)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class Played:
    """What a player sees in a file: times and pictures, other packets, tags."""

    def __init__(self, path: Path) -> None:
        self.times: list[Fraction] = []
        self.pictures: list[np.ndarray] = []
        self.packets: list[bytes] = []
        with av.open(str(path)) as container:
            self.metadata = {key.lower(): value for key, value in container.metadata.items()}
            for packet in container.demux():
                if packet.stream.type != "video":
                    self.packets += [bytes(packet)] if packet.size else []
                    continue
                for frame in packet.decode():
                    self.times.append(frame.pts * frame.time_base)
                    self.pictures.append(frame.to_ndarray(format="rgb24"))


@pytest.fixture(scope="session")
def played() -> Callable[[Path], Played]:
    return Played


@pytest.fixture(scope="session")
def clips() -> Path:
    """The real clips beside the repository."""
    folder = DATA / "clips"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    return folder


@pytest.fixture(autouse=True)
def _gpu_if_needed(request: pytest.FixtureRequest) -> None:
    """Skips what is marked `needs_cuda` where there is no GPU, or fails it if one is promised."""
    if request.node.get_closest_marker("needs_cuda") is None:
        return
    try:
        import_module("stream_unmask.backends.tensorrt")
        import_module("stream_unmask.backends.cuda").gpu()
    except (ImportError, UnmaskError) as error:
        promised = os.environ.get("FAIL_WITHOUT_CUDA") == "1"
        (pytest.fail if promised else pytest.skip)(f"no TensorRT on a GPU: {error}")


@pytest.fixture(autouse=True)
def usual_interrupt() -> Iterator[None]:
    """The command, run in this process, changes what Ctrl-C does, and does not change it back."""
    usual = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, usual)
