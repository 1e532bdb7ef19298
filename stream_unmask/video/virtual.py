"""A camera that other programs can choose, and that shows what is put into it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stream_unmask.errors import OutputError
from stream_unmask.types import Image

# The driver that each system needs, and how it is brought.
_DRIVERS = {
    "linux": "v4l2loopback; `sudo apt install v4l2loopback-dkms` and `sudo modprobe v4l2loopback "
    "exclusive_caps=1` bring it",
    "darwin": "OBS Studio; install it, start its virtual camera once, and quit it",
    "win32": "OBS Studio; install it, its virtual camera comes with it",
}


@contextmanager
def virtual_camera(size: tuple[int, int], rate: float) -> Iterator[Callable[[Image], None]]:
    """A function that shows a picture (height, width, 3) RGB to whoever has chosen the camera.

    size: (width, height). rate: pictures a second that are promised. OutputError if the library or
    the driver is missing.
    """
    try:
        import pyvirtualcam
    except ImportError as error:
        raise OutputError(
            "A virtual camera needs pyvirtualcam; pip install 'stream-unmask[live]' brings it."
        ) from error
    try:
        camera = pyvirtualcam.Camera(*size, rate)
    except RuntimeError as error:
        needed = _DRIVERS.get(sys.platform, "one that pyvirtualcam knows")
        raise OutputError(f"There is no driver for a virtual camera: it needs {needed}.") from error
    with camera as shown:
        yield shown.send
