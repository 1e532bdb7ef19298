import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from stream_unmask import Options, unmask_image
from stream_unmask.pipeline import open_parts
from stream_unmask.types import Image

pytest.importorskip("skimage")
pytest.importorskip("torch")

from benchmarks import references
from benchmarks.clips import make_clip


def pictures(path: Path) -> list[Image]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("faces", [0, 1, 4])
def test_a_made_clip_has_so_many_masked_faces(tmp_path: Path, faces: int) -> None:
    make_clip(tmp_path / "clip.mp4", 720, faces, 0.1)
    first, *others = pictures(tmp_path / "clip.mp4")
    assert len(others) == 2
    assert first.shape == (720, 1280, 3)
    assert (first != others[-1]).any()
    assert unmask_image(first).masked == faces


def test_torch_gives_what_the_product_gives(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", 360, 1, 0.05)
    (image, *_) = pictures(tmp_path / "clip.mp4")
    with references.torch_parts() as eager, open_parts(Options()) as parts:
        one, other = (unmask_image(image, parts=each) for each in (eager, parts))
        seconds = references.naive(tmp_path / "clip.mp4", tmp_path / "naive.mp4", eager)
    assert eager.backend == "torch eager"
    inside = one.mask > 0.5
    assert inside.sum() > 500
    assert np.abs(one.image.astype(int) - other.image)[inside].mean() < 2  # of 255: bf16
    assert seconds > 0
    assert len(pictures(tmp_path / "naive.mp4")) == len(pictures(tmp_path / "clip.mp4"))


def test_precisions_are_timed_side_by_side() -> None:
    given = "--precisions fp32 auto --rounds 2 --engine portrait_inpainter"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.precision", *given.split()],
        check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    title, first, second = done.stdout.splitlines()
    assert title.startswith("portrait_inpainter, 1 at once")
    assert first.startswith("openvino CPU f32")
    assert first.endswith("1.0 and 1.0 times as fast")
    assert "times as fast" in second


def test_the_command_writes_figures_and_a_chart(tmp_path: Path) -> None:
    given = "--heights 360 --faces 1 --seconds 0.3 --rounds 1 --ways copy unsteady"
    written = ["--json", str(tmp_path / "fps.json"), "--chart", str(tmp_path / "fps.png")]
    command = [sys.executable, "-m", "benchmarks.fps", *given.split(), *written]
    root = Path(__file__).parents[1]
    subprocess.run(command, check=True, capture_output=True, cwd=root)
    found = json.loads((tmp_path / "fps.json").read_text())
    (clip,) = found["clips"]
    assert clip["frames"] == 9
    assert clip["masked_faces"] == 1
    assert set(clip["fps"]) == {"product", "copy", "unsteady"}
    assert all(fps > 0 for fps in clip["fps"].values())
    for stage, mean in clip["ms"].items():
        spread = clip["ms_quantiles"][stage]
        assert 0 <= spread["p50"] <= spread["p95"] <= 1.01 * 9 * mean  # as no frame takes more
    assert clip["ratio"]["copy"] == pytest.approx(clip["fps"]["product"] / clip["fps"]["copy"])
    assert found["start"]["warm"] > 0
    assert (tmp_path / "fps.png").read_bytes().startswith(b"\x89PNG")
