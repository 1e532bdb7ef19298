"""How the page's server bears many visitors: files at once, and cameras all the while.

    python -m benchmarks.page FILE CLIP --files 20 --cameras 4

A server of its own gets all files at the same moment, from a visitor each, while the cameras show
a clip in real time. Exits with 1 unless every file is done, in the order in which they queued, and
each camera got pictures back. Memory is that of the server and of the processes below it (Linux).
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import aiortc
import av
import httpx

_PATIENCE = 1800.0  # seconds
_SIDE = 480  # pixels of a camera


class Camera(aiortc.MediaStreamTrack):
    """A clip over and over, 25 pictures a second."""

    kind = "video"

    def __init__(self, clip: Path) -> None:
        super().__init__()
        with av.open(str(clip)) as container:
            frames = container.decode(video=0)
            self._pictures = [frame.reformat(_SIDE, _SIDE, "yuv420p") for frame in frames]
        self._count, self._begin = 0, time.monotonic()

    async def recv(self) -> Any:
        self._count += 1
        await asyncio.sleep(max(0.0, self._begin + self._count / 25 - time.monotonic()))
        picture = self._pictures[self._count % len(self._pictures)]
        picture.pts, picture.time_base = self._count * 3600, Fraction(1, 90_000)
        return picture


async def watched(url: str, clip: Path, figures: dict[str, Any]) -> None:
    """Counts the pictures that come back to a camera, until it is cancelled."""
    peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    results: asyncio.Queue[Any] = asyncio.Queue()
    peer.on("track", results.put_nowait)
    said = figures.setdefault("said", [])
    peer.createDataChannel("figures").on("message", lambda text: said.append(json.loads(text)))
    peer.addTrack(Camera(clip))
    try:
        await peer.setLocalDescription(await peer.createOffer())
        offer = {"type": "offer", "sdp": peer.localDescription.sdp}
        async with httpx.AsyncClient(base_url=url, timeout=_PATIENCE) as visitor:
            answer = (await visitor.post("/live/offer", json=offer)).raise_for_status()
            await peer.setRemoteDescription(aiortc.RTCSessionDescription(**answer.json()))
            track = await results.get()
            while True:
                await track.recv()
                figures["pictures"] = figures.get("pictures", 0) + 1
    finally:
        await peer.close()


async def sent(visitor: httpx.AsyncClient, file: Path, queued: list[str]) -> dict[str, Any]:
    """A file's job when it has ended; its id is added to `queued` when it is taken."""
    answer = await visitor.post("/jobs", files={"file": file.read_bytes()})
    answer.raise_for_status()
    name = answer.json()["id"]
    queued.append(name)
    while True:
        job: dict[str, Any] = (await visitor.get(f"/jobs/{name}")).raise_for_status().json()
        if job["state"] in ("done", "failed", "cancelled"):
            return job
        await asyncio.sleep(0.5)


def memory(process: int) -> tuple[float, float]:
    """MiB that a process and all below it hold: (itself, the others)."""
    own, others, waiting = 0.0, 0.0, [process]
    while waiting:
        number = waiting.pop()
        try:
            status = Path(f"/proc/{number}/status").read_text()
            for task in Path(f"/proc/{number}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except OSError:  # it has just ended
            continue
        found = re.search(r"VmRSS:\s*(\d+)", status)
        held = int(found[1]) / 1024 if found else 0.0
        own, others = (held, others) if number == process else (own, others + held)
    return own, others


async def sampled(process: int, peaks: list[float]) -> None:
    """Keeps the peaks of the server's memory and of that below it, until it is cancelled."""
    while True:
        peaks[:] = map(max, peaks, memory(process))
        await asyncio.sleep(0.2)


async def measured(
    url: str, process: int, file: Path, clip: Path, files: int, cameras: int
) -> dict[str, Any]:
    """All figures."""
    peaks, queued = [0.0, 0.0], list[str]()
    seen: list[dict[str, Any]] = [{} for _ in range(cameras)]
    async with AsyncExitStack() as stack:
        begin = memory(process)[0]
        watching = [asyncio.create_task(watched(url, clip, figures)) for figures in seen]
        watching.append(asyncio.create_task(sampled(process, peaks)))
        visitors = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=_PATIENCE))
            for _ in range(files)
        ]
        start = time.monotonic()
        jobs = await asyncio.gather(*(sent(visitor, file, queued) for visitor in visitors))
        spent = time.monotonic() - start
        for task in watching:
            task.cancel()
        ends = await asyncio.gather(*watching, return_exceptions=True)
        await asyncio.sleep(2)
        after = memory(process)
    done = sorted((job for job in jobs if job["state"] == "done"), key=lambda job: job["expires"])
    late = [said["latency"] for figures in seen for said in figures["said"] if "latency" in said]
    return {
        "files": files, "done": len(done), "in_order": [job["id"] for job in done] == queued,
        "seconds": spent, "cameras": cameras,
        "pictures_a_second": [figures.get("pictures", 0) / spent for figures in seen],
        "latency_ms": {"median": median(late), "max": max(late)} if late else None,
        "errors": [str(end) for end in ends if not isinstance(end, asyncio.CancelledError)],
        "server_mib": {"begin": begin, "peak": peaks[0], "after": after[0]},
        "children_mib": {"peak": peaks[1], "after": after[1]},
    }  # fmt: skip


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description="How the page's server bears many visitors.")
    parser.add_argument("file", type=Path, help="What is uploaded.")
    parser.add_argument("clip", type=Path, help="What cameras see.")
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--cameras", type=int, default=4)
    chosen = parser.parse_args()
    command = [sys.executable, "-m", "stream_unmask", "serve", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[1]
        figures = asyncio.run(
            measured(url, server.pid, chosen.file, chosen.clip, chosen.files, chosen.cameras)
        )
    finally:
        server.terminate()
        server.wait()
    print(json.dumps(figures, indent=2))
    well = figures["done"] == chosen.files and figures["in_order"] and not figures["errors"]
    sys.exit(0 if well and all(figures["pictures_a_second"]) else 1)


if __name__ == "__main__":
    main()
