"""Paints plausible, invented faces where people in a video or picture wear face masks.

    from stream_unmask import Options, unmask_image, unmask_video

The faces are invented, not recovered: never use them to identify anyone.
"""

from stream_unmask.api import Unmasked, unmask_image, unmask_picture, unmask_video
from stream_unmask.errors import (
    BackendError,
    InputError,
    OptionError,
    OutputError,
    UnmaskError,
)
from stream_unmask.options import Options
from stream_unmask.report import Report
from stream_unmask.types import Face
from stream_unmask.video.encoder import Encoding
from stream_unmask.video.source import Limits

__all__ = [
    "BackendError",
    "Encoding",
    "Face",
    "InputError",
    "Limits",
    "OptionError",
    "Options",
    "OutputError",
    "Report",
    "UnmaskError",
    "Unmasked",
    "unmask_image",
    "unmask_picture",
    "unmask_video",
]
