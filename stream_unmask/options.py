"""What a user can choose, checked as it is chosen."""

import math
from dataclasses import dataclass

from stream_unmask.errors import OptionError
from stream_unmask.models.profile import PORTRAIT, PROFILES

DEVICES = ("auto", "cpu", "gpu")


@dataclass(frozen=True, slots=True)
class Options:
    """Choices for a run; OptionError if one is out of range.

    profile: the set of networks, "portrait" or "paper". backend: "auto", "openvino" or
    "onnxruntime". device: "auto", "cpu" or "gpu". smooth: steady crops, maps and fills over time.
    look_ahead: frames to come that have a say in that; 0 for live use. batch: faces to gather
    before the networks run. window: frames that may wait for that, which bounds the delay. every:
    frames from one face detection to the next. encoder: an FFmpeg encoder, None for the container's
    usual one. quality: its crf, lower is better. start, duration: seconds. label: draw a visible
    mark on frames with an invented face.
    """

    profile: str = PORTRAIT.name
    backend: str = "auto"
    device: str = "auto"
    smooth: bool = True
    look_ahead: int = 4
    batch: int = 8
    window: int = 16
    every: int = 5
    encoder: str | None = None
    quality: int | None = None
    start: float | None = None
    duration: float | None = None
    label: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name in ("batch", "window", "every"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if not 0 <= self.look_ahead <= 100:
            raise OptionError(f"look_ahead must lie between 0 and 100, not {self.look_ahead}.")
        if self.profile not in PROFILES:
            raise OptionError(
                f"There is no profile {self.profile!r}; choose from {', '.join(PROFILES)}."
            )
        if self.device not in DEVICES:
            raise OptionError(f"There is no device {self.device!r}; choose {', '.join(DEVICES)}.")
        if self.start is not None and not 0 <= self.start < math.inf:
            raise OptionError(f"start must be 0 seconds or more, it is {self.start}.")
        if self.duration is not None and not 0 < self.duration < math.inf:
            raise OptionError(f"duration must be more than 0 seconds, it is {self.duration}.")
        if self.quality is not None and not 0 <= self.quality <= 63:
            raise OptionError(f"quality must lie between 0 and 63, it is {self.quality}.")
