"""What JPEG, PNG and WebP files hold beside their pixels, read and written as bytes.

Nothing here decodes pixels, and nothing raises for a damaged file: what can't be read is absent.
"""

import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Literal
from xml.sax.saxutils import escape

Kind = Literal["jpeg", "png", "webp"]
Order = Literal["little", "big"]

_ORIENTATION = 0x0112
_SHORT = 3  # TIFF's 16-bit number
_SEGMENT = 65533  # what a JPEG segment holds after its length
_EXIF = b"Exif\0\0"
_ICC = b"ICC_PROFILE\0"
_ICC_PART = _SEGMENT - len(_ICC) - 2  # its number and their count take two bytes
_ICC_LIMIT = 255 * _ICC_PART  # beyond what a JPEG can hold, no profile is believed
_PNG_COLOUR = {b"cHRM", b"gAMA", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"pHYs"}
_MARKER = re.compile(rb"\xff[^\0\xff]", re.DOTALL)
_SCAN, _END = 0xDA, 0xD9
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF markers: they say the size
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>'
    '<rdf:li xml:lang="x-default">{}</rdf:li></rdf:Alt></dc:description></rdf:Description>'
    "</rdf:RDF></x:xmpmeta>"
)


def kind_of(data: bytes) -> Kind | None:
    """The format that the first bytes of a file name."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    return "webp" if data.startswith(b"RIFF") and data[8:12] == b"WEBP" else None


def size_of(data: bytes) -> tuple[int, int] | None:
    """(width, height) as the header says, before any orientation; None if it does not."""
    for name, body in _parts(data):
        if name == b"IHDR":
            return _big(body[:4]), _big(body[4:8])
        if len(name) == 1 and name[0] in _FRAMES:
            return _big(body[3:5]), _big(body[1:3])
        if name == b"VP8X":
            return _little(body[4:7]) + 1, _little(body[7:10]) + 1
        if name == b"VP8L":
            bits = _little(body[1:5])
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        if name == b"VP8 ":
            return _little(body[6:8]) & 0x3FFF, _little(body[8:10]) & 0x3FFF
    return None


def is_cut(data: bytes) -> bool:
    """True if a JPEG or PNG lacks its end, or a PNG a part on the way there.

    Decoders fill the rest with grey, and make room for a part of whatever size it states.
    """
    if kind_of(data) == "jpeg":  # its end marker after its last scan (a preview has its own)
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    return kind_of(data) == "png" and all(name != b"IEND" for name, _ in _png_chunks(data))


def is_animated(data: bytes) -> bool:
    """True for a PNG or WebP of several pictures."""
    return any(name in (b"acTL", b"ANIM") for name, _ in _parts(data))


def is_lossless(data: bytes) -> bool:
    """True if no sample was altered to make the file small."""
    return kind_of(data) == "png" or any(name == b"VP8L" for name, _ in _parts(data))


def has_grey_alpha(data: bytes) -> bool:
    """True for a PNG whose pixels are grey and alpha."""
    return kind_of(data) == "png" and data[25:26] == b"\x04"


def clear_grey(data: bytes) -> int | None:
    """The one grey that a grey PNG declares transparent, scaled as decoders scale it."""
    if kind_of(data) != "png" or data[25:26] != b"\0":
        return None
    for name, body in _parts(data):
        if name == b"tRNS":
            depth = data[24]
            return _big(body[:2]) * (255 // (2**depth - 1) if 0 < depth < 8 else 1)
    return None


def exif_of(data: bytes) -> bytes | None:
    """The EXIF (from its byte order mark on), None without."""
    for name, body in _parts(data):
        if name in (b"eXIf", b"EXIF") or (name == b"\xe1" and body.startswith(_EXIF)):
            return body.removeprefix(_EXIF) or None
    return None


def icc_of(data: bytes) -> bytes | None:
    """The colour profile; None without, or if a part of it is missing."""
    pieces: dict[int, bytes] = {}
    count = 0
    for name, body in _parts(data):
        if name == b"ICCP":
            return body if 0 < len(body) <= _ICC_LIMIT else None
        if name == b"iCCP":
            return _inflated(body[body.find(b"\0") + 2 :])
        if name == b"\xe2" and body.startswith(_ICC) and len(body) > len(_ICC) + 2:
            number, count = body[len(_ICC)], body[len(_ICC) + 1]
            pieces[number] = body[len(_ICC) + 2 :]
    whole = b"".join(pieces[number] for number in sorted(pieces))
    return whole if pieces and sorted(pieces) == [*range(1, count + 1)] else None


def orientation_of(exif: bytes | None) -> int:
    """The orientation 1..8 that EXIF gives; 1, upright, if it gives none."""
    order, entries = _orientations(exif or b"")
    value = int.from_bytes((exif or b"")[entries[0] + 8 : entries[0] + 10], order) if entries else 1
    return value if 1 <= value <= 8 else 1


def upright_exif(exif: bytes) -> bytes | None:
    """The EXIF for repainted, upright pixels: orientation 1, no preview; None if it is damaged.

    The preview shows the picture as it was. It hangs on the link after the first directory.
    """
    directory = _directory(exif)
    if directory is None:
        return None
    order, _, end = directory
    result = bytearray(exif)
    for entry in _orientations(exif)[1]:
        result[entry + 8 : entry + 10] = (1).to_bytes(2, order)
    result[end : end + 4] = bytes(len(result[end : end + 4]))
    return bytes(result)


def exif_fits(exif: bytes, kind: Kind) -> bool:
    """True if such a file has room for it: a JPEG keeps EXIF in one segment."""
    return kind != "jpeg" or len(_EXIF) + len(exif) <= _SEGMENT


def icc_fits(icc: bytes, kind: Kind, grey: bool) -> bool:
    """True if such a file, of grey or of RGB pixels, may have a profile for these colours."""
    colours = icc[16:20]
    if colours == b"RGB ":  # a PNG alone forbids it for grey; a WebP has nothing but RGB
        return not grey or kind != "png"
    return colours != b"CMYK" and (colours != b"GRAY" or (grey and kind != "webp"))


def with_metadata(
    data: bytes,
    *,
    exif: bytes | None = None,
    icc: bytes | None = None,
    mark: str = "",
    like: bytes = b"",
) -> bytes:
    """A bare encoded file with EXIF, colour profile and mark where its format has them.

    like: if both are PNG, this one's chunks that say which colours and lengths are meant go along.
    """
    kind = kind_of(data)
    if kind == "jpeg":
        return _jpeg_with(data, exif, icc, mark)
    if kind == "png":
        return _png_with(data, exif, icc, mark, like)
    return _webp_with(data, exif, icc, mark) if exif or icc or mark else data


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk: length, kind, body, checksum."""
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def _jpeg_with(data: bytes, exif: bytes | None, icc: bytes | None, mark: str) -> bytes:
    """The segments go after the JFIF header, which must come first."""
    pieces = [icc[at : at + _ICC_PART] for at in range(0, len(icc), _ICC_PART)] if icc else []
    added = _segment(0xE1, _EXIF + exif) if exif else b""
    for number, piece in enumerate(pieces, 1):
        added += _segment(0xE2, _ICC + bytes([number, len(pieces)]) + piece)
    if mark:
        added += _segment(0xFE, mark.encode()[:_SEGMENT])
    at = 4 + _big(data[4:6]) if data[2:4] == b"\xff\xe0" else 2
    return data[:at] + added + data[at:]


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def _png_with(data: bytes, exif: bytes | None, icc: bytes | None, mark: str, like: bytes) -> bytes:
    """The chunks go after signature (8 bytes) and header (25), before palette and pixels."""
    kept = _parts(like) if kind_of(like) == "png" else []
    added = b"".join(png_chunk(name, body) for name, body in kept if name in _PNG_COLOUR)
    if icc:
        added += png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
    if exif:
        added += png_chunk(b"eXIf", exif)
    if mark:
        added += png_chunk(b"iTXt", b"Comment\0\0\0\0\0" + mark.encode())
    return data[:33] + added + data[33:]


def _webp_with(data: bytes, exif: bytes | None, icc: bytes | None, mark: str) -> bytes:
    """The extended form: a header that announces what follows, profile, pixels, EXIF, XMP."""
    pixels = [part for part in _riff_chunks(data) if part[0] in (b"ALPH", b"VP8 ", b"VP8L")]
    clear = any(name == b"ALPH" or (name == b"VP8L" and body[4] & 0x10) for name, body in pixels)
    flags = bool(icc) << 5 | clear << 4 | bool(exif) << 3 | bool(mark) << 2
    sides = [(side - 1).to_bytes(3, "little") for side in size_of(data) or (1, 1)]
    chunks = [(b"VP8X", bytes([flags, 0, 0, 0]) + b"".join(sides))]
    chunks += [(b"ICCP", icc)] if icc else []
    chunks += pixels
    chunks += [(b"EXIF", exif)] if exif else []
    chunks += [(b"XMP ", _XMP.format(escape(mark)).encode())] if mark else []
    return _riff(b"RIFF", b"WEBP" + b"".join(_riff(name, body) for name, body in chunks))


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)


def _parts(data: bytes) -> Iterable[tuple[bytes, bytes]]:
    """(name, body) of each part of a file: a JPEG's segments, chunks of the others."""
    kind = kind_of(data)
    if kind == "jpeg":
        return _segments(data)
    if kind == "png":
        return _png_chunks(data)
    return _riff_chunks(data) if kind == "webp" else []


def _segments(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """What stands before the first scan; bytes between segments are skipped, as decoders do."""
    at = 2
    while found := _MARKER.search(data, at):
        marker, at = data[found.end() - 1], found.end()
        if marker in (_SCAN, _END):
            return
        if marker not in _ALONE:
            length = _big(data[at : at + 2])
            yield bytes([marker]), data[at + 2 : at + length]
            at += max(length, 2)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at, name = 8, b""
    while at + 8 <= len(data) and name != b"IEND":
        length, name = _big(data[at : at + 4]), data[at + 4 : at + 8]
        yield name, data[at + 8 : at + 8 + length]
        at += length + 12


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        length = _little(data[at + 4 : at + 8])
        yield data[at : at + 4], data[at + 8 : at + 8 + length]
        at += length + length % 2 + 8


def _directory(exif: bytes) -> tuple[Order, int, int] | None:
    """(byte order, start of the entries, their end) of the first TIFF directory, if it is whole."""
    order: Order = "little" if exif.startswith(b"II*\0") else "big"
    at = int.from_bytes(exif[4:8], order)
    end = at + 2 + 12 * int.from_bytes(exif[at : at + 2], order)
    whole = exif[:4] in (b"II*\0", b"MM\0*") and at >= 8 and end <= len(exif)
    return (order, at + 2, end) if whole else None


def _orientations(exif: bytes) -> tuple[Order, list[int]]:
    """The byte order, and where the entries are that give an orientation; more than one is odd."""
    directory = _directory(exif)
    if directory is None:
        return "big", []
    order, start, end = directory
    wanted = _ORIENTATION.to_bytes(2, order) + _SHORT.to_bytes(2, order)
    return order, [at for at in range(start, end, 12) if exif[at : at + 4] == wanted]


def _inflated(packed: bytes) -> bytes | None:
    """The unpacked profile, None if it is damaged or no profile can be so long."""
    unpacker = zlib.decompressobj()
    try:
        whole = unpacker.decompress(packed, _ICC_LIMIT)
    except zlib.error:
        return None
    return whole if whole and unpacker.eof else None


def _big(number: bytes) -> int:
    return int.from_bytes(number, "big")


def _little(number: bytes) -> int:
    return int.from_bytes(number, "little")
