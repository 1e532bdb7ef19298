"""No engine file is loaded that is not the one that was shipped."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream_unmask.backends import artefacts
from stream_unmask.errors import BackendError
from stream_unmask.faces.detector import FACE_DETECTION
from stream_unmask.faces.landmarks import FACE_LANDMARK
from stream_unmask.models.profile import Profile


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An engines folder of the test's own, with one engine in it."""
    monkeypatch.setattr(artefacts, "_FOLDERS", (tmp_path / "nowhere", tmp_path))
    artefacts.manifest.cache_clear()
    (tmp_path / "tiny.onnx").write_bytes(b"weights")
    digest = artefacts.sha256(tmp_path / "tiny.onnx")
    (tmp_path / "manifest.toml").write_text(f'[tiny]\nfile = "tiny.onnx"\nsha256 = "{digest}"\n')
    yield tmp_path
    artefacts.manifest.cache_clear()


def test_a_file_as_shipped_is_found(folder: Path) -> None:
    assert artefacts.engine_path("tiny") == folder / "tiny.onnx"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.write_bytes(b"weightz"), "tiny.onnx is not the one that was shipped"),
        (lambda file: file.unlink(), "tiny.onnx is missing"),
    ],
    ids=["altered", "missing"],
)
def test_any_other_is_refused(folder: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(folder / "tiny.onnx")
    with pytest.raises(BackendError, match=message):
        artefacts.engine_path("tiny")


def test_an_unknown_name(folder: Path) -> None:
    with pytest.raises(BackendError, match="no engine called 'huge'; known are tiny"):
        artefacts.engine_path("huge")


def test_an_installation_without_engines(folder: Path) -> None:
    (folder / "manifest.toml").unlink()
    with pytest.raises(BackendError, match="engine files are missing"):
        artefacts.engine_path("tiny")


def test_every_engine_is_shipped_with_its_facts() -> None:
    facts = artefacts.manifest()
    assert len(facts) > 5
    for name, table in facts.items():
        assert artefacts.engine_path(name).stat().st_size > 1000
        assert {"licence", "authors", "source", "recipe"} <= set(table)


def test_what_finds_faces_is_shipped() -> None:
    assert {s.name for s in (FACE_DETECTION, FACE_LANDMARK)} <= set(artefacts.manifest())


def test_a_profiles_networks_are_shipped(profile: Profile) -> None:
    specs = (profile.segmenter, profile.inpainter, profile.enhancer)
    assert {spec.name for spec in specs if spec is not None} <= set(artefacts.manifest())
