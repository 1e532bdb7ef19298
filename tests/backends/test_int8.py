"""int8 on OpenVINO: what it computes in, where it does, and what stays as it is.

Where a CPU can't, the tests that need it are skipped; what is refused there is tested everywhere.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_unmask import Options
from stream_unmask.backends import Engine, artefacts, open_engine
from stream_unmask.backends import openvino as module
from stream_unmask.backends.openvino_int8 import rounded, shipped_ranges
from stream_unmask.backends.openvino_quiet import ov
from stream_unmask.cli.info import info
from stream_unmask.errors import BackendError
from stream_unmask.faces.crop import cut
from stream_unmask.faces.landmarks import FACE_LANDMARK
from stream_unmask.models.profile import PAPER, PORTRAIT
from stream_unmask.models.tensors import from_images
from stream_unmask.pipeline import open_parts

SEGMENTER = PORTRAIT.segmenter
ISAS = {"AVX2": False, "AVX512_CORE": False, "AVX512_CORE_VNNI": True}  # whether VNNI is among it


@pytest.fixture
def exact() -> None:
    if not module._int8_is_exact():
        pytest.skip("this CPU adds int8 up in 16 bits")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, the test's own."""
    monkeypatch.setattr(artefacts, "user_cache_path", lambda name: tmp_path / name)
    return tmp_path / "stream-unmask" / "openvino"


def opened(precision: str = "auto") -> Engine:
    return open_engine(SEGMENTER, "openvino", "cpu", precision=precision)


@pytest.fixture(scope="module")
def crop(masked_picture: np.ndarray) -> np.ndarray:
    """A masked face as the segmenter gets it (1, 3, h, w): the astronaut."""
    with open_parts(Options(backend="openvino")) as parts:
        face, *_ = parts.landmarker(masked_picture, parts.detector(masked_picture))
    return from_images([cut(masked_picture, face, PORTRAIT.eyes, PORTRAIT.size).image])


def share(found: np.ndarray, true: np.ndarray) -> float:
    """The IoU of two maps."""
    return float(((found > 0.5) & (true > 0.5)).sum() / ((found > 0.5) | (true > 0.5)).sum())


@pytest.mark.usefixtures("exact")
def test_its_maps_are_nearly_those_of_fp32(crop: np.ndarray) -> None:
    engines = [opened("fp32"), opened("int8")]
    assert [engine.device for engine in engines] == ["openvino CPU f32", "openvino CPU int8"]
    true, found = (engine(crop)[0] for engine in engines)
    fabric, straps = (share(found[:, each], true[:, each]) for each in (0, 1))
    assert fabric > 0.99
    assert straps > 0.9
    assert np.abs(found - true).max() > 1e-3  # and yet another computation


@pytest.mark.usefixtures("exact")
def test_convolutions_run_in_int8() -> None:
    """All but the one that makes the maps."""
    path = artefacts.engine_path(SEGMENTER.name)
    ranges = shipped_ranges(SEGMENTER.name, path)
    assert ranges is not None
    model = rounded(module.core().read_model(str(path)), ranges)
    compiled = module.core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    run = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    kinds = [
        facts["runtimePrecision"].astype(str)
        for facts in run
        if facts["layerType"].astype(str) == "Convolution"
    ]
    assert len(kinds) == 34
    assert kinds.count("u8") == len(ranges.weights) == 33


@pytest.mark.usefixtures("exact")
def test_what_was_compiled_is_kept_for_each_precision(folder: Path, crop: np.ndarray) -> None:
    cold = {each: opened(each)(crop)[0] for each in ("fp32", "int8")}
    assert len(list(folder.glob("*/*.blob"))) == len(list(folder.iterdir())) == 2
    for each in ("int8", "fp32"):
        assert np.array_equal(opened(each)(crop)[0], cold[each])


@pytest.mark.usefixtures("exact")
def test_a_run_says_it_and_what_must_be_exact_is_not(example: Path) -> None:
    with open_parts(Options(backend="openvino", precision="int8")) as parts:
        assert parts.backend == "openvino CPU int8"
    landmarker = open_engine(FACE_LANDMARK, "openvino", precision="int8")
    assert landmarker.device == "openvino CPU f32"


@pytest.mark.usefixtures("exact")
def test_an_engine_without_ranges_runs_as_it_would_without_a_wish() -> None:
    engine, usual = (
        open_engine(PAPER.segmenter, "openvino", precision=each) for each in ("int8", "auto")
    )
    assert engine.device == usual.device != "openvino CPU int8"


class Pretended:
    """OpenVINO's core on a CPU that would take some precision, and can do with others."""

    def __init__(self, core: Any, usual: str) -> None:
        self._core, self._usual = core, usual

    def get_property(self, device: str, name: str) -> Any:
        hint = name == "INFERENCE_PRECISION_HINT"
        return getattr(ov.Type, self._usual) if hint else ["FP32", "INT8"]

    def compile_model(self, model: Any, device: str, config: dict[str, str]) -> Any:
        config = {"INFERENCE_PRECISION_HINT": self._usual, **config}
        return self._core.compile_model(model, device, config)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bool], None]:
    """Takes another CPU: what OpenVINO would choose on it, and whether it sums int8 exactly."""
    real = module.core()

    def pretend(usual: str, exact: bool) -> None:
        monkeypatch.setattr(module, "core", lambda: Pretended(real, usual))
        monkeypatch.setattr(module, "_int8_is_exact", lambda: exact)

    return pretend


@pytest.mark.parametrize(
    ("usual", "exact", "precision"),
    [("f32", True, "int8"), ("f32", False, "f32"), ("bf16", True, "bf16")],
)
def test_if_nobody_says_it_takes_the_place_of_fp32_alone(
    cpu: Callable[[str, bool], None], capsys: pytest.CaptureFixture[str],
    usual: str, exact: bool, precision: str,
) -> None:  # fmt: skip
    if usual not in ("f32", module._usual_on_cpu()):
        pytest.skip(f"this CPU does not compute in {usual}")
    cpu(usual, exact)
    assert opened().device == f"openvino CPU {precision}"
    info()
    assert f"CPU {precision}" in capsys.readouterr().out


def test_what_a_device_can_not_do_is_refused(cpu: Callable[[str, bool], None]) -> None:
    cpu("f32", False)
    for precision, reason in (("int8", "in 16 bits, which overflow"), ("bf16", "not .* in bf16")):
        with pytest.raises(BackendError, match=reason):
            opened(precision)
    with pytest.raises(BackendError, match="int8 on CPUs alone"):
        open_engine(SEGMENTER, "openvino", "gpu", precision="int8")


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="another kind of CPU")
@pytest.mark.parametrize("isa", ISAS)
def test_a_cpu_without_vnni_is_told_by_its_sums(isa: str) -> None:
    """oneDNN, which computes for OpenVINO, can be kept from using what newer CPUs have."""
    script = "from stream_unmask.backends.openvino import _int8_is_exact; print(_int8_is_exact())"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": isa},
    )  # fmt: skip
    assert done.stdout.strip() == str(ISAS[isa] and module._int8_is_exact())


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An engines folder of the test's own: one engine, with its ranges."""
    (tmp_path / "tiny.onnx").write_bytes(b"weights")
    facts = {
        "onnx": artefacts.sha256(tmp_path / "tiny.onnx"), "tensors": {"a": [-1, 2]},
        "weights": ["b"],
    }  # fmt: skip
    (tmp_path / "tiny.int8.json").write_text(json.dumps(facts))
    files = {"tiny": "tiny.onnx", "tiny_int8": "tiny.int8.json"}
    tables = [
        f'[{name}]\nfile = "{file}"\nsha256 = "{artefacts.sha256(tmp_path / file)}"'
        for name, file in files.items()
    ]
    (tmp_path / "manifest.toml").write_text("\n".join(tables))
    monkeypatch.setattr(artefacts, "_FOLDERS", (tmp_path,))
    artefacts.manifest.cache_clear()
    yield tmp_path
    artefacts.manifest.cache_clear()


def test_ranges_are_of_one_file(engines: Path) -> None:
    path = engines / "tiny.onnx"
    found = shipped_ranges("tiny", path)
    assert found is not None
    assert (found.tensors, found.weights) == ({"a": (-1, 2)}, ("b",))
    path.write_bytes(b"trained on")
    assert shipped_ranges("tiny", path) is None
    assert shipped_ranges("another", path) is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.write_text(file.read_text() + " "), "is not the one that was shipped"),
        (lambda file: file.unlink(), "is missing"),
    ],
    ids=["altered", "missing"],
)
def test_any_other_file_of_ranges_is_refused(
    engines: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(engines / "tiny.int8.json")
    with pytest.raises(BackendError, match=f"tiny.int8.json {message}"):
        shipped_ranges("tiny", engines / "tiny.onnx")


def test_all_shipped_ranges_are_of_the_engines_as_they_are_shipped() -> None:
    """Or int8 would quietly be fp32: `python -m training.quantise` finds them anew."""
    names = [name.removesuffix("_int8") for name in artefacts.manifest() if name.endswith("_int8")]
    assert SEGMENTER.name in names
    for name in names:
        assert shipped_ranges(name, artefacts.engine_path(name)) is not None, name
