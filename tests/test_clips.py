"""Real clips, end to end: masked people are changed, others are not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stream_unmask import Options, unmask_video
from stream_unmask.models.profile import Profile

pytestmark = pytest.mark.slow
SECONDS = 1.5


@pytest.mark.parametrize("name", ["masked_woman_desk_404p", "masked_man_1080p"])
def test_masked_people_are_changed_in_most_frames(
    profile: Profile, clips: Path, tmp_path: Path, played: Callable[[Path], Any], name: str
) -> None:
    options = Options(profile=profile.name, end=SECONDS)
    report = unmask_video(clips / f"{name}.mp4", tmp_path / "out.mp4", options)
    assert report.edited_frames > 0.8 * report.frames
    after = played(tmp_path / "out.mp4")
    assert len(after.times) == report.frames >= 15
    assert after.times == sorted(after.times)


@pytest.mark.parametrize(
    "name", ["unmasked_man_720p", "unmasked_stage_360p_audio", "unmasked_woman_grey_512p_audio"]
)
def test_unmasked_people_are_never_changed(
    profile: Profile, clips: Path, tmp_path: Path, name: str
) -> None:
    options = Options(profile=profile.name, end=SECONDS)
    report = unmask_video(clips / f"{name}.mp4", tmp_path / "out.mp4", options)
    assert report.frames >= 15
    assert report.edited_frames == 0
