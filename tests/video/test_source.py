"""What an input may ask for: limits, no other files or hosts, and a network that may fail."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from threading import Event, Thread

import av
import pytest

from stream_unmask.errors import InputError
from stream_unmask.video.reader import Reader
from stream_unmask.video.source import Limits
from tests.video.serving import Server

Make = Callable[..., Path]


def refusal(source: str | Path, limits: Limits | None = None) -> str:
    """The one sentence with which an input is refused, at the latest with its last frame."""
    with pytest.raises(InputError) as caught, Reader(source, limits=limits) as reader:
        list(reader)
    said = str(caught.value)
    assert said.startswith(str(source))
    assert said.endswith(".")
    assert "\n" not in said
    return said


def count(source: str | Path, limits: Limits | None = None) -> int:
    with Reader(source, limits=limits) as reader:
        frames = len(list(reader))
        assert reader.warnings == []
    return frames


# ------------------------------------------------------------------------------------- limits


def test_pixels_are_limited(make_clip: Make) -> None:
    path = make_clip(size=(128, 64))
    assert count(path, Limits(pixels=128 * 64)) == 20
    said = refusal(path, Limits(pixels=128 * 64 - 1))
    assert "128 x 64 pixels, more than 8191 in all (--max-pixels)" in said


def test_the_limit_counts_no_pixels_that_are_not_there(make_clip: Make) -> None:
    assert count(make_clip(size=(96, 64)), Limits(pixels=96 * 64)) == 20


def test_pixels_are_limited_where_the_size_changes_on_the_way(
    make_clip: Make, tmp_path: Path
) -> None:
    """The larger pictures are never decoded, though the file says nothing of them at first."""
    pieces = [make_clip(f"{n}.h264", size=size) for n, size in enumerate([(128, 64), (640, 480)])]
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    assert count(path) == 40
    with Reader(path, limits=Limits(pixels=128 * 64)) as reader:
        sizes = {(frame.picture.width, frame.picture.height) for frame in reader}
        assert sizes == {(128, 64)}
        assert reader.damaged >= 1
        assert any("damaged" in warning for warning in reader.warnings)


def test_streams_are_limited(make_clip: Make, tmp_path: Path) -> None:
    path = tmp_path / "many.mkv"
    with av.open(str(make_clip(audio=True))) as source, av.open(str(path), "w") as container:
        copies = {
            stream.index: [container.add_stream_from_template(stream) for _ in range(count)]
            for stream, count in zip(source.streams, (1, 4), strict=True)
        }
        for packet in source.demux():
            for copy in copies[packet.stream_index] if packet.dts is not None else []:
                packet.stream = copy
                container.mux(packet)
    assert count(path, Limits(streams=5)) == 20
    refusal(path, Limits(streams=4))


def test_hours_are_limited(make_clip: Make) -> None:
    path = make_clip(pts=[0, 12800 * 7200])
    assert count(path, Limits(hours=3)) == 2
    assert "says to last more than 1.5 hours (--max-hours)" in refusal(path, Limits(hours=1.5))


def test_a_day_is_the_usual_limit(make_clip: Make) -> None:
    assert "more than 24 hours" in refusal(make_clip(pts=[0, 12800 * 3600 * 25]))


def spoil(path: Path, which: slice) -> None:
    """Overwrite those packets of the picture."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for entry in list(container.streams.video[0].index_entries)[which]:
            data[entry.pos : entry.pos + entry.size] = b"\xff" * entry.size
    path.write_bytes(data)


def test_errors_are_limited(make_clip: Make) -> None:
    path = make_clip(frames=40, options={"g": "1", "bf": "0"})
    spoil(path, slice(5, 11))
    with Reader(path, limits=Limits(errors=6)) as reader:
        assert len(list(reader)) == 34
        assert reader.damaged == 6
    assert "more than 5 packets could not be decoded (--max-errors)" in refusal(
        path, Limits(errors=5)
    )


@pytest.mark.parametrize("last", [1, 2])
def test_damage_near_the_end_costs_only_what_is_damaged(make_clip: Make, last: int) -> None:
    path = make_clip(frames=40, options={"g": "1", "bf": "0"})
    spoil(path, slice(40 - last, 41 - last))
    with Reader(path) as reader:
        assert len(list(reader)) == 39
        assert reader.damaged == 1
        assert len(reader.warnings) == 1


# -------------------------------------------------------------------- other files and protocols

HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile '{}'\n"
LISTS = {
    "list.m3u8": HLS, "list.mp4": HLS, "list.ffconcat": CONCAT, "list.mkv": CONCAT,
    "bom.m3u8": "\ufeff" + HLS, "blank.m3u8": "\n\n" + HLS,
}  # fmt: skip


@pytest.fixture
def named(make_clip: Make) -> Path:
    """A whole video for playlists to name, in a format that all of them take."""
    return make_clip("named.ts")


@contextmanager
def watched(path: Path) -> Iterator[Event]:
    """A pipe by that name, and an event that is set once somebody opens it to read."""
    os.mkfifo(path)
    opened = Event()

    def wait() -> None:
        os.close(os.open(path, os.O_WRONLY))  # comes back when there is a reader
        opened.set()

    thread = Thread(target=wait)
    thread.start()
    try:
        yield opened
    finally:
        while thread.is_alive():
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
            thread.join(0.01)


def test_the_watch_sees_who_opens(tmp_path: Path) -> None:
    with watched(tmp_path / "pipe") as opened:
        assert not opened.wait(0.05)
        os.close(os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK))
        assert opened.wait(5)


@pytest.mark.parametrize("name", LISTS)
def test_what_a_playlist_names_is_not_opened(named: Path, tmp_path: Path, name: str) -> None:
    for other in (named.name, str(named), f"file:{named}"):
        (tmp_path / name).write_text(LISTS[name].format(other))
        assert "is a playlist, which names other files (--allow-playlists)" in refusal(
            tmp_path / name
        )
    with watched(tmp_path / "pipe.ts") as opened:
        (tmp_path / name).write_text(LISTS[name].format("pipe.ts"))
        refusal(tmp_path / name)
        assert not opened.is_set()


@pytest.mark.parametrize("name", ["list.m3u8", "list.ffconcat"])
def test_playlists_can_be_allowed(named: Path, tmp_path: Path, name: str) -> None:
    """The same files, so that it is the refusal that kept them from being opened above."""
    (tmp_path / name).write_text(LISTS[name].format(named.name))
    assert count(tmp_path / name, Limits(playlists=True)) == 20


def test_a_list_without_a_head_is_no_video(named: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"file '{named}'\n")
    refusal(tmp_path / "list.txt")


def test_a_session_description_opens_no_port(tmp_path: Path) -> None:
    (tmp_path / "a.sdp").write_text(
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    )
    assert "is a playlist" in refusal(tmp_path / "a.sdp")


ODD_NAMES = [
    "a:b.mp4", "concat:named.ts|named.ts", "subfile,,start,0,end,0,,:named.ts", "file:named.ts",
    "http:named.ts", "ftp:named.ts", "pipe:0", "data:video;base64,AAAA", "crypto:named.ts",
    "async:named.ts", "-x.mp4", "%d.mp4", "p%03d.mp4", "x%.mp4", "it's \"é\".mp4", "all*.mp4",
    "a[1].mp4",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_that_mean_something_to_ffmpeg_are_names(
    named: Path, make_clip: Make, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """They open the file of that name, and nothing else where there is none."""
    monkeypatch.chdir(named.parent)
    with pytest.raises(InputError, match=r"does not exist|There is no picture"):
        Reader(name)
    shutil.copy(make_clip("other.mp4", frames=5), name)
    assert count(name) == 5


@pytest.mark.parametrize("scheme", ["ftp", "file", "FILE", "gopher", "sftp", "concat", "subfile"])
def test_other_protocols_are_refused(named: Path, scheme: str) -> None:
    assert "only http, https" in refusal(f"{scheme}://{named}")


def test_a_file_that_must_not_be_read_is_one_sentence(
    make_clip: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, plain = make_clip(), Path.open

    def forbidden(self: Path, *arguments: object, **named: object) -> object:
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return plain(self, *arguments, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", forbidden)
    assert "can't be read (Permission denied)" in refusal(path)


def test_a_name_that_is_too_long_is_one_sentence() -> None:
    refusal("a" * 300 + ".mp4")


# ------------------------------------------------------------------------------------ network


@pytest.fixture
def long(make_clip: Make) -> Path:
    """A clip of 200 kB, larger than what is read ahead of its first frame."""
    return make_clip("long.ts", frames=100, size=(320, 240), options={"crf": "0"})


PATIENCE = Limits(timeout=1.0)


@pytest.mark.parametrize("manner", ["plain", "ranges", "moved"])
@pytest.mark.parametrize("name", ["clip.ts", "clip.mkv", "clip.mp4"])
def test_a_video_comes_over_http(make_clip: Make, server: Server, manner: str, name: str) -> None:
    make_clip(name, audio=True, container_options={"movflags": "faststart"})
    assert count(server.url(f"{manner}/{name}").replace("http", "HTTP"), PATIENCE) == 20
    assert server.asked[0] == (f"/{manner}/{name}", 0)


def test_what_is_not_there_is_one_sentence(server: Server) -> None:
    assert "404 Not Found" in refusal(server.url("plain/nothing.mp4"), PATIENCE)


def test_a_redirect_leads_to_no_file(named: Path, server: Server) -> None:
    begin = time.monotonic()
    refusal(server.url(f"escape/{named.name}"), PATIENCE)
    assert {path for path, _ in server.asked} == {f"/escape/{named.name}"}
    assert time.monotonic() - begin < 5


def test_a_connection_that_breaks_is_taken_up_again(long: Path, server: Server) -> None:
    assert count(server.url(f"breaks/{long.name}"), PATIENCE) == 100
    assert len(server.asked) >= 2


def test_a_playlist_on_a_server_is_refused(named: Path, tmp_path: Path, server: Server) -> None:
    (tmp_path / "list.m3u8").write_text(HLS.format(named.name))
    assert "is a playlist" in refusal(server.url("plain/list.m3u8"), PATIENCE)
    assert {path for path, _ in server.asked} == {"/plain/list.m3u8"}
    assert count(server.url("plain/list.m3u8"), Limits(timeout=1, playlists=True)) == 20


@pytest.mark.parametrize("allowed", [False, True])
def test_a_playlist_leads_from_no_host_to_a_file_and_from_no_file_to_a_host(
    named: Path, tmp_path: Path, server: Server, allowed: bool
) -> None:
    limits = Limits(timeout=1, playlists=allowed)
    (tmp_path / "out.m3u8").write_text(HLS.format(f"file://{named}"))
    refusal(server.url("plain/out.m3u8"), limits)
    (tmp_path / "in.m3u8").write_text(HLS.format(server.url(f"plain/{named.name}")))
    refusal(tmp_path / "in.m3u8", limits)
    assert {path for path, _ in server.asked} == {"/plain/out.m3u8"}


@pytest.mark.parametrize("manner", ["silent", "no port"])
def test_a_host_that_does_not_answer_is_given_up(server: Server, manner: str) -> None:
    url = server.url("silent/x.mp4") if manner == "silent" else "http://127.0.0.1:1/x.mp4"
    begin = time.monotonic()
    refusal(url, PATIENCE)
    assert time.monotonic() - begin < 5


def test_a_host_that_does_not_answer_is_named_as_that(server: Server) -> None:
    assert "--timeout" in refusal(server.url("silent/x.mp4"), PATIENCE)


def broken_off(url: str) -> int:
    """The number of frames before an error."""
    times = []

    def read() -> None:
        with Reader(url, limits=PATIENCE) as reader:
            times.extend(frame.seconds for frame in islice(reader, 150))

    with pytest.raises(InputError, match="could not be read to its end"):
        read()
    return len(times)


def test_a_host_that_falls_silent_is_given_up(long: Path, server: Server) -> None:
    begin = time.monotonic()
    assert 20 < broken_off(server.url(f"stalls/{long.name}")) < 80
    assert time.monotonic() - begin < 5


def test_a_host_that_shuts_early_gives_no_frame_twice(long: Path, server: Server) -> None:
    assert broken_off(server.url(f"shuts/{long.name}")) <= 100


def test_a_slow_network_is_no_silent_one(make_clip: Make, server: Server) -> None:
    """Most of the file is its index, so that opening it takes longer than the timeout."""
    make_clip(
        "index.mp4", size=(16, 16), pts=[500 * n + n % 2 for n in range(600)],
        options={"crf": "51"}, container_options={"movflags": "faststart"},
    )  # fmt: skip
    assert count(server.url("drips/index.mp4"), Limits(timeout=0.4)) == 600
