"""Still pictures in and out: upright, with all that must survive, and a mark in the metadata."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from zlib import compress

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_unmask.errors import InputError, OutputError
from stream_unmask.types import Image, Mask
from stream_unmask.video import metadata
from stream_unmask.video.target import claim, publish

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MAX_PIXELS = 67_108_864  # 8192 x 8192
_KINDS: dict[str, metadata.Kind] = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".png": "png",
    ".webp": "webp",
}
_QUALITY: dict[metadata.Kind, list[int]] = {
    # At full colour resolution: halved once more, colours would bleed where nothing was painted.
    "jpeg": [
        *(cv2.IMWRITE_JPEG_QUALITY, 95),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    ],
    "png": [],
    "webp": [cv2.IMWRITE_WEBP_QUALITY, 95],
}
_LOSSLESS_WEBP = [cv2.IMWRITE_WEBP_QUALITY, 101]

Samples = NDArray[np.unsignedinteger[Any]]  # uint8 or uint16


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A still picture and what of its file must survive.

    image: (H, W, 3) RGB uint8, upright. samples: the same at the file's own depth, uint8 or uint16:
    (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA; may be `image` itself.
    exif, icc: as in the file, EXIF from its byte order mark on. data: the file's bytes.
    """

    image: Image
    samples: Samples
    exif: bytes | None
    icc: bytes | None
    data: bytes
    path: Path


def open_picture(path: str | Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """The picture, upright (its EXIF orientation applied); InputError if it can't be read."""
    path = Path(path)
    data = _read(path)
    size = metadata.size_of(data)
    if metadata.is_cut(data):
        raise InputError(f"{path} is cut short.")
    if size is None:
        raise InputError(f"{path} is not a picture that can be read (JPEG, PNG or WebP).")
    if size[0] * size[1] > max_pixels:  # before decoding: a small file can hold a huge picture
        raise InputError(
            f"{path} has {size[0]} x {size[1]} pixels, more than the limit of {max_pixels} "
            "(--max-pixels)."
        )
    if metadata.is_animated(data):
        raise InputError(f"{path} is animated; only still pictures can be read.")
    exif = metadata.exif_of(data)
    samples = _upright(_decoded(path, data), metadata.orientation_of(exif))
    return Picture(_rgb8(samples), samples, exif, metadata.icc_of(data), data, path)


def read_image(path: str | Path) -> Image:
    """The picture as upright RGB (its EXIF orientation applied); InputError if it can't be read."""
    return open_picture(path).image


def save_picture(
    path: str | Path,
    picture: Picture,
    image: Image,
    mask: Mask,
    *,
    mark: str = "",
    overwrite: bool = False,
) -> tuple[str, ...]:
    """One phrase for each thing that the file can't keep; it has `image` where the mask is above 0.

    Elsewhere it has the picture's own samples, and `mark` in its metadata. A picture in which
    nothing was repainted gets no mark; in its own format its file is copied. Raises OutputError.
    """
    path = Path(path)
    part = _claim(path, picture.path, overwrite)
    repainted = bool((mask > 0).any())
    if not repainted and metadata.kind_of(picture.data) == _KINDS[path.suffix.lower()]:
        _put(path, part, picture.data)
        return ()
    samples = _repainted(picture.samples, image, mask)
    data, dropped = _file(path, picture, samples, mark if repainted else "")
    _put(path, part, data)
    return dropped


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
    part = _claim(path, Path(source) if source is not None else None, overwrite)
    _put(path, part, metadata.with_metadata(_encoded(path, image), mark=mark))


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist.") from error
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}).") from error
    if not data:
        raise InputError(f"{path} is empty.")
    return data


def _decoded(path: Path, data: bytes) -> Samples:
    """The samples as they lie in the file, of any orientation, in RGB order."""
    try:
        samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise InputError(f"{path} is not a picture that can be read ({error.err}).") from error
    if samples is None:
        raise InputError(f"{path} is not a picture that can be read.")
    if samples.ndim == 3:
        alpha = samples.shape[2] == 4
        samples = cv2.cvtColor(samples, cv2.COLOR_BGRA2RGBA if alpha else cv2.COLOR_BGR2RGB)
    elif (clear := metadata.clear_grey(data)) is not None:  # OpenCV sees that in colours only
        samples = np.dstack([samples, _scaled((samples != clear) * np.uint8(255), samples.dtype)])
    if metadata.has_grey_alpha(data):
        samples = np.ascontiguousarray(samples[..., 2:])
    return cast(Samples, samples)


def _upright(samples: Samples, orientation: int) -> Samples:
    """The samples as the viewer sees them, by EXIF's numbering of the eight orientations."""
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    across = -1 if orientation in (2, 3, 6, 7) else 1
    down = -1 if orientation in (3, 4, 7, 8) else 1
    return np.ascontiguousarray(samples[::down, ::across])


def _eight_bit(samples: Samples) -> Image:
    if samples.dtype == np.uint8:
        return cast(Image, samples)
    height, width = samples.shape[:2]  # OpenCV takes (H, W, 1) for (H, W), hence the shapes
    scaled = cv2.convertScaleAbs(samples.reshape(height, -1), alpha=1 / 257)
    return cast(Image, scaled.reshape(height, width, *samples.shape[2:]))


def _opaque(samples: Samples) -> Samples:
    """The samples without alpha."""
    if _channels(samples) == 2:
        return np.ascontiguousarray(samples[..., 0])
    return np.ascontiguousarray(samples[..., :3]) if _channels(samples) == 4 else samples


def _channels(samples: Samples) -> int:
    return 1 if samples.ndim == 2 else samples.shape[2]


def _rgb8(samples: Samples) -> Image:
    colours = _eight_bit(_opaque(samples))
    return cast(Image, cv2.cvtColor(colours, cv2.COLOR_GRAY2RGB)) if colours.ndim == 2 else colours


def _repainted(samples: Samples, image: Image, mask: Mask) -> Samples:
    """The samples with `image` where the mask is above 0, in their own colours and depth."""
    count = _channels(samples)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    new = cast(Image, grey) if count <= 2 else image
    result, where = samples.copy(), mask > 0
    colours = result.reshape(*where.shape, count)[..., : new.shape[2]]
    colours[where] = _scaled(new[where], samples.dtype)
    return result


def _scaled(image: Image, depth: np.dtype[Any]) -> Samples:
    """8-bit values at another depth: 255 becomes 65535."""
    return image if depth == np.uint8 else image.astype(np.uint16) * np.uint16(257)


def _file(
    path: Path, picture: Picture, samples: Samples, mark: str
) -> tuple[bytes, tuple[str, ...]]:
    """The whole file, and a phrase for each thing that it can't keep."""
    suffix = path.suffix.lower()
    kind = _KINDS[suffix]
    fitting = _fitting(samples, kind)
    exif = metadata.upright_exif(picture.exif) if picture.exif else None
    if exif and not metadata.exif_fits(exif, kind):
        exif = None
    grey = _channels(fitting) <= 2
    icc = picture.icc if picture.icc and metadata.icc_fits(picture.icc, kind, grey) else None
    data = metadata.with_metadata(
        _encoded(path, fitting, lossless=metadata.is_lossless(picture.data)),
        exif=exif, icc=icc, mark=mark, like=picture.data,
    )  # fmt: skip
    lost = {
        f"transparency: not possible in {suffix}": _channels(fitting) < _channels(samples),
        f"16-bit depth: not possible in {suffix}": fitting.dtype != samples.dtype,
        f"EXIF: damaged, or too long for {suffix}": exif is None and picture.exif is not None,
        f"colour profile: not for the colours of {suffix}": icc is None and picture.icc is not None,
    }
    return data, tuple(phrase for phrase, applies in lost.items() if applies)


def _fitting(samples: Samples, kind: metadata.Kind) -> Samples:
    """The samples as the format can hold them: JPEG no alpha, WebP no grey, neither 16 bits."""
    if kind == "png":
        return samples
    samples = _eight_bit(samples)
    if kind == "jpeg":
        return _opaque(samples)
    return samples[..., [0, 0, 0, 1]] if _channels(samples) == 2 else samples


def _encoded(path: Path, samples: Samples, *, lossless: bool = False) -> bytes:
    """The bare file, without metadata."""
    kind = _KINDS[path.suffix.lower()]
    if _channels(samples) == 2:
        return _grey_alpha_png(samples)
    if samples.ndim == 3:
        alpha = samples.shape[2] == 4
        colours = cv2.COLOR_RGBA2BGRA if alpha else cv2.COLOR_RGB2BGR
        samples = cast(Samples, cv2.cvtColor(samples, colours))
    quality = _LOSSLESS_WEBP if lossless and kind == "webp" else _QUALITY[kind]
    try:
        done, encoded = cv2.imencode(path.suffix.lower(), samples, quality)
    except cv2.error as error:
        raise OutputError(f"{path} can't be encoded ({error.err}).") from error
    if not done:
        raise OutputError(f"{path} can't be encoded; {path.suffix} may not hold so many pixels.")
    return encoded.tobytes()


def _grey_alpha_png(samples: Samples) -> bytes:
    """A PNG of grey and alpha, which OpenCV can't write."""
    height, width, _ = samples.shape
    depth = 8 * samples.itemsize
    rows = samples.astype(f">u{samples.itemsize}").view(np.uint8).reshape(height, -1)
    step = 2 * samples.itemsize
    rows[:, step:] -= rows[:, :-step].copy()  # filter 1: the difference to the pixel before
    lines = compress(np.insert(rows, 0, 1, axis=1).tobytes())
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, 4, 0, 0, 0])
    chunks = [(b"IHDR", header), (b"IDAT", lines), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(metadata.png_chunk(*chunk) for chunk in chunks)


def _claim(path: Path, source: Path | None, overwrite: bool) -> Path:
    """The name to write under; OutputError if no picture can go to `path`."""
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"{path} must end in one of {', '.join(SUFFIXES)}.")
    return claim(path, source, overwrite)


def _put(path: Path, part: Path, data: bytes) -> None:
    """Nothing comes back; the whole file is under its name, or nothing is."""
    try:
        part.write_bytes(data)
        publish(part, path)
    except OSError as error:
        raise OutputError(f"{path} can't be written ({error.strerror}).") from error
    finally:
        part.unlink(missing_ok=True)
