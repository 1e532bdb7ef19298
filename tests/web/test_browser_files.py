"""The file half of the page in a real browser."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

pytestmark = pytest.mark.slow
PATIENCE = 240.0  # seconds
Serve = Callable[..., Any]
Browser = Callable[..., Any]
# What a <video> shows: the sum of its samples, of a small copy.
HOW_FAR = "return ['.state', 'progress'].map(q => document.querySelector(q)).map("
HOW_FAR += "(found, i) => i ? found?.value ?? 0 : found?.textContent ?? '')"
PIXELS = """
const canvas = document.createElement("canvas"); canvas.width = 64; canvas.height = 36;
const pen = canvas.getContext("2d"); pen.drawImage(arguments[0], 0, 0, 64, 36);
return [...pen.getImageData(0, 0, 64, 36).data];
"""


def until(true: Callable[[], Any], what: str) -> Any:
    """What `true` gives, once that is so, and the elements that it asks for are there."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with suppress(LookupError, exceptions().NoSuchElementException):
            if value := true():
                return value
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}")


def exceptions() -> Any:
    return pytest.importorskip("selenium.common.exceptions", reason="needs selenium")


def one(driver: Any, query: str) -> Any:
    return driver.find_element("css selector", query)


def several(driver: Any, query: str) -> list[Any]:
    found: list[Any] = driver.find_elements("css selector", query)
    return found


def complaints(driver: Any) -> list[str]:
    """What the browser's console says is wrong, as a breach of the policy for content."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def test_a_video_from_upload_to_download(
    serve: Serve, browser: Browser, longer_clip: Path, tmp_path: Path
) -> None:
    driver = browser()
    driver.get(serve().url)
    assert "invented, not recovered" in one(driver, "header .notice").text
    one(driver, "#file").send_keys(str(longer_clip))
    progress = []

    def done() -> bool:
        state, value = driver.execute_script(HOW_FAR)
        progress.append(value if "left" in state else 0.0)
        return bool(several(driver, ".job .download:not([hidden])"))

    until(done, "the result")
    assert any(0 < value < 1 for value in progress), "it moved"
    assert one(driver, "#status").text == "longer.mp4 is done."
    look_at_the_comparison(driver)
    one(driver, ".report summary").click()
    until(lambda: "openvino" in one(driver, ".report").text, "the report")
    one(driver, ".download").click()
    result = tmp_path / "downloads" / "longer-unmasked.mp4"
    until(result.exists, "the download")
    with av.open(str(result)) as container:
        assert container.streams.video[0].codec.canonical_name == "h264"
    driver.refresh()
    until(lambda: several(driver, ".job .download:not([hidden])"), "the job, after a reload")
    one(driver, ".job .remove").click()
    until(lambda: not several(driver, ".job"), "its end")
    assert complaints(driver) == []


def look_at_the_comparison(driver: Any) -> None:
    """Both halves play in step, and the slider parts them, by keys as well."""
    after, before = one(driver, "video.result"), one(driver, "video.source")
    ready = "return Math.min(arguments[0].readyState, arguments[1].readyState)"
    until(lambda: driver.execute_script(ready, after, before) >= 2, "pictures")
    shown = [np.array(driver.execute_script(PIXELS, video)) for video in (after, before)]
    assert np.abs(shown[0] - shown[1]).max() > 40, "the mask is gone"
    slider = one(driver, ".slider")
    clip = "return getComputedStyle(arguments[0]).clipPath"
    middle = driver.execute_script(clip, before)
    slider.send_keys("\ue014" * 10)  # arrow to the right
    assert slider.get_attribute("value") == "60"
    assert driver.execute_script(clip, before) != middle
    one(driver, ".play").click()
    time_of = "return [arguments[0].currentTime, arguments[1].currentTime]"
    until(lambda: driver.execute_script("return arguments[0].ended", after), "the end of it")
    assert np.ptp(driver.execute_script(time_of, after, before)) < 0.1
    one(driver, ".seek").send_keys("\ue011")  # to the beginning
    until(lambda: max(driver.execute_script(time_of, after, before)) < 0.1, "the beginning")


def test_cancelling_and_what_is_no_video(
    serve: Serve, browser: Browser, example: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.mp4").write_text("no video\n" * 50)
    driver = browser()
    server = serve()
    driver.get(server.url)
    one(driver, "#file").send_keys(f"{example}\n{tmp_path / 'text.mp4'}")
    until(lambda: "left" in one(driver, ".job .state").text, "the time left")
    sentence = until(
        lambda: several(driver, ".job")[1].find_element("css selector", ".error").text, ""
    )
    assert sentence.startswith("text.mp4 is not a video")
    one(driver, ".job .remove").send_keys("\ue007")  # by the Enter key
    until(lambda: len(several(driver, ".job")) == 1, "its end")
    assert one(driver, "#status").text == f"{example.name} is removed."
    until(lambda: server.files() == [], "the end of its files")


def test_a_format_that_browsers_do_not_know(serve: Serve, browser: Browser, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "odd.mkv"), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25, width=95, height=64)
        stream.pix_fmt = "yuv444p"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((64, 95, 3), 128, np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    driver = browser()
    driver.get(serve().url)
    one(driver, "#file").send_keys(str(tmp_path / "odd.mkv"))
    only = until(lambda: several(driver, ".only:not([hidden])"), "the sentence")[0]
    assert "only the result is shown" in only.text
    playing = "return arguments[0].readyState >= 2 && arguments[0].videoWidth === 95"
    until(lambda: driver.execute_script(playing, one(driver, "video.result")), "the result")
    until(lambda: "nothing was changed" in one(driver, ".job .state").text, "the report")
    assert not one(driver, ".split").is_displayed()


def test_what_the_server_refuses_is_said(serve: Serve, browser: Browser, bare_clip: Path) -> None:
    driver = browser()
    driver.get(serve(upload=1000, token="x" * 16).url)
    assert "token" in one(driver, "body").text
    driver.get(f"{driver.current_url}?token={'x' * 16}")
    assert "token" not in driver.current_url
    until(lambda: "0 MiB" in one(driver, "#limits").text, "the limits")
    one(driver, "#file").send_keys(str(bare_clip))
    until(lambda: "larger than" in one(driver, ".job .error").text, "the sentence")
