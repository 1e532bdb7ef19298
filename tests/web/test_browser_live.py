"""The live half of the page in a real browser, whose camera is the example clip."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

pytestmark = pytest.mark.slow
PATIENCE = 240.0  # seconds
CONNECTED, FAILED = "Your camera is on.", "No connection came about. Please try again."
Serve = Callable[..., Any]
Browser = Callable[..., Any]
PIXELS = """
const canvas = document.createElement("canvas"); canvas.width = 64; canvas.height = 48;
const pen = canvas.getContext("2d"); pen.drawImage(arguments[0], 0, 0, 64, 48);
return [...pen.getImageData(0, 0, 64, 48).data];
"""


@pytest.fixture(scope="session")
def camera(example: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What makes Chromium take the example for its camera."""
    path = tmp_path_factory.mktemp("camera") / "camera.y4m"
    with av.open(str(example)) as container, path.open("wb") as file:
        for index, frame in enumerate(container.decode(video=0)):
            picture = frame.reformat(480, 480, "yuv420p").to_ndarray()
            if not index:
                file.write(b"YUV4MPEG2 W480 H480 F25:1 Ip A1:1 C420jpeg\n")
            file.write(b"FRAME\n" + picture.tobytes())
    return f"--use-file-for-fake-video-capture={path}"


def until(true: Callable[[], Any], what: str) -> Any:
    """What `true` gives, once that is so."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := true():
            return value
        time.sleep(0.1)
    raise AssertionError(f"waited in vain for {what}")


def one(driver: Any, query: str) -> Any:
    return driver.find_element("css selector", query)


def blue(driver: Any, query: str) -> float:
    """How much of what a <video> shows is as blue as the mask."""
    pixels = np.array(driver.execute_script(PIXELS, one(driver, query))).reshape(48, 64, 4)
    return float((pixels[..., 2] > pixels[..., 0] + 40).mean())


def on(driver: Any) -> None:
    """The camera is on. Rarely no connection comes about at first, and the page says so."""
    for _ in range(2):
        one(driver, "#start").click()
        until(lambda: message(driver) in (CONNECTED, FAILED), "an answer")
        if message(driver) == CONNECTED:
            return
    raise AssertionError(f"the page says {message(driver)!r}")


def message(driver: Any) -> str:
    return str(one(driver, "#live-message").text)


def test_a_camera(serve: Serve, browser: Browser, camera: str) -> None:
    driver = browser(
        "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", camera
    )  # fmt: skip
    server = serve(live=1)
    driver.get(server.url)
    on(driver)
    until(lambda: blue(driver, "#camera") > 0.02, "the mask")
    until(lambda: 0 <= blue(driver, "#result") < blue(driver, "#camera") / 4, "it gone")
    until(lambda: "ms" in one(driver, "#latency").text, "the figures")
    assert float(one(driver, "#rate").text) > 0
    seen = driver.execute_script(PIXELS, one(driver, "#result"))
    until(lambda: driver.execute_script(PIXELS, one(driver, "#result")) != seen, "more pictures")
    other = browser("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", camera)
    other.get(server.url)
    one(other, "#start").click()
    until(lambda: "try again later" in one(other, "#live-message").text, "the refusal")
    assert one(other, "#start").is_enabled()
    one(driver, "#stop").click()
    assert one(driver, "#live-message").text == "The camera is off."
    assert not one(driver, "#result").is_displayed()
    on(other)
    other.get("about:blank")  # who leaves without a word makes room as well
    on(driver)
    assert [e for e in driver.get_log("browser") if e["level"] == "SEVERE"] == []


def test_a_connection_that_never_comes_about(serve: Serve, browser: Browser, camera: str) -> None:
    """As behind a firewall: the page says so, and the camera is let go."""
    driver = browser("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", camera)
    driver.get(serve(live=1).url)
    driver.execute_script(
        "RTCPeerConnection.prototype.setLocalDescription = () => new Promise(() => {})"
    )
    one(driver, "#start").click()
    until(lambda: message(driver) == FAILED, "the sentence")
    assert one(driver, "#start").is_enabled()
    assert not one(driver, "#result").is_displayed()


def test_a_browser_that_refuses(serve: Serve, browser: Browser) -> None:
    driver = browser("--use-fake-device-for-media-stream", "--deny-permission-prompts")
    driver.get(serve().url)
    one(driver, "#start").click()
    until(lambda: "told not to give" in one(driver, "#live-message").text, "the sentence")
    assert one(driver, "#start").is_enabled()


def test_a_server_without_cameras(serve: Serve, browser: Browser) -> None:
    driver = browser()
    driver.get(serve(live=0).url)
    until(lambda: "takes no cameras" in one(driver, "#live-message").text, "the sentence")
    assert not one(driver, "#start").is_enabled()
