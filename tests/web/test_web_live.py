"""The live half, with a camera that is no browser."""

import asyncio
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

aiortc = pytest.importorskip("aiortc", reason="the `web` extra is not installed")
Serve = Callable[..., Any]
PATIENCE = 120.0  # seconds


class Clip(aiortc.MediaStreamTrack):
    """A file's pictures over and over, 15 a second, in a size."""

    kind = "video"

    def __init__(self, path: Path, side: int = 240) -> None:
        super().__init__()
        with av.open(str(path)) as container:
            frames = container.decode(video=0)
            self._pictures = [frame.reformat(side, side, "yuv420p") for frame in frames]
        self._count = 0

    async def recv(self) -> Any:
        await asyncio.sleep(1 / 15)
        picture = self._pictures[self._count % len(self._pictures)]
        self._count += 1
        picture.pts, picture.time_base = self._count * 6000, Fraction(1, 90000)
        return picture


class Caller:
    """A visitor with a camera."""

    def __init__(self, visitor: Any) -> None:
        self.visitor = visitor
        self.peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        self.said: list[dict[str, float]] = []
        self.results: asyncio.Queue[Any] = asyncio.Queue()
        self.peer.createDataChannel("figures").on(
            "message", lambda m: self.said.append(json.loads(m))
        )
        self.peer.on("track", self.results.put_nowait)

    async def call(self, track: Any) -> int:
        """The status of the answer; with 200 the result's track is in `results`."""
        self.peer.addTrack(track)
        await self.peer.setLocalDescription(await self.peer.createOffer())
        offer = {"type": "offer", "sdp": self.peer.localDescription.sdp}
        answer = await asyncio.to_thread(self.visitor.post, "/live/offer", json=offer)
        if answer.status_code == 200:
            await self.peer.setRemoteDescription(aiortc.RTCSessionDescription(**answer.json()))
        status: int = answer.status_code
        return status


def blue(picture: Any) -> float:
    """How much of a picture is as blue as the example's mask."""
    pixels = picture.to_ndarray(format="rgb24").astype(int)
    return float((pixels[..., 2] > pixels[..., 0] + 40).mean())


def test_a_camera_and_its_result(serve: Serve, example: Path) -> None:
    clip = Clip(example)
    server = serve(live=1)

    async def visit() -> None:
        first = Caller(server.visitor())
        second = Caller(server.visitor())
        try:
            async with asyncio.timeout(PATIENCE):
                assert await first.call(clip) == 200
                result = await first.results.get()
                while blue(await result.recv()) > blue(clip._pictures[0]) / 4:
                    pass
                times = [(await result.recv()).pts for _ in range(3)]
                assert times == sorted({*times})
                while not first.said:
                    await result.recv()
                assert first.said[0]["rate"] > 0
                assert first.said[0]["latency"] > 0
                assert await second.call(Clip(example)) == 503
                answer = await asyncio.to_thread(first.visitor.delete, "/live")
                assert answer.status_code == 204
                while first.peer.connectionState == "connected":
                    await asyncio.sleep(0.1)
                assert server.app.state.live._visits == {}
        finally:
            await first.peer.close()
            await second.peer.close()

    asyncio.run(visit())


def test_a_camera_that_is_too_large(serve: Serve, bare_clip: Path) -> None:
    server = serve()

    async def visit() -> None:
        caller = Caller(server.visitor())
        try:
            async with asyncio.timeout(PATIENCE):
                assert await caller.call(Clip(bare_clip, 2000)) == 200
                result = await caller.results.get()
                while not any("error" in said for said in caller.said):
                    await asyncio.sleep(0.1)
                assert result.readyState in ("live", "ended")
                assert "1920 x 1080" in caller.said[-1]["error"]  # type: ignore[operator]
        finally:
            await caller.peer.close()

    asyncio.run(visit())


def test_sound_is_refused(serve: Serve) -> None:
    server = serve()

    async def visit() -> None:
        caller = Caller(server.visitor())
        try:
            assert await caller.call(aiortc.mediastreams.AudioStreamTrack()) == 400
        finally:
            await caller.peer.close()

    asyncio.run(visit())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{}", 400),
        (b'{"type": "offer", "sdp": ""}', 400),
        (b'{"type": "answer", "sdp": "v=0"}', 400),
        (b'{"type": "offer", "sdp": "v=0\\r\\nm=video\\r\\n"}', 400),
        (b'{"type": "offer", "sdp": "v=0\\r\\nm=video 9 UDP/TLS/RTP/SAVPF 96\\r\\n"}', 400),
        (json.dumps({"type": "offer", "sdp": "x" * 70_000}).encode(), 413),
    ],
)
def test_odd_offers(serve: Serve, body: bytes, status: int) -> None:
    server = serve(live=1)
    visitor = server.visitor()
    for _ in range(6):  # none of which takes up the only place
        answer = visitor.post("/live/offer", content=body)
        assert answer.status_code == status, answer.text
        assert answer.json()["detail"].endswith(".")
    assert server.app.state.live._visits == {}


def test_pictures_are_worked_on_one_by_one(example: Path) -> None:
    """Nothing in the live pipeline waits for a frame to come."""
    from stream_unmask.pipeline import open_parts, unmask_frames
    from stream_unmask.video.frame import Frame
    from stream_unmask.web.studio import _AT_ONCE

    with av.open(str(example)) as container:
        pictures = [next(container.decode(video=0)) for _ in range(8)]
    asked: list[int] = []

    def frames() -> Any:
        for index, picture in enumerate(pictures):
            asked.append(index)
            yield Frame(picture)

    with open_parts(_AT_ONCE) as parts:
        for index, composed in enumerate(unmask_frames(frames(), parts, _AT_ONCE)):
            assert asked == [*range(index + 1)]
            assert composed.frame.picture.pts == pictures[index].pts
    assert np.ptp([len(asked), len(pictures)]) == 0
