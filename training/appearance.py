"""The appearance model and its recipe: mean and principal components of faces without masks.

    python -m training.appearance --out engines/portrait_appearance.npz

Takes two minutes; no network. What it holds is a mean and directions, no picture of anyone.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, Delaunay

from stream_unmask.faces.geometry import apply, similarity
from stream_unmask.faces.landmarks import anchors, turned
from stream_unmask.models.appearance import SCALE, Appearance, Correction, Floats, scaled
from stream_unmask.models.profile import PORTRAIT
from stream_unmask.types import Points
from training.dataset import FaceSet, load_faces
from training.portrait import TURNED, closed

NOSE_TIP = 4
KNOWN = 0.97  # share of a face that its picture must show


def spread(shape: Points, count: int) -> NDArray[np.int16]:
    """Vertices of a mesh, each as far as can be from those before, its outline first."""
    chosen = list(ConvexHull(shape).vertices)
    while len(chosen) < count:
        away = np.linalg.norm(shape[:, None] - shape[chosen], axis=2).min(1)
        chosen.append(int(away.argmax()))
    return np.array(sorted(chosen), np.int16)


def triangulated(shape: Points, nose: Points) -> NDArray[np.int16]:
    """Triangles (t, 3) of a mesh, turned to the front, those by the nose, which stands out in
    front of cheeks, last."""
    found = Delaunay(shape).simplices  # all turned to the same side
    far = np.linalg.norm(shape[found].mean(1) - nose, axis=1)
    return np.asarray(found[np.argsort(-far)], np.int16)


def main() -> None:
    parser = argparse.ArgumentParser(description="Learns what faces look like.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="zip files")
    parser.add_argument("--cache", type=Path, default=Path("runs/faces"), help="training.dataset's")
    parser.add_argument("--out", type=Path, default=Path("runs/appearance.npz"))
    parser.add_argument("--faces", type=int, default=5000, help="of each set")
    parser.add_argument("--components", type=int, default=60)
    parser.add_argument("--vertices", type=int, default=160, help="of the mesh's 468 that are used")
    parser.add_argument("--directions", type=int, default=12, help="by which meshes are corrected")
    parser.add_argument("--sets", nargs="+", default=["utkface_200x200", "lfw_deepfunneled"])
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    sets = load_faces(args.cache, args.data, tuple(args.sets))
    chosen = [
        (faces, index)
        for name in args.sets
        for faces in [sets[name].split(False)]
        for index in _chosen(faces, args.faces, args.seed)
    ]
    placed = np.stack([faces.crop(i, PORTRAIT.eyes, PORTRAIT.size).mesh for faces, i in chosen])
    mesh = scaled(placed).mean(0)
    mesh += 1 - np.floor(mesh.min(0))
    vertices = spread(mesh, args.vertices)
    shape = mesh[vertices]
    triangles = triangulated(shape, mesh[NOSE_TIP])
    correction = corrected([faces.split(False) for faces in sets.values()], args.directions)
    empty = Appearance(
        vertices, shape, triangles, np.zeros((1, 3), np.float32), np.zeros((1, 1, 3), np.float32),
        np.ones(1, np.float32), correction,
    )  # fmt: skip
    textures = np.stack([t for t in _textures(empty, chosen) if t is not None])
    mean = textures.mean(0)
    off = torch.from_numpy(textures - mean).flatten(1)
    _, sizes, directions = torch.svd_lowrank(off, args.components + 10, niter=4)
    components = directions.T[: args.components].numpy().reshape(-1, *mean.shape)
    scales = np.abs(components).max((1, 2)) / 127
    np.savez_compressed(
        args.out,
        vertices=vertices, shape=shape, triangles=triangles, mean=mean.astype(np.float16),
        components=np.rint(components / scales[:, None, None]).astype(np.int8),
        scales=scales.astype(np.float32),
        deviations=(sizes[: args.components] / len(off) ** 0.5).numpy(),
        mesh_mean=correction.mean, mesh_directions=correction.directions.astype(np.float16),
        mesh_offsets=correction.offsets.astype(np.float16),
    )  # fmt: skip
    kept = float((sizes[: args.components] ** 2).sum() / (off**2).sum())
    print(f"{len(off)} faces, {mean.shape[0]} texels, {kept:.3f} of the variance")
    for name, faces in sets.items():
        print(f"{name}: landmarks under a mask are off by {_off(faces.split(True), correction)}")


def corrected(sets: list[FaceSet], count: int) -> Correction:
    """The correction of meshes that were found with a mask on, by so many directions."""
    worn, true = (np.concatenate(part) for part in zip(*map(_held, sets), strict=True))
    mean = worn.mean(0)
    _, sizes, directions = np.linalg.svd(worn - mean, full_matrices=False)
    scaled_directions = directions[:count].T / (sizes[:count] / len(worn) ** 0.5)
    scores = np.column_stack([(worn - mean) @ scaled_directions, np.ones(len(worn))])
    offsets = np.linalg.lstsq(scores, true - worn)[0]
    return Correction(*(np.asarray(a, np.float32) for a in (mean, scaled_directions, offsets)))


def _held(faces: FaceSet) -> tuple[Floats, Floats]:
    """Meshes (n, 936) found with a mask on, and the true ones, in the crop that the former hold, of
    faces that look ahead."""
    ahead = [i for i, mesh in enumerate(faces.meshes) if turned(mesh) < TURNED]
    holds = [similarity(anchors(faces.worn[i]), PORTRAIT.eyes) for i in ahead]
    worn, true = (
        np.stack([apply(hold, meshes[i]).reshape(-1) for hold, i in zip(holds, ahead, strict=True)])
        for meshes in (faces.worn, faces.meshes)
    )
    return worn, true


def _off(faces: FaceSet, correction: Correction) -> str:
    worn, true = _held(faces)
    hidden = np.ones(PORTRAIT.size[::-1], np.float32)
    after = np.stack([correction(mesh.reshape(-1, 2), hidden).reshape(-1) for mesh in worn])
    before, after = (((meshes - true) ** 2).mean() ** 0.5 for meshes in (worn, after))
    return f"{before:.2f} px before and {after:.2f} px after correction"


def _chosen(faces: FaceSet, most: int, seed: int) -> list[int]:
    """Faces that look ahead with closed mouths."""
    order = np.random.default_rng(seed).permutation(len(faces.names))
    ahead = (i for i in order if turned(faces.meshes[i]) < TURNED and closed(faces.meshes[i]))
    return [int(i) for _, i in zip(range(most), ahead, strict=False)]


def _textures(empty: Appearance, chosen: list[tuple[FaceSet, int]]) -> Iterator[Floats | None]:
    """The texture (n, 3), 0..1, of each face; None where its picture ends before it does."""
    for faces, index in chosen:
        crop, known = faces.cropped(index, PORTRAIT.eyes, PORTRAIT.size)
        assert crop.mesh is not None
        picture = np.dstack([crop.image.astype(np.float32) / 255, known])
        size = tuple(round(side * SCALE) for side in PORTRAIT.size)
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        texture = empty.texture(small, scaled(crop.mesh))
        yield texture[:, :3] if texture[:, 3].mean() > KNOWN else None


if __name__ == "__main__":
    main()
