import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from stream_unmask.errors import InputError, OutputError
from stream_unmask.video import metadata
from stream_unmask.video.image import Picture, open_picture, read_image, save_picture, write_image

MARK = "Faces in this picture are synthesised."
FORMATS = ["jpg", "png", "webp"]
PROFILE = bytes(range(16)) + b"RGB XYZ " + np.random.default_rng(0).bytes(1000)


def quarters() -> np.ndarray:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:20, :30], image[:20, 30:] = (220, 20, 20), (20, 220, 20)
    image[20:, :30], image[20:, 30:] = (20, 20, 220), (200, 200, 200)
    return image


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    top = np.iinfo(dtype).max
    return np.random.default_rng(1).integers(0, top, shape, dtype, endpoint=True)


def half(shape: tuple[int, ...]) -> np.ndarray:
    """A map of the left half, faint on purpose: all above 0 is repainted."""
    mask = np.zeros(shape[:2], np.float32)
    mask[:, : shape[1] // 2] = 0.01
    return mask


def encoded(suffix: str, samples: np.ndarray, *settings: int) -> bytes:
    """A bare file of samples in RGB order, WebP without loss."""
    if samples.ndim == 3:
        samples = samples[..., [2, 1, 0, 3][: samples.shape[2]]]
    settings = settings or ((cv2.IMWRITE_WEBP_QUALITY, 101) if suffix == "webp" else ())
    return cv2.imencode(f".{suffix}", samples, settings)[1].tobytes()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(size: tuple[int, int], depth: int, colour: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG by hand; rows: each with its filter byte in front."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def tiff(order: str, orientation: int, tail: bytes = b"") -> bytes:
    """EXIF of a camera's name, the orientation and a width, with a link to `tail`."""
    entries = [(0x010F, 2, 4, b"Cam\0"), (0x0112, 3, 1, struct.pack(f"{order}HH", orientation, 0))]
    entries.append((0x0100, 4, 1, struct.pack(f"{order}I", 60)))
    exif = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    exif += b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries)
    return exif + struct.pack(f"{order}I", len(exif) + 4 if tail else 0) + tail


def riff(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def dressed(data: bytes, exif: bytes = b"", icc: bytes = b"") -> bytes:
    """A bare file with metadata, put there by other means than the code under test."""
    if data.startswith(b"\xff\xd8"):
        added = segment(0xE1, b"Exif\0\0" + exif) if exif else b""
        pieces = [icc[at : at + 60000] for at in range(0, len(icc), 60000)]
        for number, piece in reversed([*enumerate(pieces, 1)]):  # in any order, says the ICC
            added += segment(0xE2, b"ICC_PROFILE\0" + bytes([number, len(pieces)]) + piece)
        return data[:2] + added + data[2:]
    if data.startswith(b"\x89PNG"):
        added = chunk(b"iCCP", b"any name\0\0" + zlib.compress(icc)) if icc else b""
        return data[:33] + added + data[33:-12] + chunk(b"eXIf", exif) * bool(exif) + data[-12:]
    height, width = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).shape[:2]
    flags = bool(icc) << 5 | (data[12:16] == b"VP8L" and data[24] & 0x10) | bool(exif) << 3
    head = struct.pack("<I", flags) + struct.pack("<I", width - 1)[:3]
    body = riff(b"VP8X", head + struct.pack("<I", height - 1)[:3])
    body += (riff(b"ICCP", icc) if icc else b"") + data[12:]
    return riff(b"RIFF", b"WEBP" + body + (riff(b"EXIF", b"Exif\0\0" + exif) if exif else b""))


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[bytes], Picture]:
    def open_bytes(data: bytes) -> Picture:
        (tmp_path / "in.jpg").write_bytes(data)  # the bytes say which format it is, not the name
        return open_picture(tmp_path / "in.jpg")

    return open_bytes


def saved(picture: Picture, suffix: str, mask: np.ndarray | None = None) -> Picture:
    """What is read of the picture saved, inverted in the left half, or as `mask` says."""
    path, image = picture.path.with_name(f"out.{suffix}"), 255 - picture.image
    mask = half(image.shape) if mask is None else mask
    save_picture(path, picture, image, mask, mark=MARK, overwrite=True)
    return open_picture(path)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".webp", ".PNG"])
@pytest.mark.parametrize("mark", ["", MARK, MARK + "!", "Gesichter ä"])
def test_written_pictures_read_back_with_their_mark(tmp_path: Path, suffix: str, mark: str) -> None:
    path = tmp_path / f"out{suffix}"
    write_image(path, quarters(), mark=mark)
    assert np.abs(read_image(path).astype(int) - quarters())[5:15, 5:25].max() <= 6
    assert read_image(path).shape == (40, 60, 3)
    assert mark.encode() in path.read_bytes()
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def chunks_of(data: bytes) -> Iterator[bytes]:
    """The kinds of a PNG's chunks, whose checksums are right."""
    position = 8
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        body = data[position + 4 : position + 8 + length]
        (crc,) = struct.unpack(">I", data[position + 8 + length : position + 12 + length])
        assert crc == zlib.crc32(body)
        yield body[:4]
        position += 12 + length


def test_png_is_exact_and_its_chunks_are_sound(
    tmp_path: Path, opened: Callable[[bytes], Picture]
) -> None:
    path = tmp_path / "out.png"
    write_image(path, quarters(), mark=MARK)
    assert np.array_equal(read_image(path), quarters())
    assert [*chunks_of(path.read_bytes())][:2] == [b"IHDR", b"iTXt"]
    gamma, density = chunk(b"gAMA", bytes(4)), chunk(b"pHYs", bytes(9))
    source = encoded("png", quarters())
    source = dressed(source[:33] + gamma + density + source[33:], tiff(">", 1), PROFILE)
    kept = saved(opened(source), "png").data
    kinds = [*chunks_of(kept)]
    assert gamma in kept
    assert density in kept
    assert kinds[0] == b"IHDR"
    assert {b"iCCP", b"eXIf", b"iTXt"} < {*kinds[: kinds.index(b"IDAT")]}


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("quality", [95, 101])
def test_webp_announces_what_it_holds(
    opened: Callable[[bytes], Picture], quality: int, alpha: bool
) -> None:
    pixels = noise(31, 47, 3 + alpha)
    source = encoded("webp", pixels, cv2.IMWRITE_WEBP_QUALITY, quality)
    picture = opened(dressed(source, tiff("<", 1), PROFILE) if quality > 100 else source)
    data, position, kinds = saved(picture, "webp").data, 12, []
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    while position < len(data):
        (length,) = struct.unpack("<I", data[position + 4 : position + 8])
        kinds.append(data[position : position + 4])
        position += 8 + length + length % 2
    more = quality > 100
    picture_chunks = [b"VP8L"] if more else [b"ALPH", b"VP8 "] if alpha else [b"VP8 "]
    dressing = ([b"ICCP"] if more else []), ([b"EXIF"] if more else [])
    assert kinds == [b"VP8X", *dressing[0], *picture_chunks, *dressing[1], b"XMP "]
    assert data[20] == 0b101000 * more + 0b10000 * alpha + 0b100
    assert struct.unpack("<II", data[24:27] + b"\0" + data[27:30] + b"\0") == (46, 30)


def test_a_jpeg_keeps_its_header_first(opened: Callable[[bytes], Picture]) -> None:
    source = dressed(encoded("jpg", quarters()), tiff("<", 6), PROFILE)
    data, position, markers = saved(opened(source), "jpg").data, 2, []
    while data[position + 1] != 0xDB:  # the tables of the picture itself
        markers.append(data[position + 1])
        position += 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]
    assert markers == [0xE0, 0xE1, 0xE2, 0xFE]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_grey_maps_can_be_written(tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / f"map{suffix}", np.full((20, 30), 90, np.uint8))
    assert np.abs(read_image(tmp_path / f"map{suffix}").astype(int) - 90).max() <= 2


TURNS = {  # EXIF's orientation -> how the stored picture is turned to stand upright
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("orientation", [0, *range(1, 9), 9])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", FORMATS)
def test_orientations(
    opened: Callable[[bytes], Picture], suffix: str, order: str, orientation: int
) -> None:
    bare = encoded(suffix, quarters())
    stored = cv2.imdecode(np.frombuffer(bare, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    picture = opened(dressed(bare, tiff(order, orientation)))
    upright = TURNS.get(orientation, TURNS[1])(stored)
    assert np.array_equal(picture.image, upright)
    assert np.array_equal(picture.samples, upright)
    if suffix == "jpg":  # OpenCV is of the same opinion
        turned = cv2.imdecode(np.frombuffer(picture.data, np.uint8), cv2.IMREAD_COLOR)
        assert np.array_equal(picture.image, turned[..., ::-1])
    for target in FORMATS:
        again = saved(picture, target)
        assert again.exif == tiff(order, 1)
        right = slice(upright.shape[1] // 2 + 3, None)
        assert np.abs(again.image[:, right].astype(int) - upright[:, right]).mean() < 4


def test_the_preview_of_the_old_picture_is_not_shown(opened: Callable[[bytes], Picture]) -> None:
    preview = struct.pack("<HHHIII", 1, 0x0103, 3, 1, 6, 0)
    picture = opened(dressed(encoded("jpg", quarters()), tiff("<", 1, preview)))
    assert picture.exif == tiff("<", 1, preview)
    assert saved(picture, "jpg").exif == tiff("<", 1) + preview  # the link to it is 0


def test_malformed_exif_is_dropped(opened: Callable[[bytes], Picture]) -> None:
    good, bare = tiff(">", 6), encoded("png", quarters())
    broken = [good[:length] for length in range(1, len(good) - 4)]
    broken += [good[:4] + bytes([255] * 4) + good[8:], good[:8] + b"\xff\xff" + good[10:]]
    broken += [b"XX" + good[2:], good[:4] + bytes(4) + good[8:], good[:7] + b"\4" + good[8:]]
    for exif in broken:
        picture = opened(dressed(bare, exif))
        assert picture.image.shape == quarters().shape
        out = picture.path.with_name("out.png")
        lost = save_picture(
            out, picture, picture.image, half(picture.image.shape), mark=MARK, overwrite=True
        )
        assert open_picture(out).exif is None
        assert [phrase.split(":")[0] for phrase in lost] == ["EXIF"]
    empty = chunk(b"eXIf", b"")
    assert opened(bare[:33] + empty + bare[33:]).exif is None
    unlinked = opened(dressed(bare, good[:-4]))  # some programs leave out the last link
    assert unlinked.image.shape == (60, 40, 3)
    assert saved(unlinked, "png").exif == tiff(">", 1)[:-4]


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("length", [1000, 150_001])
def test_profiles_are_carried_whole(
    opened: Callable[[bytes], Picture], suffix: str, target: str, length: int
) -> None:
    profile = (PROFILE * 150)[:length]
    picture = opened(dressed(encoded(suffix, quarters()), icc=profile))
    assert picture.icc == profile
    assert saved(picture, target).icc == profile


def test_profiles_for_grey_stay_with_grey(opened: Callable[[bytes], Picture]) -> None:
    profile = PROFILE[:16] + b"GRAY" + PROFILE[20:]
    picture = opened(dressed(encoded("jpg", noise(16, 16)), icc=profile))
    kept = {suffix: saved(picture, suffix).icc for suffix in FORMATS}
    assert kept == {"jpg": profile, "png": profile, "webp": None}  # WebP is RGB always
    picture = opened(dressed(encoded("jpg", noise(16, 16)), icc=PROFILE))
    kept = {suffix: saved(picture, suffix).icc for suffix in FORMATS}
    assert kept == {"jpg": PROFILE, "png": None, "webp": PROFILE}  # PNG forbids RGB's for grey


def test_damaged_profiles_are_absent(opened: Callable[[bytes], Picture]) -> None:
    bare = encoded("jpg", quarters())
    part = segment(0xE2, b"ICC_PROFILE\0\1\2" + PROFILE)  # the first of two
    assert opened(bare[:2] + part + bare[2:]).icc is None
    bare = encoded("png", quarters())
    for packed in (b"no zlib", zlib.compress(PROFILE)[:-9], zlib.compress(bytes(1 << 25))):
        assert opened(bare[:33] + chunk(b"iCCP", b"x\0\0" + packed) + bare[33:]).icc is None


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_samples_stay_as_they_were(
    opened: Callable[[bytes], Picture], channels: int, depth: type
) -> None:
    samples = noise(31, 40, channels, dtype=depth).squeeze()
    picture = opened(encoded("png", samples))
    assert picture.samples.dtype == depth
    assert np.array_equal(picture.samples, samples)
    colours = samples.reshape(31, 40, -1)[..., :3] / (257 if depth == np.uint16 else 1)
    assert np.abs(picture.image - colours).max() <= 0.501
    again = saved(picture, "png")
    assert again.samples.dtype == depth
    assert np.array_equal(again.samples[:, 20:], samples[:, 20:])
    if channels == 4:
        assert np.array_equal(again.samples[..., 3], samples[..., 3])
    scale = 257 if depth == np.uint16 else 1
    painted = again.samples.reshape(31, 40, -1)[:, :20, :3]
    wanted = (255 - picture.image[:, :20, : painted.shape[2]]).astype(int) * scale
    assert np.abs(painted - wanted).max() <= (0 if channels > 1 else scale)


def test_repainted_pixels_are_grey_in_a_grey_picture(opened: Callable[[bytes], Picture]) -> None:
    for suffix in ("png", "jpg"):
        picture = opened(encoded(suffix, noise(16, 16)))
        red = np.full((16, 16, 3), (255, 0, 0), np.uint8)
        out = picture.path.with_name(f"out.{suffix}")
        save_picture(out, picture, red, np.ones((16, 16), np.float32), overwrite=True)
        again = open_picture(out)
        assert again.samples.shape == (16, 16)
        assert np.abs(again.image.astype(int) - 76).max() <= 1  # what red is in grey


@pytest.mark.parametrize("depth", [8, 16])
def test_grey_with_alpha_stays_grey_with_alpha(
    opened: Callable[[bytes], Picture], depth: int
) -> None:
    samples = noise(9, 14, 2, dtype=np.uint8 if depth == 8 else np.uint16)
    rows = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in samples)
    profile = PROFILE[:16] + b"GRAY" + PROFILE[20:]
    picture = opened(dressed(raw_png((14, 9), depth, 4, rows), icc=profile))
    assert np.array_equal(picture.samples, samples)
    again = saved(picture, "png")
    assert again.data[24:26] == bytes([depth, 4])
    assert again.icc == profile
    decoded = cv2.imdecode(np.frombuffer(again.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(decoded[:, 7:, 2:], samples[:, 7:])
    assert np.array_equal(decoded[..., 3], samples[..., 1])
    assert not np.array_equal(decoded[:, :7, 2], samples[:, :7, 0])
    if depth == 8:
        webp = saved(picture, "webp")
        visible = samples[:, 7:, 1] > 0
        assert np.array_equal(webp.samples[:, 7:][visible][:, 2:], samples[:, 7:][visible])
        assert webp.icc is None  # a profile for grey fits no RGB
    assert saved(picture, "jpg").samples.shape == (9, 14)


def test_palettes_bits_and_clear_colours(opened: Callable[[bytes], Picture]) -> None:
    palette = chunk(b"PLTE", bytes([1, 2, 3, 40, 50, 60]))
    picture = opened(raw_png((2, 1), 8, 3, b"\0\0\1", palette))
    assert picture.samples.tolist() == [[[1, 2, 3], [40, 50, 60]]]
    picture = opened(raw_png((2, 1), 8, 3, b"\0\0\1", palette, chunk(b"tRNS", b"\x40")))
    assert picture.samples.tolist() == [[[1, 2, 3, 64], [40, 50, 60, 255]]]
    assert saved(picture, "png").samples.tolist() == [[[254, 253, 252, 64], [40, 50, 60, 255]]]
    picture = opened(raw_png((4, 1), 1, 0, b"\0\xa0"))
    assert picture.samples.tolist() == [[255, 0, 255, 0]]
    assert saved(picture, "png").samples.tolist() == [[0, 255, 255, 0]]
    clear = chunk(b"tRNS", b"\0\1")
    assert opened(raw_png((2, 1), 1, 0, b"\0\x80", clear)).samples.tolist() == [
        [[255, 0], [0, 255]]
    ]
    picture = opened(raw_png((2, 1), 4, 0, b"\0\x12", clear))
    assert picture.samples.tolist() == [[[17, 0], [34, 255]]]
    assert saved(picture, "png").samples.tolist() == [[[238, 0], [34, 255]]]
    picture = opened(raw_png((2, 1), 16, 0, b"\0\0\1\0\2", clear))
    assert picture.samples.tolist() == [[[1, 0], [2, 65535]]]
    clear = chunk(b"tRNS", b"\0\1\0\2\0\3")
    picture = opened(raw_png((2, 1), 8, 2, b"\0\1\2\3\4\5\6", clear))
    assert picture.samples.tolist() == [[[1, 2, 3, 0], [4, 5, 6, 255]]]


def test_webp_without_loss_stays_so(opened: Callable[[bytes], Picture]) -> None:
    pixels = noise(31, 47, 4)
    pixels[..., 3] |= 1  # what can't be seen at all may change
    for source in ("webp", "png"):
        picture = opened(encoded(source, pixels))
        assert np.array_equal(saved(picture, "webp").samples[:, 23:], pixels[:, 23:])


def test_jpeg_colours_stay_sharp(opened: Callable[[bytes], Picture]) -> None:
    """Colour at full resolution; at half of it, differences are above 60."""
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = (200, 40, 40), (40, 40, 200)
    again = saved(opened(encoded("png", stripes)), "jpg").image[:, 16:]
    assert np.abs(again.astype(int) - stripes[:, 16:]).max() < 16


def cmyk_jpeg() -> bytes:
    """8 x 8 pixels of even grey by hand: four components with the tables of a grey JPEG."""
    data = encoded("jpg", np.full((8, 8), 128, np.uint8))
    tables = data[data.index(b"\xff\xdb") : data.index(b"\xff\xda")]
    start = tables.index(b"\xff\xc0")
    end = start + 2 + struct.unpack(">H", tables[start + 2 : start + 4])[0]
    parts = b"".join(bytes([number, 0x11, 0]) for number in range(1, 5))
    frame = segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 4) + parts)
    adobe = segment(0xEE, b"Adobe\0\x64\0\0\0\0\0")
    scan = segment(0xDA, b"\4" + b"".join(bytes([n, 0]) for n in range(1, 5)) + b"\0\x3f\0")
    blocks = int("001010" * 4, 2).to_bytes(3, "big")  # no difference, no detail, four times
    tables = tables[:start] + frame + tables[end:]
    return b"\xff\xd8" + adobe + tables + scan + blocks + b"\xff\xd9"


def test_cmyk_and_progressive_jpegs(opened: Callable[[bytes], Picture]) -> None:
    profile = PROFILE[:16] + b"CMYK" + PROFILE[20:]
    picture = opened(dressed(cmyk_jpeg(), tiff("<", 3), profile))
    assert picture.samples.shape == (8, 8, 3)
    assert np.ptp(picture.image) == 0
    again = saved(picture, "jpg")
    assert again.icc is None  # the pixels are RGB now
    assert again.exif == tiff("<", 1)
    progressive = encoded("jpg", quarters(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert b"\xff\xc2" in progressive
    assert np.abs(opened(progressive).image.astype(int) - quarters())[5:15, 5:25].max() <= 10


@pytest.mark.parametrize(
    ("source", "target"),
    [("jpg", "jpg"), ("jpg", "JPEG"), ("png", "png"), ("webp", "webp"), ("webp", "WebP")],
)
def test_a_picture_without_masks_is_copied(
    opened: Callable[[bytes], Picture], source: str, target: str
) -> None:
    data = dressed(encoded(source, quarters()), tiff("<", 6), PROFILE) + b"and what follows"
    picture = opened(data)
    assert saved(picture, target, np.zeros(picture.image.shape[:2], np.float32)).data == data


def test_a_converted_picture_without_masks_has_no_mark(opened: Callable[[bytes], Picture]) -> None:
    picture = opened(dressed(encoded("png", noise(8, 9, 3)), tiff("<", 6), PROFILE))
    again = saved(picture, "webp", np.zeros((9, 8), np.float32))
    assert np.array_equal(again.image, picture.image)
    assert (again.exif, again.icc) == (tiff("<", 1), PROFILE)
    assert MARK.encode() not in again.data
    assert MARK.encode() in saved(picture, "webp").data


def test_what_a_format_cannot_keep_is_said(opened: Callable[[bytes], Picture]) -> None:
    long = tiff("<", 1) + bytes(70_000)
    source = encoded("png", noise(8, 9, 4, dtype=np.uint16))
    picture = opened(dressed(source, long, PROFILE[:16] + b"GRAY" + PROFILE[20:]))
    said = {}
    for suffix in FORMATS:
        out = picture.path.with_name(f"out.{suffix}")
        lost = save_picture(out, picture, picture.image, half((8, 9)), mark=MARK)
        said[suffix] = [phrase.split(":")[0] for phrase in lost]
        kept = open_picture(out)
        assert kept.exif == (None if "EXIF" in said[suffix] else long)
        assert MARK.encode() in kept.data
    assert said == {
        "jpg": ["transparency", "16-bit depth", "EXIF", "colour profile"],
        "png": ["colour profile"],
        "webp": ["16-bit depth", "colour profile"],
    }
    plain = opened(encoded("jpg", quarters()))
    assert save_picture(plain.path.with_name("o.jpg"), plain, plain.image, half((40, 60))) == ()


def headers() -> dict[str, bytes]:
    """The first bytes of pictures of 9000 x 8000 pixels, of which the rest is missing."""
    jpeg = b"\xff\xd8" + segment(0xE1, b"Exif\0\0" + encoded("jpg", quarters()))  # a preview
    jpeg += (
        segment(0xC4, bytes(20))
        + b"\xff"
        + segment(0xC2, struct.pack(">BHHB", 8, 8000, 9000, 3) + bytes(9))
    )
    lossy = b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 9000, 8000)
    packed = b"\x2f" + struct.pack("<I", 8999 | 7999 << 14)
    sides = struct.pack("<I", 8999)[:3] + struct.pack("<I", 7999)[:3]
    webp = {b"VP8 ": lossy, b"VP8L": packed, b"VP8X": bytes(4) + sides}
    cases = {f"{name!r}": b"RIFF\0\0\0\0WEBP" + riff(name, body) for name, body in webp.items()}
    return {"jpeg": jpeg, "png": raw_png((9000, 8000), 8, 0, b""), **cases}


@pytest.mark.parametrize("name", [*headers()])
def test_large_pictures_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "in.png").write_bytes(headers()[name])

    def imdecode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", imdecode)
    message = r"in.png has 9000 x 8000 pixels, more than the limit of 67108864 \(--max-pixels\)\.$"
    with pytest.raises(InputError, match=message):
        open_picture(tmp_path / "in.png")
    with pytest.raises(AssertionError, match="decoded"):
        open_picture(tmp_path / "in.png", max_pixels=9000 * 8000)


@pytest.mark.parametrize("size", [(40000, 40000), (2**20 + 1, 1)])
def test_beyond_the_limits_of_opencv(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "in.png").write_bytes(raw_png(size, 8, 0, b"\0"))
    with pytest.raises(InputError, match="not a picture that can be read"):
        open_picture(tmp_path / "in.png", max_pixels=2**40)


def test_animations_are_refused(opened: Callable[[bytes], Picture]) -> None:
    bare = encoded("png", quarters())
    frames = chunk(b"acTL", struct.pack(">II", 2, 0))
    with pytest.raises(InputError, match="animated"):
        opened(bare[:33] + frames + bare[33:])
    assert np.array_equal(opened(bare + frames).image, quarters())  # after the end: no part of it
    webp = dressed(encoded("webp", quarters()), tiff("<", 1))
    with pytest.raises(InputError, match="animated"):
        opened(webp[:30] + riff(b"ANIM", bytes(6)) + webp[30:])


@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_files_give_a_picture_or_one_sentence(
    opened: Callable[[bytes], Picture], suffix: str
) -> None:
    source = dressed(encoded(suffix, quarters()), tiff("<", 6), PROFILE)
    random, read = np.random.default_rng(2), 0
    for _ in range(200):
        data = bytearray(source[: random.choice([len(source), random.integers(1, len(source))])])
        for at in random.integers(0, min(len(data), 400), 3):
            data[at] = random.integers(256)
        try:
            picture = opened(bytes(data))
        except InputError:
            continue
        read += 1
        assert saved(picture, suffix).image.shape == picture.image.shape
    assert 0 < read < 200


def test_bad_pictures_give_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("no picture")
    write_image(tmp_path / "good.jpg", quarters())
    write_image(tmp_path / "good.png", quarters())
    write_image(tmp_path / "good.webp", quarters())
    cases = {"nothing.jpg": "does not exist", "empty.jpg": "is empty", "text.png": "not a picture"}
    for suffix in ("jpg", "png", "webp"):
        data = (tmp_path / f"good.{suffix}").read_bytes()
        (tmp_path / f"cut.{suffix}").write_bytes(data[: len(data) * 2 // 3])
        cases[f"cut.{suffix}"] = "not a picture" if suffix == "webp" else "cut short"
    for name, message in cases.items():
        with pytest.raises(InputError, match=message):
            read_image(tmp_path / name)
    with pytest.raises(InputError, match="can't be read"):
        read_image(tmp_path)


def test_refusals(tmp_path: Path) -> None:
    write_image(tmp_path / "there.png", quarters())
    with pytest.raises(OutputError, match="exists already"):
        write_image(tmp_path / "there.png", quarters())
    with pytest.raises(OutputError, match="the input"):
        write_image(
            tmp_path / "there.png", quarters(), source=tmp_path / "there.png", overwrite=True
        )
    with pytest.raises(OutputError, match="must end in"):
        write_image(tmp_path / "out.tiff", quarters())
    with pytest.raises(OutputError, match="does not exist"):
        write_image(tmp_path / "nowhere" / "out.png", quarters())
    write_image(tmp_path / "there.png", quarters()[:10], overwrite=True)
    assert read_image(tmp_path / "there.png").shape == (10, 60, 3)


def test_pictures_are_saved_whole_or_not_at_all(
    opened: Callable[[bytes], Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = opened(encoded("png", np.zeros((2, 17000, 3), np.uint8)))
    folder, mask = picture.path.parent, half((2, 17000))
    with pytest.raises(OutputError, match="can't be encoded"):  # WebP ends at 16383
        save_picture(folder / "out.webp", picture, picture.image, mask)
    with pytest.raises(OutputError, match="must end in"):
        save_picture(folder / "out.gif", picture, picture.image, mask)
    for empty in (mask, np.zeros_like(mask)):
        with pytest.raises(OutputError, match="the input"):
            save_picture(picture.path, picture, picture.image, empty, overwrite=True)
    (folder / "out.png").write_text("older")
    with pytest.raises(OutputError, match="exists already"):
        save_picture(folder / "out.png", picture, picture.image, mask)

    def write_half(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    for empty in (mask, np.zeros_like(mask)):
        with pytest.raises(OutputError, match=r"can't be written \(No space left on device\)\.$"):
            save_picture(folder / "out.png", picture, picture.image, empty, overwrite=True)
    assert (folder / "out.png").read_text() == "older"
    assert sorted(item.name for item in folder.iterdir()) == ["in.jpg", "out.png"]


def test_long_marks_and_marks_with_signs(tmp_path: Path) -> None:
    mark = "<&>" * 30_000
    for suffix in FORMATS:
        write_image(tmp_path / f"out.{suffix}", quarters(), mark=mark)
        assert read_image(tmp_path / f"out.{suffix}").shape == (40, 60, 3)
    assert b"&lt;&amp;&gt;" in (tmp_path / "out.webp").read_bytes()
    assert metadata.kind_of((tmp_path / "out.jpg").read_bytes()) == "jpeg"
