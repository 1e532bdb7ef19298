"""A server on this machine that gives files in good and bad manners."""

import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event


class Server(ThreadingHTTPServer):
    """Gives files of a folder, in the manner that the first part of the path says.

    asked: the paths that were asked for, with the first byte wanted.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.asked: list[tuple[str, int]] = []
        self.over = Event()

    def handle_error(self, *_: object) -> None:
        """Whoever hangs up is no error here."""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0]
        self.server.asked.append((self.path, int(wanted)))
        manner, _, name = self.path[1:].partition("/")
        moved = {"moved": f"/plain/{name}", "escape": f"file://{self.server.folder / name}"}
        if manner in moved:
            self.send_response(302)
            self.send_header("Location", moved[manner])
            self.end_headers()
        elif manner == "silent":
            self.server.over.wait(20)
        elif (self.server.folder / name).is_file():
            self._give(manner, (self.server.folder / name).read_bytes(), int(wanted))
        else:
            self.send_error(404)

    def _give(self, manner: str, data: bytes, begin: int) -> None:
        ranges = manner in ("ranges", "breaks")
        begin = begin if ranges else 0
        self.send_response(206 if ranges and begin else 200)
        if ranges:
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        half = len(data) // 2
        if manner == "drips":
            for at in range(0, len(data), len(data) // 40 + 1):
                self.wfile.write(data[at : at + len(data) // 40 + 1])
                time.sleep(0.05)
        elif manner in ("stalls", "shuts") or (manner == "breaks" and begin < half):
            self.wfile.write(data[begin:half])
            self.wfile.flush()
            if manner == "stalls":
                self.server.over.wait(20)
        else:
            self.wfile.write(data[begin:])
