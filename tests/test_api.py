"""The Python interface with the engines that are shipped, on a second of the example clip."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stream_unmask import (
    Encoding,
    OptionError,
    Options,
    OutputError,
    Report,
    api,
    unmask_image,
    unmask_video,
)
from stream_unmask.label import mark
from stream_unmask.models.profile import PORTRAIT, Profile
from stream_unmask.video.image import read_image

FRAMES = 15


@dataclass
class Run:
    """A finished run on the example: what it wrote and said."""

    folder: Path
    report: Report
    heard: list[tuple[float, float | None]]


@pytest.fixture(scope="module")
def run(profile: Profile, example: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder, heard = tmp_path_factory.mktemp("run"), []
    report = unmask_video(
        example, folder / "out.mp4", Options(profile=profile.name, end=FRAMES / 25),
        mask_target=folder / "map.mp4", sheet_target=folder / "sheet.png",
        progress=lambda done, total: heard.append((done, total)),
    )  # fmt: skip
    return Run(folder, report, heard)


def test_the_output_plays_with_the_same_times_and_sound(
    run: Run, example: Path, played: Callable[[Path], Any]
) -> None:
    before, after = played(example), played(run.folder / "out.mp4")
    assert after.times == before.times[:FRAMES]
    assert after.pictures[0].shape == before.pictures[0].shape
    assert len(after.packets) > 20
    assert after.packets == before.packets[: len(after.packets)]


def test_the_output_says_that_faces_were_synthesised(
    run: Run, played: Callable[[Path], Any]
) -> None:
    assert played(run.folder / "out.mp4").metadata["comment"].startswith(mark())


def test_the_mask_is_gone_and_the_rest_is_as_it_was(
    run: Run, example: Path, played: Callable[[Path], Any]
) -> None:
    before, after = played(example), played(run.folder / "out.mp4")
    maps = played(run.folder / "map.mp4")
    assert maps.times == after.times
    for old, new, shown in zip(before.pictures, after.pictures, maps.pictures, strict=False):
        inside = shown[..., 0] > 128
        assert 0.01 < inside.mean() < 0.25
        far = cv2.dilate(inside.astype(np.uint8), np.ones((25, 25))) == 0
        assert np.abs(new.astype(int) - old)[far].mean() < 3  # encoded anew
        # The cloth is blue: little of it may be left where it was.
        assert blue(old).sum() > 5000
        assert (blue(new) & inside).sum() < 0.05 * blue(old).sum()


def blue(image: np.ndarray) -> np.ndarray:
    return image[..., 2].astype(int) - image[..., 0] > 60


def test_the_report_counts(run: Run) -> None:
    report = run.report
    assert report.frames == report.edited_frames == FRAMES
    assert report.faces == report.masked_faces == FRAMES
    assert report.people == 1
    assert {"decode", "find", "segment", "steady", "repaint", "composite", "encode"} <= set(
        report.stages
    )
    assert 0 < report.seconds < 120
    assert report.backend.startswith(("openvino", "onnxruntime"))
    assert report.dropped == report.warnings == ()


def test_progress_is_told_in_seconds_of_video(run: Run) -> None:
    assert len(run.heard) == FRAMES
    done = [seconds for seconds, _ in run.heard]
    assert done == sorted(done)
    assert all(total == pytest.approx(FRAMES / 25) for _, total in run.heard)


def test_the_sheet_shows_before_map_and_after(run: Run) -> None:
    sheet = read_image(run.folder / "sheet.png")
    assert sheet.shape[1] == 3 * 426
    assert sheet.shape[0] % 426 == 0
    before, shown, after = np.split(sheet[30:426], 3, axis=1)
    assert blue(before).sum() > 5000
    assert blue(after).sum() < 0.2 * blue(before).sum()
    assert (shown[..., 0].astype(int) - shown[..., 2] > 60).sum() > 5000


def test_nothing_else_is_left_in_the_folder(run: Run) -> None:
    assert sorted(p.name for p in run.folder.iterdir()) == ["map.mp4", "out.mp4", "sheet.png"]


def test_a_video_without_faces_is_only_encoded_again(
    bare_clip: Path, tmp_path: Path, played: Callable[[Path], Any]
) -> None:
    report = unmask_video(bare_clip, tmp_path / "out.mkv")
    assert (report.frames, report.edited_frames, report.faces, report.people) == (6, 0, 0, 0)
    before, after = played(bare_clip), played(tmp_path / "out.mkv")
    for old, new in zip(before.pictures, after.pictures, strict=True):
        assert np.abs(new.astype(int) - old).mean() < 3


def test_a_picture(profile: Profile, masked_picture: np.ndarray) -> None:
    original = masked_picture.copy()
    done = unmask_image(masked_picture, Options(profile=profile.name))
    assert np.array_equal(masked_picture, original)
    assert done.image.dtype == np.uint8
    assert done.mask.dtype == np.float32
    assert done.mask.shape == original.shape[:2]
    assert 0 <= done.mask.min() <= done.mask.max() <= 1 + 1e-6
    assert np.array_equal(done.image[done.mask == 0], original[done.mask == 0])
    assert (blue(done.image) & (done.mask > 0.5)).sum() < 0.05 * blue(original).sum()
    assert 1 <= done.masked <= len(done.faces)
    assert 0.01 < done.mask.mean() < 0.25


def test_a_picture_of_nobody_comes_back_as_it_was() -> None:
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    done = unmask_image(image)
    assert np.array_equal(done.image, image)
    assert not done.mask.any()
    assert (done.faces, done.masked) == ((), 0)


def test_a_picture_may_be_a_view(masked_picture: np.ndarray) -> None:
    stored = np.ascontiguousarray(masked_picture[..., ::-1])
    done = unmask_image(stored[..., ::-1])
    assert np.array_equal(done.image, unmask_image(masked_picture).image)


def test_the_label_fits_into_a_small_picture(profile: Profile, masked_picture: np.ndarray) -> None:
    small = cv2.resize(masked_picture, (96, 96), interpolation=cv2.INTER_AREA)
    plain, labelled = (
        unmask_image(small, Options(profile=profile.name, label=label)) for label in (False, True)
    )
    assert plain.masked == labelled.masked
    if not plain.masked:
        pytest.skip("the face is too small for these engines")
    assert np.array_equal(plain.image[:60], labelled.image[:60])
    assert not np.array_equal(plain.image[60:], labelled.image[60:])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
    ids=["grey", "rgba", "float", "empty"],
)
def test_what_is_no_picture_is_refused(image: Any) -> None:
    with pytest.raises(OptionError, match="RGB uint8"):
        unmask_image(image)


def test_an_error_on_the_way_leaves_nothing(example: Path, tmp_path: Path) -> None:
    def stop(done: float, total: float | None) -> None:
        if done > 0.1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unmask_video(
            example, tmp_path / "out.mp4", mask_target=tmp_path / "map.mp4",
            sheet_target=tmp_path / "sheet.png", progress=stop,
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_sheet_that_can_not_be_written_is_refused_before_the_work(
    bare_clip: Path, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="must end in"):
        unmask_video(bare_clip, tmp_path / "out.mp4", sheet_target=tmp_path / "sheet.pdf")
    assert list(tmp_path.iterdir()) == []


def test_the_default_profile() -> None:
    assert Options().profile == PORTRAIT.name


@pytest.mark.parametrize(
    ("target", "latency", "undelayed"),
    [("-", 0, True), ("-", 9, True), ("-", None, False), ("out.mp4", 0, False)],
)
def test_who_reads_along_gets_each_picture_at_once(
    bare_clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    latency: int | None,
    undelayed: bool,
) -> None:
    opened: list[Encoding] = []
    monkeypatch.setattr(api, "Writer", lambda *_, encoding, **__: opened.append(encoding))
    options = Options(latency=latency, encoding=Encoding(quality=30))
    with api.open_reader(bare_clip, options) as reader:
        api.open_writer(target, reader, options)
    assert opened == [Encoding(quality=30, undelayed=undelayed)]


def test_looking_ahead_may_be_left() -> None:
    assert [Options(look_ahead=frames).look_ahead for frames in (0, 100)] == [0, 100]


@pytest.mark.parametrize(
    "choice",
    [
        {"batch": 0}, {"window": 0}, {"every": -1}, {"look_ahead": -1}, {"look_ahead": 101},
        {"start": -1.0}, {"start": float("nan")}, {"end": 0.0}, {"end": float("inf")},
        {"encoding": Encoding(quality=64)}, {"encoding": Encoding(quality=9, lossless=True)},
        {"rate": 0.0}, {"start": 2.0, "end": 2.0}, {"device": "tpu"}, {"profile": "cartoon"},
        {"profile": ""}, {"latency": -1},
    ],
    ids=str,
)  # fmt: skip
def test_choices_out_of_range(choice: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Options(**choice)
