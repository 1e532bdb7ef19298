"""Ranges for int8, found by running an engine."""

import shutil
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.needs_train
pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from stream_unmask.backends import artefacts  # noqa: E402
from stream_unmask.backends.openvino import core  # noqa: E402
from stream_unmask.backends.openvino_int8 import shipped_ranges  # noqa: E402
from training import quantise  # noqa: E402
from training.quantise import RECIPES, best_range, convolved, ranges, write  # noqa: E402

RNG = np.random.default_rng(0)


def rounded(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """As 256 levels have them."""
    step = (high - low) / 255
    return np.rint((values.clip(low, high) - low) / step) * step + low


def test_a_range_has_a_level_at_zero() -> None:
    low, high = best_range(RNG.uniform(-1.3, 4.1, 5000))
    step = (high - low) / 255
    assert low / step == pytest.approx(round(low / step), abs=1e-6)
    assert (low, high) == pytest.approx((-1.3, 4.1), abs=0.02)


def test_what_is_never_negative_keeps_all_levels() -> None:
    assert best_range(RNG.uniform(2, 4, 5000)) == pytest.approx((0, 4), abs=0.02)


def test_a_few_large_values_cost_less_than_coarse_levels() -> None:
    values = np.concatenate([RNG.uniform(-0.5, 3, 100_000), [9.0]])
    low, high = best_range(values)
    assert 3 < high < 8.5
    error, of_all = (
        float(((rounded(values, *option) - values) ** 2).mean())
        for option in ((low, high), (float(values.min()), 9.0))
    )
    assert error < of_all


def test_what_meets_in_a_convolution_has_one_range() -> None:
    """The decoder's and the encoder's part; all else stands alone, and the head is left out."""
    recipe = RECIPES["segmenter"]
    model = core().read_model(str(artefacts.engine_path(recipe.spec.name)))
    groups, weights = convolved(model, recipe.floats)
    assert sorted(len(group) for group in groups) == [1] * 25 + [2] * 4
    assert {"faces"} in groups
    assert len(weights) == 33
    assert not {*recipe.floats} & {*weights}
    everything = [name for group in groups for name in group]
    assert len(everything) == len(set(everything))


def test_ranges_of_an_engine_are_found_and_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, floats = RECIPES["segmenter"].spec.name, RECIPES["segmenter"].floats
    path = artefacts.engine_path(name)
    shipped = shipped_ranges(name, path)
    assert shipped is not None
    crops = iter(np.random.default_rng(1).random((2, 3, 256, 224), np.float32))
    found = ranges(path, floats, crops, 2, 0)
    assert found["tensors"].keys() == shipped.tensors.keys()
    assert found["weights"] == list(shipped.weights)
    assert found["tensors"]["faces"] == (0, 1)

    shutil.copy(artefacts.engines_folder() / "manifest.toml", tmp_path)
    monkeypatch.setattr(quantise, "ENGINES", tmp_path)
    monkeypatch.setattr(artefacts, "_FOLDERS", (tmp_path,))
    try:
        write(name, found, "by a test")
        again = shipped_ranges(name, path)
        assert artefacts.manifest()[f"{name}_int8"]["recipe"] == "by a test"
    finally:
        artefacts.manifest.cache_clear()
    assert again is not None
    assert again.tensors == found["tensors"]
