"""Turns trained weights into engines: ONNX files with half-precision weights, and their facts.

    python -m training.export --portrait-segmenter runs/segmenter --portrait-inpainter runs/portrait

A file is written only after ONNX Runtime gave what torch gives; `engines/manifest.toml` gets its
checksum, recipe, commit and score. A run that scored worse than the shipped engine is refused.
"""

import argparse
import json
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from stream_unmask.backends.artefacts import sha256
from stream_unmask.backends.engine import EngineSpec
from stream_unmask.models.profile import PAPER, PORTRAIT
from training import enhancer, inpainter, portrait, segmenter
from training.fit import load_best

ENGINES = Path(__file__).parents[1] / "engines"
SOURCES = {
    "portrait_appearance": "UTKFace, LFW",
    "portrait_segmenter": "LFW, UTKFace, CelebA; photographs of masked people",
    "portrait_inpainter": "UTKFace, LFW",
    "paper_segmenter": "LFW, UTKFace, CelebA; photographs of masked people",
    "paper_inpainter": "LFW, UTKFace, CelebA",
    "paper_enhancer": "LFW",
}
LICENCE = "research and personal use"  # why: docs/models.md
OPSET = 18


def networks() -> dict[str, tuple[EngineSpec, nn.Module, nn.Module]]:
    """By engine: its contract, the network that was trained, and the module that is exported."""
    finds = {profile: segmenter.build(profile) for profile in (PORTRAIT, PAPER)}
    paints = {PORTRAIT: portrait.build(), PAPER: inpainter.Autoencoder()}
    table: list[tuple[EngineSpec, nn.Module, nn.Module]] = [
        (p.segmenter, net, segmenter.Exported(net, p)) for p, net in finds.items()
    ]
    table += [(p.inpainter, net, net) for p, net in paints.items()]
    if PAPER.enhancer is not None:
        srcnn = enhancer.Srcnn()
        table.append((PAPER.enhancer, srcnn, srcnn))
    return {spec.name: (spec, trained, exported) for spec, trained, exported in table}


def export(module: nn.Module, spec: EngineSpec, path: Path) -> float:
    """The largest difference between torch and the ONNX file at `path`, which is written.

    ValueError if they differ by more than half-precision weights explain.
    """
    tensor = spec.inputs[0]
    shape = [2 if side is None else side for side in tensor.shape]
    sample = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    # Both sides get weights that the file can hold, so that what is compared is the graph.
    module = module.half().float().eval()
    program = torch.onnx.export(
        module, (sample,), input_names=[tensor.name], output_names=[spec.outputs[0].name],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1024)},), opset_version=OPSET,
        dynamo=True, verbose=False,
    )  # fmt: skip
    assert program is not None
    model = program.model_proto
    _halve(model)
    onnx.checker.check_model(model)
    part = path.with_suffix(".part")
    part.write_bytes(model.SerializeToString())
    with torch.no_grad():
        wanted = module(sample).numpy()
    got = onnxruntime.InferenceSession(part.read_bytes()).run(None, {tensor.name: sample.numpy()})
    worst = float(np.abs(got[0] - wanted).max())
    if got[0].shape != wanted.shape or worst > 2e-3:
        part.unlink()
        raise ValueError(f"{path.name} gives other results than torch (by {worst})")
    part.replace(path)
    return worst


def _halve(model: onnx.ModelProto) -> None:
    """Stores the weights in half precision; a Cast, folded at load time, brings them back."""
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != TensorProto.FLOAT or len(weight.dims) == 0:
            continue
        values = numpy_helper.to_array(weight)
        name = weight.name
        stored = numpy_helper.from_array(values.astype(np.float16), f"{name}.half")
        weight.CopyFrom(stored)
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    for part in (*nodes, *model.graph.input, *model.graph.output, model.graph):
        del part.metadata_props[:]  # where each node was written, on this machine
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    del model.graph.value_info[:]
    del model.metadata_props[:]


def write_manifest(path: Path, facts: dict[str, dict[str, Any]]) -> None:
    """Writes the facts on all engines, as TOML."""
    lines = [
        "# Facts on every engine in this folder. `sha256` is checked before an engine is loaded.",
        "# recipe: the command that makes the file again.",
    ]
    for name, table in facts.items():
        lines += ["", f"[{name}]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def commit() -> str:
    """The commit that is checked out."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description="Exports trained networks as engines.")
    for name in networks():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=Path, help="run folder with best.pt"
        )
    parser.add_argument(
        "--recipe", required=True, help="the commands that trained it, for the record"
    )
    parser.add_argument("--even-if-worse", action="store_true", help="another score, another scale")
    parser.add_argument("--portrait-appearance", type=Path, help="training.appearance's file")
    args = parser.parse_args()
    manifest = ENGINES / "manifest.toml"
    facts = tomllib.loads(manifest.read_text(encoding="utf-8"))
    about = {"licence": LICENCE, "authors": "the stream-unmask developers"}
    if args.portrait_appearance is not None:
        name = "portrait_appearance"
        path = ENGINES / f"{name}.npz"
        shutil.copyfile(args.portrait_appearance, path)
        facts[name] = {
            "file": path.name, "sha256": sha256(path), **about, "source": SOURCES[name],
            "recipe": args.recipe, "commit": commit(),
        }  # fmt: skip
        write_manifest(manifest, facts)
    for name, (spec, network, module) in networks().items():
        run: Path | None = getattr(args, name)
        if run is None:
            continue
        best = json.loads((run / "best.json").read_text(encoding="utf-8"))
        shipped = facts.get(name, {}).get("score", -np.inf)
        if best["score"] < shipped and not args.even_if_worse:
            raise SystemExit(f"{run} scored {best['score']:.4f}, the shipped {name} {shipped:.4f}")
        load_best(network, run)
        if isinstance(network, portrait.Painter):
            network.calm()
        path = ENGINES / f"{name}.onnx"
        worst = export(module, spec, path)
        facts[name] = {
            "file": path.name, "sha256": sha256(path), **about, "source": SOURCES[name],
            "recipe": args.recipe, "commit": commit(),
            "score": round(best["score"], 4), "step": best["step"], "minutes": best["minutes"],
        }  # fmt: skip
        write_manifest(manifest, facts)
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, differs from torch by {worst:.1e}")


if __name__ == "__main__":
    main()
