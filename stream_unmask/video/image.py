"""Still pictures in and out, upright RGB, with a mark in the output's metadata."""

import struct
import zlib
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from stream_unmask.errors import InputError, OutputError
from stream_unmask.types import Image
from stream_unmask.video.target import claim, publish

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_QUALITY = {
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    ".png": [],
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, 95],
}


def read_image(path: str | Path) -> Image:
    """The picture as upright RGB (its EXIF orientation applied); InputError if it can't be read."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist.") from error
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}).") from error
    if not data:
        raise InputError(f"{path} is empty.")
    if _is_cut(data):
        raise InputError(f"{path} is cut short.")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise InputError(f"{path} is not a picture that can be read ({error.err}).") from error
    if picture is None:
        raise InputError(f"{path} is not a picture that can be read.")
    return cast(Image, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def write_image(
    path: str | Path,
    image: Image,
    *,
    mark: str = "",
    source: str | Path | None = None,
    overwrite: bool = False,
) -> None:
    """Nothing comes back; RGB (H, W, 3) or grey (H, W) is in the file, and `mark` in its metadata.

    source: the input, which is never overwritten. Raises OutputError.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise OutputError(f"{path} must end in one of {', '.join(SUFFIXES)}.")
    part = claim(path, Path(source) if source is not None else None, overwrite)
    pixels = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    try:
        _, encoded = cv2.imencode(suffix, pixels, _QUALITY[suffix])
    except cv2.error as error:
        raise OutputError(f"{path} can't be encoded ({error.err}).") from error
    try:
        part.write_bytes(_marked(encoded.tobytes(), suffix, mark, image.shape[:2]))
        publish(part, path)
    except OSError as error:
        raise OutputError(f"{path} can't be written ({error.strerror}).") from error
    finally:
        part.unlink(missing_ok=True)


def _is_cut(data: bytes) -> bool:
    """True if a JPEG or PNG lacks its end; decoders fill the rest with grey."""
    if data.startswith(b"\xff\xd8"):  # its end marker after its last scan (a preview has its own)
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    return data.startswith(b"\x89PNG") and b"IEND" not in data


def _marked(data: bytes, suffix: str, mark: str, size: tuple[int, ...]) -> bytes:
    """The encoded file with the mark where its format keeps comments."""
    if not mark:
        return data
    if suffix == ".png":  # a text chunk after signature (8 bytes) and header (25)
        return data[:33] + _png_chunk(b"iTXt", b"Comment\0\0\0\0\0" + mark.encode()) + data[33:]
    if suffix == ".webp":
        return _webp_with_exif(data, mark, size)
    text = mark.encode()[:65533]  # a comment segment after the first marker
    return data[:2] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text + data[2:]


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _webp_with_exif(data: bytes, mark: str, size: tuple[int, ...]) -> bytes:
    """The WebP in its extended form: a header that announces EXIF, the picture, the EXIF."""
    chunks = data[12:]
    if chunks.startswith(b"VP8X"):
        chunks = chunks[18:]
    height, width = (side - 1 for side in size)
    header = struct.pack("<I", 0b1000) + width.to_bytes(3, "little") + height.to_bytes(3, "little")
    text = mark.encode() + b"\0"
    # A TIFF directory at byte 8 with one entry: ImageDescription (270), ASCII (2), at byte 26.
    exif = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 270, 2, max(len(text), 5), 26, 0)
    exif += text.ljust(5, b"\0")
    body = b"WEBP" + _riff(b"VP8X", header) + chunks + _riff(b"EXIF", exif)
    return _riff(b"RIFF", body)


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
