import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from stream_unmask.errors import InputError, OutputError
from stream_unmask.video.image import read_image, write_image

MARK = "Faces in this picture are synthesised."


def quarters() -> np.ndarray:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:20, :30], image[:20, 30:] = (220, 20, 20), (20, 220, 20)
    image[20:, :30], image[20:, 30:] = (20, 20, 220), (200, 200, 200)
    return image


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".webp", ".PNG"])
@pytest.mark.parametrize("mark", ["", MARK, MARK + "!", "Gesichter ä"])
def test_written_pictures_read_back_with_their_mark(tmp_path: Path, suffix: str, mark: str) -> None:
    path = tmp_path / f"out{suffix}"
    write_image(path, quarters(), mark=mark)
    assert np.abs(read_image(path).astype(int) - quarters())[5:15, 5:25].max() <= 6
    assert read_image(path).shape == (40, 60, 3)
    assert mark.encode() in path.read_bytes()
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_png_is_exact_and_its_chunks_are_sound(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    write_image(path, quarters(), mark=MARK)
    assert np.array_equal(read_image(path), quarters())
    data, position, kinds = path.read_bytes(), 8, []
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        body = data[position + 4 : position + 8 + length]
        (crc,) = struct.unpack(">I", data[position + 8 + length : position + 12 + length])
        assert crc == zlib.crc32(body)
        kinds.append(body[:4])
        position += 12 + length
    assert kinds[:2] == [b"IHDR", b"iTXt"]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_grey_maps_can_be_written(tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / f"map{suffix}", np.full((20, 30), 90, np.uint8))
    assert np.abs(read_image(tmp_path / f"map{suffix}").astype(int) - 90).max() <= 2


def test_orientation_is_applied(tmp_path: Path) -> None:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(quarters(), cv2.COLOR_RGB2BGR))
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, 6, 0, 0)
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    data = encoded.tobytes()
    (tmp_path / "turned.jpg").write_bytes(data[:2] + segment + data[2:])
    upright = read_image(tmp_path / "turned.jpg")
    assert upright.shape == (60, 40, 3)
    expected = np.rot90(quarters(), -1).astype(int)
    assert np.abs(upright.astype(int) - expected)[5:10, 5:10].max() <= 10


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
        cases[f"cut.{suffix}"] = "cut short|not a picture"
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
