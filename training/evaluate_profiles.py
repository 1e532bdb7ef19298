"""Evaluation of profiles against each other: the same people, masks and pictures for all of them.

Profiles crop differently, so that figures of their crops say nothing about which is better. Here
each cuts its own crop from one picture and pastes it back, and the pictures are compared.
"""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stream_unmask.backends.function import FunctionEngine
from stream_unmask.faces.crop import cut
from stream_unmask.faces.landmarks import anchors
from stream_unmask.models.inpainter import Inpainter
from stream_unmask.models.profile import PORTRAIT, Profile
from stream_unmask.models.tensors import from_images
from stream_unmask.pipeline import laid, pasted, whole_mask
from stream_unmask.types import Crop, Face, Image, Mask
from stream_unmask.unmask import Networks, widen
from training import attributes, fit, metrics, portrait, sheets
from training.attributes import CHECK_WIDTHS, Attributes
from training.dataset import FaceSet, Samples
from training.evaluate_pairs import ON_SHEETS, SPLITS, Pair, baselines, dressed, true
from training.metrics import Row
from training.product import SEED, UTKFACE, Bench, repainted, segment, worn

PARTS = ("profiles", "attributes")
COUNT = 150
TRUE_MAP = ", true map"
BEFORE = "portrait without critic"


@dataclass(frozen=True)
class Picture:
    """A dressed face in the portrait crop, which for the ways is a picture like any other.

    index: of the face in its set.
    """

    index: int
    pair: Pair

    @property
    def face(self) -> Face:
        """The face as the product finds it: its mesh is that of the masked one."""
        mesh = self.pair.mesh
        assert mesh is not None
        held = anchors(mesh)
        return Face((0, 0, 1, 1), held, 1.0, mesh, held)

    @property
    def where(self) -> Mask:
        """The true map (h, w) as far as the photograph goes."""
        assert self.pair.known is not None
        return self.pair.mask * (self.pair.known > 0.5)


@dataclass(frozen=True)
class Way:
    """What a way makes of pictures; bare: those that it left as they are, finding no mask."""

    results: list[Image]
    bare: list[bool] | None = None


def order(faces: FaceSet) -> list[int]:
    """The numbers of a set's faces in an order of chance; of UTKFace those with labels."""
    known = [index for index, _ in attributes.labelled(faces)] or range(len(faces.names))
    return [int(index) for index in np.random.default_rng(SEED).permutation(known)]


def draw(faces: FaceSet, indices: Sequence[int]) -> Iterator[Picture]:
    """Faces in wide masks; each always wears the same one."""
    samples = Samples([faces], [1.0], PORTRAIT, [], SEED, paper=0, bare=0)
    for index in indices:
        pair = dressed(samples, index, np.random.default_rng((SEED, index)))
        assert pair is not None  # only the paper's overlays may not fit
        yield Picture(index, pair)


def found(networks: Networks, pictures: Sequence[Picture]) -> tuple[list[Crop], list[Mask | None]]:
    """Each picture's crop for these networks, and the map to repaint by, if a mask is found."""
    profile = networks.profile
    crops = [cut(p.pair.masked, p.face, profile.eyes, profile.size) for p in pictures]
    maps = segment(networks, [crop.image for crop in crops])
    return crops, [None if (one := worn(m, profile)) is None else one.wide for m in maps]


def repaint(
    networks: Networks,
    pictures: Sequence[Picture],
    crops: Sequence[Crop],
    maps: Sequence[Mask | None],
) -> list[Image]:
    """The pictures with their crops repainted by the maps and pasted back."""
    done = repainted(networks, crops, maps)
    return [
        laid(p.pair.masked, pasted([crop], p.pair.mask.shape))
        for p, crop in zip(pictures, done, strict=True)
    ]


def _true_map(picture: Picture, crop: Crop, profile: Profile) -> Mask:
    """The true map of fabric and straps in a crop of the picture, widened as the product does."""
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
    hidden = picture.pair.hidden(PORTRAIT)
    there = cv2.warpAffine(hidden, crop.to_frame, profile.size, flags=flags)
    return widen((there > 0.5).astype(np.float32), profile)


def ways(bench: Bench, pictures: Sequence[Picture]) -> dict[str, Way]:
    """What baselines and networks make of pictures, by their own maps and by the true ones."""
    seen, found_ways, true_ways = {}, {}, {}
    for name, networks in bench.networks.items():
        profile = networks.profile
        if profile.name not in seen:  # those that share a profile share its segmenter
            seen[profile.name] = found(networks, pictures)
        crops, maps = seen[profile.name]
        results = repaint(networks, pictures, crops, maps)
        found_ways[name] = Way(results, [one is None for one in maps])
        certain = [_true_map(p, c, profile) for p, c in zip(pictures, crops, strict=True)]
        true_ways[name + TRUE_MAP] = Way(repaint(networks, pictures, crops, certain))
    plain = _baselines(pictures, *seen[PORTRAIT.name])
    return plain | found_ways | true_ways


def _baselines(
    pictures: Sequence[Picture], crops: Sequence[Crop], maps: Sequence[Mask | None]
) -> dict[str, Way]:
    """The baselines, by the portrait's maps in the pixels of the pictures."""
    whole = []
    for picture, crop, mask in zip(pictures, crops, maps, strict=True):
        shape = picture.pair.mask.shape
        laid_on = [Crop(crop.image, crop.to_frame, mask=mask)]
        whole.append(whole_mask(shape, pasted(laid_on, shape)))
    made = baselines([p.pair.masked for p in pictures], whole, PORTRAIT)
    bare = [mask is None for mask in maps]
    return {
        name: Way(results, None if name == "do nothing" else bare) for name, results in made.items()
    }


def compared(bench: Bench) -> None:
    """The tables of profiles and attributes, and sheets of validation faces."""
    check = _check(bench) if "attributes" in bench.wanted else None
    for name, faces in bench.sets.items():
        for validation, split in SPLITS.items():
            part = faces.split(validation)
            pictures = list(draw(part, order(part)[: bench.count(COUNT)]))
            made = ways(bench, pictures)
            about: Row = {"split": split, "n": len(pictures)}
            if "profiles" in bench.wanted:
                _figures(bench, {"faces": name}, about, pictures, made)
                if validation:
                    _sheet(bench, f"profiles_{name.split('_')[0]}", part, pictures, made)
            if check is not None and name == UTKFACE:
                bench.add("attributes", _T, _T_NOTE, _told(check, about, part, pictures, made))
    for name, keys in (("profiles", ("faces", "way")), ("attributes", ("way",))):
        if name in bench.tables:
            bench.tables[name].group(*keys)


_P = "B to D. Profiles compared, same people, same masks"
_P_NOTE = (
    "Wide masks, dressed in a portrait crop of the photograph, which is then the picture that"
    " every way is given, with the mesh that the landmarker places on a masked face: a profile"
    " cuts its own crop from it (the paper's reaches beyond it, where the border is repeated),"
    " and the picture with that pasted back is compared. Inside: under the true map of the"
    " fabric, as far as the photograph goes. A face called bare counts as left as it is; by all"
    " found: over the faces that no profile calls bare. Baselines repaint by the portrait's map."
    " True map: that of fabric and straps, widened, in place of the one found. Gradient energy:"
    " of the result, in that of the true face, well inside. Skin: CIEDE2000 between mask area and"
    " cheeks, then the true face's own, and the mean of how far they are apart face by face."
    " Seam, remnant: as above."
)


def _figures(
    bench: Bench, faces: Row, about: Row, pictures: Sequence[Picture], made: dict[str, Way]
) -> None:
    """Adds a row for each way to the table of profiles."""
    calls = [made[name].bare for name in bench.networks]
    sure = [not any(of) for of in zip(*(call for call in calls if call is not None), strict=True)]
    for name, way in made.items():
        row = faces | {"way": name} | about | _row(way, pictures, sure)
        bench.add("profiles", _P, _P_NOTE, [row])


def _row(way: Way, pictures: Sequence[Picture], sure: Sequence[bool]) -> Row:
    def one(picture: Picture, result: Image) -> dict[str, float]:
        pair = picture.pair
        left = metrics.remnant(result, pair.masked, picture.where > 0.5)
        figures = metrics.quality(result, true(pair), pair.mask, PORTRAIT, pair.known)
        return figures | {"remnant": left}

    with ThreadPoolExecutor() as pool:
        each = list(pool.map(one, pictures, way.results))
    m = metrics.pooled(each)
    both = [figures for figures, found_by_all in zip(each, sure, strict=True) if found_by_all]
    return {
        "dB inside": m["psnr_in"],
        "dB inside, by all found": metrics.pooled(both)["psnr_in"] if both else None,
        "SSIM inside": m["ssim_in"], "L1 inside": m["l1_in"],
        "gradient energy": _energy(way.results, pictures), "seam": m["seam"],
        "skin": m["skin"], "skin, true": m["skin_true"], "skin, apart": m["skin_off"],
        "remnant": m["remnant"], "called bare": None if way.bare is None else sum(way.bare),
    }  # fmt: skip


def _energy(results: Sequence[Image], pictures: Sequence[Picture]) -> float:
    made, truth = (
        np.stack(images) * np.float32(1 / 255)
        for images in (results, [true(p.pair) for p in pictures])
    )
    return metrics.energy_ratio(made, truth, np.stack([p.where for p in pictures]) > 0.99)


def _sheet(
    bench: Bench, name: str, faces: FaceSet, pictures: Sequence[Picture], made: dict[str, Way]
) -> None:
    """What was given, what each of the networks makes of it, and the true face."""
    shown = [made[way].results for way in bench.networks]
    entries = [
        sheets.Entry(
            f"{', '.join(bench.networks)}: {Path(faces.names[p.index]).stem}",
            [p.pair.masked, *(results[i] for results in shown), true(p.pair)],
        )
        for i, p in enumerate(pictures[:ON_SHEETS])
    ]
    sheets.write(bench.out, name, entries)


_T = "B. Attributes that a network tells (UTKFace)"
_T_NOTE = (
    "Shares of faces of which `training.attributes` (the network for checking, which took no part"
    " in training the inpainter) tells the same sex and the same of five age groups: in the"
    " result as in the true face, and, first, in the true face as its label has it. The pictures"
    " are those of the profiles compared."
)


def _check(bench: Bench) -> Attributes | None:
    """The network that tells attributes, if it was trained."""
    if bench.check is None or not (bench.check / "best.pt").is_file():
        note = f"Skipped: there is no best.pt in {bench.check} (training.attributes --check)."
        print(f"attributes: {note}", file=sys.stderr)
        bench.add("attributes", _T, note, [])
        return None
    network = Attributes(CHECK_WIDTHS)
    fit.load_best(network, bench.check)
    return network.eval()


def _told(
    check: Attributes,
    about: Row,
    faces: FaceSet,
    pictures: Sequence[Picture],
    made: dict[str, Way],
) -> list[Row]:
    """How often sex and age group are told alike: of truth and label, then of results and truth."""
    labels = np.array([attributes.label(faces.names[p.index])[:2] for p in pictures])
    truth = tell(check, [true(p.pair) for p in pictures])
    pairs = {"the true face": ("its label", truth, labels)}
    pairs |= {
        name: ("the true face", tell(check, way.results), truth) for name, way in made.items()
    }
    rows: list[Row] = []
    for name, (other, first, second) in pairs.items():
        same = (first == second).mean(0)
        row: Row = {"way": name, "as": other} | about
        rows.append(row | {"sex": float(same[0]), "age group": float(same[1])})
    return rows


def tell(check: Attributes, images: Sequence[Image]) -> NDArray[np.int64]:
    """Sex and age group (n, 2) that the network tells of faces in the portrait crop."""
    parts = []
    for first in range(0, len(images), 32):
        stack = from_images(images[first : first + 32])
        with torch.no_grad(), fit.autocast():
            parts.append(check(torch.from_numpy(stack)).float())
    return np.stack([part.numpy() for part in attributes.told(torch.cat(parts))], 1)


def without_critic(run: Path, networks: Networks) -> Networks:
    """The portrait's networks with the inpainter that a run of `training.portrait` left."""
    painter = fit.load_best(portrait.build(), run)

    def paint(given: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad(), fit.autocast():  # bf16, as the engines are run where a CPU has it
            made: NDArray[np.float32] = painter(torch.from_numpy(given)).float().numpy()
        return made

    engine = FunctionEngine(networks.profile.inpainter, paint)
    inpainter = Inpainter(engine, networks.inpainter.appearance)
    return Networks(networks.profile, networks.segmenter, inpainter)
