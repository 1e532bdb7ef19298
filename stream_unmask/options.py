"""What a user can choose, checked as it is chosen."""

import math
import re
from dataclasses import dataclass, field, replace

from stream_unmask.errors import OptionError
from stream_unmask.models.profile import PORTRAIT, PROFILES
from stream_unmask.video.decoder import check_device
from stream_unmask.video.encoder import Encoding
from stream_unmask.video.source import Limits

DEVICES = ("auto", "cpu", "gpu")
PRECISIONS = ("auto", "fp32", "bf16", "int8")
_BACK = 6  # times `every` frames in which a face may turn up before it is found


@dataclass(frozen=True, slots=True)
class Waits:
    """How many frames wait for later ones. back: for faces to be found. ahead: for what is seen in
    those to have a say. window: gather for a batch, before the segmenter and before the inpainter.
    """

    back: int
    ahead: int
    window: int


@dataclass(frozen=True, slots=True)
class Options:
    """Choices for a run; OptionError if one is out of range.

    profile: the set of networks, "portrait" or "paper". backend: "auto", "tensorrt", "openvino" or
    "onnxruntime". device: "auto", "cpu" or "gpu". precision: in what the networks compute, "auto",
    "fp32", "bf16" or "int8". smooth: steady crops, maps and fills over time. look_ahead: frames to
    come that have a say in that; 0 for live use. batch: faces in one call of a network, at most (an
    engine may take fewer), for which frames gather. window: how many may. every: frames from one
    face detection to the next; with `smooth` and `look_ahead`, up to six times as many while
    nothing is new, and as many wait for faces to be found later. latency: frames that one may wait
    for, in all: with 5, it is finished before the sixth after it is needed; None for what
    `look_ahead`, `window` and `every` come to. encoding: how the video is encoded. limits: how much
    an input may ask for. start, end: seconds of the input between which to work. hwaccel: hardware
    to decode with, by FFmpeg's name, or "auto"; None is software. rate: pictures a second of an
    input that is a sequence of pictures. label: draw a visible mark on frames with an invented
    face. overwrite: replace what has the output's name. keep_partial: what was done before an error
    stays, playable, under NAME.part.EXT. resume: leave finished outputs alone, and work in segments
    that are kept under NAME.part, for a later run to go on from.
    """

    profile: str = PORTRAIT.name
    backend: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    smooth: bool = True
    look_ahead: int = 4
    batch: int = 8
    window: int = 16
    every: int = 5
    latency: int | None = None
    encoding: Encoding = field(default_factory=Encoding)
    limits: Limits = field(default_factory=Limits)
    start: float | None = None
    end: float | None = None
    hwaccel: str | None = None
    rate: float = 25.0
    label: bool = False
    overwrite: bool = False
    keep_partial: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        for name in ("batch", "window", "every"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.latency is not None and self.latency < 0:
            raise OptionError(f"latency must be 0 frames or more, not {self.latency}.")
        if not 0 <= self.look_ahead <= 100:
            raise OptionError(f"look_ahead must lie between 0 and 100, not {self.look_ahead}.")
        if self.profile not in PROFILES:
            raise OptionError(
                f"There is no profile {self.profile!r}; choose from {', '.join(PROFILES)}."
            )
        if self.device not in DEVICES:
            raise OptionError(f"There is no device {self.device!r}; choose {', '.join(DEVICES)}.")
        if self.precision not in PRECISIONS:
            raise OptionError(
                f"There is no precision {self.precision!r}; choose {', '.join(PRECISIONS)}."
            )
        check_device(self.hwaccel)
        if self.start is not None and not 0 <= self.start < math.inf:
            raise OptionError(f"start must be 0 seconds or more, it is {self.start}.")
        if self.end is not None and not (self.start or 0) < self.end < math.inf:
            raise OptionError(f"end must be later than start, it is {self.end}.")
        if not 1 / 3600 <= self.rate <= 1000:
            raise OptionError(f"rate must lie between 1/3600 and 1000, it is {self.rate}.")
        quality = self.encoding.quality
        if quality is not None and not 0 <= quality <= 63:
            raise OptionError(f"quality must lie between 0 and 63, it is {quality}.")
        if quality is not None and self.encoding.lossless:
            raise OptionError("quality has no meaning where nothing is lost.")

    @property
    def waits(self) -> Waits:
        """What waits; of a latency, `ahead` has its part first, then the others half each."""
        ahead = self.look_ahead if self.smooth else 0
        back = _BACK * self.every - 1 if ahead else 0
        if self.latency is None:
            return Waits(back, ahead, self.window)
        ahead = min(ahead, self.latency)
        back = min(back, (self.latency - ahead) // 2)
        return Waits(back, ahead, min(self.window, 1 + (self.latency - ahead - back) // 2))


def undelayed(options: Options) -> Options:
    """The same for live use: no frame waits for others."""
    return replace(options, latency=0)


def seconds(text: str) -> float:
    """Seconds out of "90", "1:30" or "0:01:30.5"; OptionError for anything else."""
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d*)?", text, re.ASCII):
        raise OptionError(f"{text!r} is no time: give seconds or hh:mm:ss.")
    total = 0.0
    for part in text.split(":"):
        total = total * 60 + float(part)
    return total
