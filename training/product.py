"""The product as the evaluation runs it: the shipped engines, on crops and on whole pictures."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from stream_unmask.faces.crop import cut
from stream_unmask.pipeline import Parts, laid, pasted, whole_mask
from stream_unmask.steady import SteadyMask
from stream_unmask.types import Crop, Face, Image, Mask
from stream_unmask.unmask import Networks, repaint, widen
from training.dataset import FaceSet
from training.metrics import Row, Table

SEED, BATCH = 0, 16

T = TypeVar("T")


@dataclass
class Bench:
    """What every part of the evaluation measures with, and what came out so far.

    faces: LFW. details: by name, figures that are too many for a table.
    """

    parts: Parts
    data: Path
    out: Path
    limit: int | None
    wanted: set[str]
    faces: FaceSet
    tables: dict[str, Table] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def count(self, most: int) -> int:
        """`most`, or the limit if that is less."""
        return most if self.limit is None else min(most, self.limit)

    def add(self, name: str, title: str, note: str, rows: Iterable[Row]) -> None:
        """Adds rows to a table, which the first of them begins."""
        self.tables.setdefault(name, Table(title, note)).rows.extend(rows)


def batches(items: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """The items in lists of `size`; the last may be shorter."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part


def segment(parts: Parts, crops: Sequence[Image]) -> list[Mask]:
    """The segmenter's map (h, w) of each crop."""
    return [mask for part in batches(crops) for mask in parts.networks.segmenter(part)]


def worn(mask: Mask) -> Mask | None:
    """The cleaned map (h, w), 0 or 1, if the product says that a mask is worn."""
    return SteadyMask(smooth=False)(mask)


class Kept:
    """A network that keeps what it last gave, so that each step of `repaint` can be measured."""

    def __init__(self, network: Callable[..., list[Image]]) -> None:
        self._network = network
        self.last: list[Image] = []

    def __call__(self, *inputs: object) -> list[Image]:
        self.last = self._network(*inputs)
        return self.last


AE, SRCNN, MERGED = "1 inpainter", "2 enhancer", "3 relit and merged"


def painted(
    networks: Networks, faces: Sequence[Image], masks: Sequence[Mask]
) -> dict[str, list[Image]]:
    """What `repaint` makes of faces, and its steps on the way there."""
    steps: dict[str, list[Image]] = {AE: [], SRCNN: [], MERGED: []}
    inpainter, enhancer = Kept(networks.inpainter), Kept(networks.enhancer)
    kept = Networks(networks.segmenter, inpainter, enhancer)  # type: ignore[arg-type]
    for part in batches(zip(faces, masks, strict=True)):
        pictures, maps = zip(*part, strict=True)
        steps[MERGED] += repaint(pictures, maps, kept)
        steps[AE] += inpainter.last
        steps[SRCNN] += enhancer.last
    return steps


@dataclass(frozen=True)
class Seen:
    """A picture as it went through the product.

    crops: one for each face, as cut. maps: the segmenter's. fabrics: `worn` of them. result: the
    picture with masks painted over. touched: (H, W), where it was.
    """

    name: str
    image: Image
    faces: tuple[Face, ...]
    crops: list[Crop]
    maps: list[Mask]
    fabrics: list[Mask | None]
    result: Image
    touched: Mask


def see(parts: Parts, pictures: Iterable[tuple[str, Image, tuple[Face, ...]]]) -> Iterator[Seen]:
    """Pictures (name, RGB, the faces in it), each unmasked; their crops share batches."""
    profile = parts.profile
    for chunk in batches(pictures):
        rows = [[cut(i, face, profile.eyes, profile.size) for face in f] for _, i, f in chunk]
        maps = segment(parts, [crop.image for row in rows for crop in row])
        fabrics = [worn(mask) for mask in maps]
        flat = [crop for row in rows for crop in row]
        masked = [index for index, fabric in enumerate(fabrics) if fabric is not None]
        wide = [widen(fabric) for fabric in fabrics if fabric is not None]
        done = painted(parts.networks, [flat[index].image for index in masked], wide)[MERGED]
        new = {
            index: Crop(image, flat[index].to_frame, mask=mask)
            for index, image, mask in zip(masked, done, wide, strict=True)
        }
        first = 0
        for (name, image, faces), row in zip(chunk, rows, strict=True):
            these = range(first, first + len(row))
            first += len(row)
            patches = pasted([new[index] for index in these if index in new], image.shape[:2])
            yield Seen(
                name, image, faces, row, [maps[i] for i in these], [fabrics[i] for i in these],
                laid(image, patches), whole_mask(image.shape[:2], patches),
            )  # fmt: skip
