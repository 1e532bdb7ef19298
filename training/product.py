"""The product as the evaluation runs it: the shipped engines, on crops and on whole pictures."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from stream_unmask import pipeline, steady
from stream_unmask.faces.crop import cut
from stream_unmask.models.profile import Profile
from stream_unmask.pipeline import Parts, laid, merged, pasted, whole_mask
from stream_unmask.types import Crop, Face, Image, Maps, Mask, Points
from stream_unmask.unmask import Networks, clean, repaint, widen
from training.dataset import FaceSet
from training.metrics import Row, Table

SEED, BATCH = 0, 16
LFW, UTKFACE = "lfw_deepfunneled", "utkface_200x200"

T = TypeVar("T")


@dataclass
class Bench:
    """What every part of the evaluation measures with, and what came out so far.

    sets: LFW and UTKFace. networks: by name, those to compare with each other. check: run folder
    of the network that tells attributes. details: by name, figures that are too many for a table.
    """

    parts: Parts
    data: Path
    out: Path
    limit: int | None
    wanted: set[str]
    sets: dict[str, FaceSet]
    networks: dict[str, Networks] = field(default_factory=dict)
    check: Path | None = None
    tables: dict[str, Table] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def profile(self) -> Profile:
        """The profile that is measured."""
        return self.parts.networks.profile

    @property
    def faces(self) -> FaceSet:
        """LFW."""
        return self.sets[LFW]

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


def segment(networks: Networks, crops: Sequence[Image]) -> list[Maps]:
    """The segmenter's maps (c, h, w) of each crop."""
    return [maps for part in batches(crops) for maps in networks.segmenter(part)]


@dataclass(frozen=True)
class Worn:
    """A mask that the product found in a crop.

    fabric: (h, w), 0 or 1, without straps, which no label has. wide: (h, w), with what hangs on
    it, the map that the product repaints by.
    """

    fabric: Mask
    wide: Mask


def worn(maps: Maps, profile: Profile) -> Worn | None:
    """The mask in a segmenter's maps (c, h, w), if the product says that one is worn."""
    found = steady.worn(maps, profile)
    return None if found is None else Worn(clean(maps[0], profile), widen(found, profile))


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
    networks: Networks,
    faces: Sequence[Image],
    masks: Sequence[Mask],
    meshes: Sequence[Points | None],
) -> dict[str, list[Image]]:
    """What `repaint` makes of faces, and the steps of this profile on the way there."""
    kept = {AE: Kept(networks.inpainter)}
    if networks.enhancer is not None:
        kept[SRCNN] = Kept(networks.enhancer)
    steps: dict[str, list[Image]] = {name: [] for name in (*kept, MERGED)}
    watched = replace(networks, inpainter=kept[AE], enhancer=kept.get(SRCNN))  # type: ignore[arg-type]
    for part in batches(zip(faces, masks, meshes, strict=True)):
        pictures, maps, placed = zip(*part, strict=True)
        steps[MERGED] += repaint(pictures, maps, placed, watched)
        for name, network in kept.items():
            steps[name] += network.last
    return steps


def repainted(networks: Networks, crops: Sequence[Crop], maps: Sequence[Mask | None]) -> list[Crop]:
    """The crops with what their map (h, w) covers painted anew; without a map, as they are."""
    both = zip(crops, maps, strict=True)
    masked = (crop if mask is None else replace(crop, mask=mask) for crop, mask in both)
    return [
        crop
        for part in batches(masked)
        for crop in merged(part, pipeline.painted(part, networks), networks.profile)
    ]


@dataclass(frozen=True)
class Seen:
    """A picture as it went through the product.

    crops: one for each face, as cut. maps: the segmenter's. worn: of each face. result: the
    picture with masks painted over. touched: (H, W), where it was.
    """

    name: str
    image: Image
    faces: tuple[Face, ...]
    crops: list[Crop]
    maps: list[Maps]
    worn: list[Worn | None]
    result: Image
    touched: Mask


def see(parts: Parts, pictures: Iterable[tuple[str, Image, tuple[Face, ...]]]) -> Iterator[Seen]:
    """Pictures (name, RGB, the faces in it), each unmasked; their crops share batches."""
    networks, profile = parts.networks, parts.networks.profile
    for chunk in batches(pictures):
        rows = [[cut(i, face, profile.eyes, profile.size) for face in f] for _, i, f in chunk]
        flat = [crop for row in rows for crop in row]
        maps = segment(networks, [crop.image for crop in flat])
        found = [worn(one, profile) for one in maps]
        done = repainted(networks, flat, [None if one is None else one.wide for one in found])
        first = 0
        for (name, image, faces), row in zip(chunk, rows, strict=True):
            these = slice(first, first + len(row))
            first += len(row)
            patches = pasted(done[these], image.shape[:2])
            yield Seen(
                name, image, faces, row, maps[these], found[these],
                laid(image, patches), whole_mask(image.shape[:2], patches),
            )  # fmt: skip
