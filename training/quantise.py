"""Ranges for int8: between which values the tensors of a shipped engine lie, read off crops.

    python -m training.quantise segmenter --photos runs/photos
    python -m training.quantise inpainter

writes `engines/portrait_segmenter.int8.json` and its facts, and says what int8 costs; a CPU that
adds int8 up exactly can tell. Weights need nothing: their ranges follow from themselves.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream_unmask.backends import EngineSpec, open_engine
from stream_unmask.backends.artefacts import engine_path, manifest, sha256
from stream_unmask.backends.engine import in_batches
from stream_unmask.backends.openvino import core
from stream_unmask.backends.openvino_quiet import ov
from stream_unmask.models.appearance import Appearance
from stream_unmask.models.profile import PORTRAIT
from training import portrait, segmenter, synthesis
from training.dataset import Samples, load_faces, shaken
from training.export import ENGINES, LICENCE, SOURCES, commit, write_manifest
from training.inpainter import inside_db, stacked
from training.masks import Array
from training.photos import Photos, RealPhotos

# What only moves values. Where several tensors meet in a Concat they must have one range, or
# OpenVINO leaves the convolution behind it in float.
MOVES = frozenset({"Concat", "DepthToSpace", "Interpolate", "Reshape", "Transpose"})
KEPT = 8192  # values of a tensor that are kept of each crop
SHARES = np.linspace(1, 0.3, 36)  # of the largest value, as the highest level

Range = tuple[float, float]
Predict = Callable[[Array], Array]


@dataclass(frozen=True)
class Recipe:
    """How the ranges of an engine come about.

    floats: weights of convolutions that stay in float. crops(args): what it will see, without end,
    each (c, h, w) in 0..1. score(args): says of a way to run it how good it is.
    """

    spec: EngineSpec
    floats: tuple[str, ...]
    crops: Callable[[argparse.Namespace], Iterator[Array]]
    score: Callable[[argparse.Namespace], Callable[[Predict], str]]


def segmenter_crops(args: argparse.Namespace) -> Iterator[Array]:
    """Dressed and bare faces, and as many real photographs, as the segmenter learns from."""
    parts = [faces.split(False) for faces in load_faces(args.cache, args.data).values()]
    drawn = synthesis.drawn_templates()
    samples = Samples(parts, [0.5, 0.3, 0.2], PORTRAIT, drawn, args.seed, 0.1, 0.45, shaken)
    draw = segmenter.Draw(samples, RealPhotos.load(args.data, args.photos), real=0.5)
    return (draw(index)[0] for index in range(1 << 40))


def segmenter_score(args: argparse.Namespace) -> Callable[[Predict], str]:
    """The mean IoU on our own photographs."""
    photos = Photos.own(args.data, PORTRAIT)

    def score(predict: Predict) -> str:
        ious = photos.ious(lambda faces: list(predict(faces.numpy())[:, 0]))
        return f"mean IoU {ious.mean():.4f}"

    return score


def inpainter_draw(args: argparse.Namespace, validation: bool, *weights: float) -> portrait.Draw:
    """Faces of UTKFace and LFW, masked, framed as in live use."""
    sets = load_faces(args.cache, args.data, ("utkface_200x200", "lfw_deepfunneled"))
    parts = [faces.split(validation) for faces in sets.values()]
    drawn = synthesis.drawn_templates()
    samples = Samples(parts, list(weights), PORTRAIT, drawn, args.seed, 0.05, 0.0)
    appearance = Appearance.load(engine_path("portrait_appearance"))
    return portrait.Draw(samples, appearance, exact=True)


def inpainter_crops(args: argparse.Namespace) -> Iterator[Array]:
    """What the inpainter gets of people that it learns from."""
    draw = inpainter_draw(args, False, 0.5, 0.5)
    return (draw(index)[0] for index in range(1 << 40))


def inpainter_score(args: argparse.Namespace) -> Callable[[Predict], str]:
    """The dB inside the map on 48 people of each set that it does not learn from."""
    sets = {"UTKFace": (1.0, 0.0), "LFW": (0.0, 1.0)}
    batches = {
        name: stacked(inpainter_draw(args, True, *weights), range(48))
        for name, weights in sets.items()
    }

    def score(predict: Predict) -> str:
        said = []
        for name, (given, faces, known) in batches.items():
            painted = torch.from_numpy(predict(given.numpy())).clamp(0, 1)
            maps = (given[:, 3:4] * known)[:, 0]
            said.append(f"{name} {inside_db(painted, faces, maps):.2f} dB")
        return ", ".join(said)

    return score


RECIPES = {
    # The heads give logits and colours, of which 256 levels would be seen; they are small.
    "segmenter": Recipe(
        PORTRAIT.segmenter, ("network.head.weight",), segmenter_crops, segmenter_score
    ),
    "inpainter": Recipe(
        PORTRAIT.inpainter, ("network.refine.0.weight", "network.refine.2.weight"),
        inpainter_crops, inpainter_score,
    ),
}  # fmt: skip


def name_of(output: ov.Output) -> str:
    """A tensor's name in the engine's file."""
    name: str = min(output.get_names())
    return name


def made_in(output: ov.Output) -> set[str]:
    """The names of the tensors whose values an output moves together; its own if it makes them."""
    node = output.get_node()
    if node.get_type_name() not in MOVES:
        return {name_of(output)}
    given = node.input_values()
    parts = given if node.get_type_name() == "Concat" else given[:1]  # others: shapes, axes
    return set(chain.from_iterable(map(made_in, parts)))


def convolved(model: ov.Model, floats: tuple[str, ...]) -> tuple[list[set[str]], list[str]]:
    """Names of the tensors that go into convolutions, those that share a range together, and of
    these convolutions' weights."""
    groups: list[set[str]] = []
    weights = []
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convolution" or name_of(node.input_value(1)) in floats:
            continue
        weights.append(name_of(node.input_value(1)))
        group = made_in(node.input_value(0))
        for other in [other for other in groups if other & group]:
            groups.remove(other)
            group |= other
        groups.append(group)
    return groups, weights


def observed(
    model: ov.Model, names: list[str], crops: Iterator[Array], count: int, seed: int
) -> dict[str, Array]:
    """Values of each tensor that an engine makes, drawn while it sees so many crops."""
    model.add_outputs(names)
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    request = core().compile_model(model, "CPU", config).create_infer_request()
    rng = np.random.default_rng(seed)
    values: dict[str, list[Array]] = {name: [] for name in names}
    for _ in range(count):
        found = request.infer([next(crops)[None]])
        for name in names:
            flat = found[name].ravel()
            values[name].append(flat[rng.integers(flat.size, size=KEPT)])
    return {name: np.concatenate(parts) for name, parts in values.items()}


def best_range(values: Array) -> Range:
    """The lowest and the highest of 256 levels, 0 among them, with the least squared error.

    A few values are large, and small ones are all the coarser the more of those are kept. Low ones
    are kept: what leaky units let pass of them is little.
    """
    low, high = min(float(values.min()), 0.0), float(values.max())
    counts, edges = np.histogram(values, 4096)
    middles = (edges[1:] + edges[:-1]) / 2
    options = [_levels(low, high * share) for share in SHARES]
    errors = [_squared_error(counts, middles, *option) for option in options]
    step, below = options[int(np.argmin(errors))]
    return -below * step, (255 - below) * step


def _levels(low: float, high: float) -> tuple[float, int]:
    """The distance of 256 levels, and how many of them are below 0."""
    step = (high - low) / 255
    return step, round(-low / step)


def _squared_error(
    counts: NDArray[np.int64], values: NDArray[np.float64], step: float, below: int
) -> float:
    rounded = np.rint(values / step).clip(-below, 255 - below) * step
    return float((counts * (rounded - values) ** 2).sum())


def ranges(
    path: Path, floats: tuple[str, ...], crops: Iterator[Array], count: int, seed: int
) -> dict[str, Any]:
    """What the ranges' file of an engine holds: which engine, tensors, weights.

    Inputs lie between 0 and 1, and of what was a picture in bytes nothing is lost.
    """
    model = core().read_model(str(path))
    groups, weights = convolved(model, floats)
    inputs = {name for given in model.inputs for name in given.get_names()}
    names = sorted(set().union(*groups) - inputs)
    values = observed(model, names, crops, count, seed)
    tensors: dict[str, Range] = {}
    for group in groups:
        if group <= inputs:
            found = (0.0, 1.0)
        else:
            found = best_range(np.concatenate([values[name] for name in sorted(group - inputs)]))
        tensors |= {name: found for name in sorted(group)}
    return {"onnx": sha256(path), "tensors": tensors, "weights": weights}


def write(name: str, found: dict[str, Any], recipe: str) -> None:
    """Writes ranges into `engines/`, and their facts into the manifest."""
    path = ENGINES / f"{name}.int8.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    manifest.cache_clear()  # it may have changed in the meantime
    facts = dict(manifest())
    facts[f"{name}_int8"] = {
        "file": path.name, "sha256": sha256(path), "licence": LICENCE,
        "authors": "the stream-unmask developers", "source": SOURCES[name],
        "recipe": recipe, "commit": commit(),
    }  # fmt: skip
    write_manifest(ENGINES / "manifest.toml", facts)
    manifest.cache_clear()


def runner(spec: EngineSpec, precision: str) -> Predict:
    """What an engine makes of faces (n, c, h, w) in a precision."""
    engine = open_engine(spec, "openvino", "cpu", precision=precision)
    return lambda faces: in_batches(engine, faces)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Finds an engine's ranges for int8.")
    parser.add_argument("engine", choices=RECIPES)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/faces"))
    parser.add_argument("--photos", type=Path, default=Path("runs/photos"))
    parser.add_argument("--crops", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    recipe = RECIPES[args.engine]
    name = recipe.spec.name
    found = ranges(engine_path(name), recipe.floats, recipe.crops(args), args.crops, args.seed)
    write(name, found, f"python -m training.quantise {shlex.join(sys.argv[1:])}")
    score = recipe.score(args)
    for precision in ("fp32", "int8"):
        print(f"{precision}: {score(runner(recipe.spec, precision))}")


if __name__ == "__main__":
    main()
