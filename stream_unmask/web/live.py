"""The live half: a visitor's camera over WebRTC, and the result back."""

import asyncio
import json
import logging
from typing import Annotated, Any, Literal, Self

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtcdatachannel import RTCDataChannel
from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel, ValidationError

from stream_unmask.errors import UnmaskError
from stream_unmask.web.files import Problem
from stream_unmask.web.studio import Sitting, Studio
from stream_unmask.web.upload import chunks

_LONGEST = 65_536  # bytes of an offer
_PATIENCE = 20.0  # seconds in which a connection must come about
_OFTEN = 0.5  # seconds from one word about the figures to the next
_MOST = 1920 * 1088  # pixels of a camera
_log = logging.getLogger("stream_unmask")

router = APIRouter(tags=["live"])


class Offer(BaseModel):
    """A browser's session description with one video and its candidates."""

    type: Literal["offer"]
    sdp: str


class Answer(BaseModel):
    """The server's session description with its candidates."""

    type: Literal["answer"]
    sdp: str


class Result(MediaStreamTrack):
    """The pictures of a sitting as a video; it ends with an error's sentence in `why`."""

    kind = "video"

    def __init__(self, sitting: Sitting) -> None:
        super().__init__()
        self._sitting = sitting
        self.why: str | None = None

    async def recv(self) -> Any:
        if self.readyState != "live":
            raise MediaStreamError
        result = await self._sitting.results.get()
        if isinstance(result, UnmaskError):
            self.why = str(result)
            self.stop()
            raise MediaStreamError
        return result


class Visit:
    """One camera's connection. Its tasks end with it."""

    def __init__(self, studio: Studio) -> None:
        # No servers: connections are made within the network, and nobody else is told of them.
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._studio = studio
        self._sitting: Sitting | None = None
        self._tracks: list[MediaStreamTrack] = []
        self._channel: RTCDataChannel | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.closed = asyncio.Event()

    async def answer(self, offer: Offer) -> Answer:
        """What to say to an offer; HTTPException 400 if it is none of one camera."""
        peer = self._peer
        peer.on("track", self._tracks.append)
        peer.on("datachannel", self._hear)
        peer.on("connectionstatechange", self._changed)
        try:
            await peer.setRemoteDescription(RTCSessionDescription(offer.sdp, offer.type))
        except Exception as error:  # of many kinds, by what is wrong in the text
            raise HTTPException(400, "The offer can't be read.") from error
        kinds = [part.kind for part in peer.getTransceivers()]
        if kinds != ["video"] or len(self._tracks) != 1:
            raise HTTPException(400, "An offer must have one video, and no sound.")
        self._sitting = self._studio.open()
        result = Result(self._sitting)
        peer.addTrack(result)
        await peer.setLocalDescription(await peer.createAnswer())
        self._begin(self._look(self._tracks[0], self._sitting))
        self._begin(self._tell(self._sitting, result))
        self._begin(self._give_up())
        return Answer(type="answer", sdp=peer.localDescription.sdp)

    async def close(self) -> None:
        """Nothing comes back; the connection is closed, and nothing is left of it."""
        if self.closed.is_set():
            return
        self.closed.set()
        if self._sitting is not None:
            self._sitting.close()
        own = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not own]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._peer.close()

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _hear(self, channel: RTCDataChannel) -> None:
        self._channel = channel

    def _changed(self) -> None:
        if self._peer.connectionState in ("failed", "closed"):
            self._begin(self.close())

    async def _look(self, track: MediaStreamTrack, sitting: Sitting) -> None:
        """Shows the camera's pictures to the sitting until there are no more."""
        try:
            while True:
                picture: Any = await track.recv()
                if picture.width * picture.height > _MOST:
                    self._say({"error": "A camera may have 1920 x 1080 pixels at the most."})
                    await asyncio.sleep(_OFTEN)  # in which that is read
                    break
                sitting.show(picture)
        except MediaStreamError:
            pass
        self._begin(self.close())

    async def _give_up(self) -> None:
        await asyncio.sleep(_PATIENCE)
        if self._peer.connectionState != "connected":
            await self.close()

    async def _tell(self, sitting: Sitting, result: Result) -> None:
        """Tells the browser how it goes, until that is an error."""
        while result.why is None:
            await asyncio.sleep(_OFTEN)
            self._say(sitting.figures())
        self._say({"error": result.why})
        await asyncio.sleep(_OFTEN)
        self._begin(self.close())

    def _say(self, facts: dict[str, Any]) -> None:
        if facts and self._channel is not None and self._channel.readyState == "open":
            self._channel.send(json.dumps(facts))


class Live:
    """All cameras, one of each visitor, as many as may be; use it in an `async with` block."""

    def __init__(self, most: int, precision: str) -> None:
        self._most = most
        self._studio = Studio(most, precision)
        self._visits: dict[str, Visit] = {}

    async def __aenter__(self) -> Self:
        self._studio.__enter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        try:
            for owner in [*self._visits]:
                await self.end(owner)
        finally:
            self._studio.__exit__(*error)

    async def begin(self, owner: str, offer: Offer) -> Answer:
        """What to say to a visitor's offer; HTTPException 503 if there is no room."""
        await self.end(owner)  # as after a reload, of which a browser says nothing
        self._visits = {who: v for who, v in self._visits.items() if not v.closed.is_set()}
        if len(self._visits) >= self._most or self._studio.crowded:
            text = "As many cameras as the server can serve are in use: try again later."
            raise HTTPException(503, text, {"Retry-After": "10"})
        visit = self._visits[owner] = Visit(self._studio)
        try:
            return await visit.answer(offer)
        except BaseException:
            await self.end(owner)
            raise

    async def end(self, owner: str) -> None:
        """Nothing comes back; the visitor's camera is no longer looked at."""
        visit = self._visits.pop(owner, None)
        if visit is not None:
            await visit.close()


def _live(request: Request) -> Live:
    live: Live = request.app.state.live
    return live


Cameras = Annotated[Live, Depends(_live)]


@router.post(
    "/live/offer",
    responses={code: {"model": Problem} for code in (400, 408, 413, 503)},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": Offer.model_json_schema()}},
        }
    },
)
async def make_offer(request: Request, live: Cameras) -> Answer:
    """Connects the visitor's camera, in place of the one before, if there was one.

    The answer's video is the camera's with an invented face where a mask is worn. On a data channel
    of the browser's, the server says {"rate": pictures a second, "latency": milliseconds from a
    picture's arrival until its result is ready}, or {"error": why it ends}.
    """
    body = b"".join([chunk async for chunk in chunks(request, _LONGEST)])
    try:
        offer = Offer.model_validate_json(body)
    except ValidationError as error:
        raise HTTPException(400, "The offer can't be read.") from error
    return await live.begin(request.state.visitor, offer)


@router.delete("/live", status_code=204)
async def stop_live(request: Request, live: Cameras) -> None:
    """Ends the connection of the visitor's camera, if there is one."""
    await live.end(request.state.visitor)
