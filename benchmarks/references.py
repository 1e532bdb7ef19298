"""What unmasking is measured against, each from file to file and in one process but the last.

copy      a plain loop in PyAV that decodes and encodes: the ceiling for whatever writes video
naive     one frame at a time: detect, run the same networks in torch, paste, encode
deface    the nearest tool in shape: detects faces and blurs them (from PyPI, in its own process)
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import nn

from stream_unmask import Options, unmask_image
from stream_unmask.backends.artefacts import engine_path
from stream_unmask.backends.engine import Tensor
from stream_unmask.backends.function import FunctionEngine
from stream_unmask.models.inpainter import Inpainter
from stream_unmask.models.segmenter import Segmenter
from stream_unmask.pipeline import Parts, open_parts
from stream_unmask.types import Image
from training.engines import run_as
from training.export import networks

_SETTINGS = {"preset": "veryfast", "crf": "18"}  # those of the product


def copy(source: Path, target: Path) -> float:
    """Seconds to decode a file and encode it again untouched."""
    return _through(source, target, lambda frame: frame)


def naive(source: Path, target: Path, parts: Parts) -> float:
    """Seconds to unmask a file frame by frame, with nothing steadied and nothing overlapping."""
    options = Options()

    def unmasked(frame: av.VideoFrame) -> av.VideoFrame:
        image: Image = frame.to_ndarray(format="rgb24")
        done = av.VideoFrame.from_ndarray(unmask_image(image, options, parts=parts).image, "rgb24")
        done.pts, done.time_base = frame.pts, frame.time_base
        return done.reformat(format="yuv420p")

    return _through(source, target, unmasked)


def deface(program: str, source: Path, target: Path) -> float:
    """Seconds that deface takes, with what it does by default; its start included."""
    begin = time.perf_counter()
    subprocess.run([program, source, "-o", target], check=True, capture_output=True)
    return time.perf_counter() - begin


def _through(source: Path, target: Path, work: Any) -> float:
    begin = time.perf_counter()
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        video = given.streams.video[0]
        video.thread_type = "AUTO"
        stream = made.add_stream("libx264", rate=video.average_rate)
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
        stream.time_base, stream.options = video.time_base, dict(_SETTINGS)
        stream.codec_context.thread_type = "AUTO"
        for frame in given.decode(video):
            made.mux(stream.encode(work(frame)))
        made.mux(stream.encode(None))
    return time.perf_counter() - begin


@contextmanager
def torch_parts() -> Iterator[Parts]:
    """The parts of the product, its own two networks run by torch as they were trained."""
    table = networks()
    with open_parts(Options()) as parts:
        profile = parts.networks.profile
        finds, paints = (
            FunctionEngine(spec, _eager(run_as(table[spec.name][2], engine_path(spec.name))))
            for spec in (profile.segmenter, profile.inpainter)
        )
        eager = replace(
            parts.networks,
            segmenter=Segmenter(finds),
            inpainter=Inpainter(paints, parts.networks.inpainter.appearance),
        )
        yield replace(parts, networks=eager, backend="torch eager")


def _eager(module: nn.Module) -> Any:
    def run(given: Tensor) -> Tensor:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(given)).numpy(), np.float32)

    return run
