"""TensorRT and CUDA for machines that have neither."""

import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from stream_unmask.backends import Engine, artefacts, open_engine
from tests.backends import sums
from tests.backends.fake_cuda import FakeCuda
from tests.backends.fake_tensorrt import FakeTensorRt

# What knows the libraries: loaded anew with the fakes, and once more without them.
KNOWING = tuple(f"stream_unmask.backends.{name}" for name in ("cuda", "tensorrt_plan", "tensorrt"))


def as_module(name: str, content: object) -> Any:
    """A module that has what an object has."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    module.__getattr__ = lambda attribute: getattr(content, attribute)  # type: ignore[method-assign]
    return module


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def installed(
    cuda: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], FakeTensorRt]]:
    """A function that installs a TensorRT of some version, in the place of any other.

    The user's cache folder is the test's own.
    """
    monkeypatch.setattr(artefacts, "user_cache_path", lambda name: tmp_path / "cache" / name)

    def install(version: str = "11.4.0") -> FakeTensorRt:
        fake = FakeTensorRt(cuda, version)
        runtime = as_module("cuda.bindings.runtime", cuda)
        bindings = as_module("cuda.bindings", type("Bindings", (), {"runtime": runtime}))
        modules = {
            "tensorrt": as_module("tensorrt", fake),
            "cuda": as_module("cuda", type("Cuda", (), {"bindings": bindings})),
            "cuda.bindings": bindings,
            "cuda.bindings.runtime": runtime,
        }
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        for name in KNOWING:
            sys.modules.pop(name, None)
        return fake

    before = {name: sys.modules.get(name) for name in KNOWING}
    yield install
    for name, module in before.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module


@pytest.fixture
def tensorrt(installed: Callable[..., FakeTensorRt]) -> FakeTensorRt:
    """The newest TensorRT."""
    return installed()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An ONNX file of the network in `sums`."""
    return sums.save(tmp_path)


@pytest.fixture
def start(tensorrt: FakeTensorRt, path: Path) -> Callable[..., Engine]:
    """A function that opens it with TensorRT."""
    return lambda spec=sums.SPEC, device="auto": open_engine(spec, "tensorrt", device, path)
