"""What the server refuses, and with which status."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from stream_unmask.errors import OptionError

Serve = Callable[..., Any]
TOKEN = "correct-horse-battery-staple"


def post(visitor: Any, content: bytes, name: str = "x.mp4", **fields: str) -> Any:
    return visitor.post("/jobs", files={"file": (name, content)}, data=fields)


def raw(port: int, *lines: str, body: bytes = b"") -> tuple[int, str]:
    """(status, the whole answer) to a request as it stands."""
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall("\r\n".join((*lines, "Connection: close", "", "")).encode() + body)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return int(answer.split()[1]), answer.decode(errors="replace")


def refused(answer: Any, status: int, *words: str) -> None:
    """One sentence, and no job."""
    assert answer.status_code == status, answer.text
    (text,) = answer.json().values()
    assert text.endswith(".")
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"no video\n" * 50, "is not a video"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n", "is a playlist"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "is a playlist"),
        (b"<html><script>alert(1)</script></html>", "is not a video"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "x.mp4"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "x.mp4"),
        (b"\x00\x00\x00\x20ftypisom" + bytes(100), "x.mp4"),
    ],
    ids=["empty", "text", "playlist", "concat", "html", "png", "jpeg", "mp4"],
)
def test_what_is_no_video_is_refused(serve: Serve, content: bytes, words: str) -> None:
    server = serve()
    visitor = server.visitor()
    answer = post(visitor, content)
    refused(answer, 415, "x.mp4", words)
    assert "--" not in answer.text
    assert str(server.folder) not in answer.text
    assert visitor.get("/jobs").json() == []
    assert server.files() == []


def test_sound_alone_is_refused(serve: Serve, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream: Any = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    refused(post(serve().visitor(), (tmp_path / "sound.mp4").read_bytes()), 415, "no video stream")


def test_limits_of_a_file(serve: Serve, example: Path, bare_clip: Path) -> None:
    data = example.read_bytes()
    refused(post(serve(minutes=0.05).visitor(), data), 415, "says to last more than")
    refused(post(serve(pixels=5000).visitor(), bare_clip.read_bytes()), 415, "more than 5000")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_that_is_too_large(serve: Serve, chunked: bool) -> None:
    server = serve(upload=100_000)
    visitor = server.visitor()
    refused(post(visitor, bytes(100_001)), 413, "MiB")
    head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    length = "Transfer-Encoding: chunked" if chunked else "Content-Length: 9999999999"
    parts = (head, bytes(100_001), b"\r\n--B--\r\n", b"")
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    status, _ = raw(
        server.port, "POST /jobs HTTP/1.1", f"Host: 127.0.0.1:{server.port}", length,
        "Content-Type: multipart/form-data; boundary=B", body=body if chunked else b"",
    )  # fmt: skip
    assert status == 413
    assert server.files() == []


def test_limits_of_a_visitor_and_of_all(serve: Serve, bare_clip: Path) -> None:
    server = serve(jobs=1, all_jobs=2)
    data = bare_clip.read_bytes()
    one, two, three = (server.visitor() for _ in range(3))
    first = post(one, data)
    assert first.status_code == 201
    answer = post(one, data)
    refused(answer, 429, "You have as many files here as are kept (1)")
    assert int(answer.headers["retry-after"]) >= 1
    assert post(two, data).status_code == 201
    answer = post(three, data)
    refused(answer, 503, "try again later")
    assert int(answer.headers["retry-after"]) >= 1
    assert one.delete(f"/jobs/{first.json()['id']}").status_code == 204
    assert post(three, data).status_code == 201


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"profile": "../engines"}, 422),
        ({"quality": "0"}, 422),
        ({"label": "perhaps"}, 422),
        ({"target": "/etc/passwd"}, 422),
        ({"label": "x" * 2000}, 413),
        ({f"f{i}": "" for i in range(20)}, 400),
    ],
)
def test_odd_fields(serve: Serve, bare_clip: Path, fields: dict[str, str], status: int) -> None:
    refused(post(serve().visitor(), bare_clip.read_bytes(), **fields), status)


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"", 415),
        ("multipart/form-data; boundary=B", b"", 400),
        ("multipart/form-data; boundary=B", b"rubbish", 400),
        ("multipart/form-data; boundary=B", b"--B--\r\n", 400),
        (
            "multipart/form-data; boundary=B",
            b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\ncut',
            400,
        ),
        (
            "multipart/form-data; boundary=B",
            b'--B\r\nContent-Disposition: form-data; name="a"; filename="x"\r\n\r\n1\r\n--B--\r\n',
            400,
        ),
        (f"multipart/form-data; boundary={'B' * 5000}", b"x", 400),
    ],
)
def test_odd_forms(serve: Serve, kind: str, body: bytes, status: int) -> None:
    server = serve()
    answer = server.visitor().post("/jobs", content=body, headers={"Content-Type": kind})
    refused(answer, status)
    assert server.files() == []


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../../etc/cron.d/evil.mp4", "evil.mp4"),
        ("..\\..\\windows\\evil.mp4", "evil.mp4"),
        ("/etc/passwd", "passwd"),
        ("..", "unnamed"),
        (".bashrc", "bashrc"),
        ("a\r\nSet-Cookie: b=c", "aSet-Cookie_ b=c"),
        ('"; filename="evil.exe', "_; filename=_evil.exe"),
        ("x" * 5000 + ".mp4", "x" * 96 + ".mp4"),
        ("\u202egpj.exe", "gpj.exe"),
        ("%2e%2e%2fevil", "%2e%2e%2fevil"),
        ("日本.mp4", "日本.mp4"),
    ],
)
def test_names_are_for_show(given: str, shown: str) -> None:
    pytest.importorskip("python_multipart", reason="the `web` extra is not installed")
    from stream_unmask.web.upload import display_name

    assert display_name(given) == shown


def test_a_name_is_no_path(serve: Serve, bare_clip: Path) -> None:
    server = serve()
    visitor = server.visitor()
    job = post(visitor, bare_clip.read_bytes(), "../../evil.mp4").json()
    assert job["name"] == "evil.mp4"
    source = visitor.get(f"/jobs/{job['id']}/source")
    assert source.headers["content-disposition"] == 'attachment; filename="evil.mp4"'
    assert {name.split("/")[0] for name in server.files()} == {job["id"]}
    assert [*server.folder.parent.rglob("evil*")] == []


def test_the_job_of_another_is_none(serve: Serve, bare_clip: Path) -> None:
    server = serve()
    owner, other = server.visitor(), server.visitor()
    job = f"/jobs/{post(owner, bare_clip.read_bytes()).json()['id']}"
    other.get("/jobs")  # so that they have a cookie as well
    for path in (job, *(f"{job}/{what}" for what in ("events", "result", "source", "report"))):
        nobodys = other.get(path.replace(job, f"/jobs/{'x' * 22}"))
        answer = other.get(path)
        refused(answer, 404)
        assert answer.json() == nobodys.json()
    refused(other.delete(job), 404)
    assert other.get("/jobs").json() == []
    assert owner.get(job).status_code == 200


def test_the_cookie_of_a_visitor(serve: Serve) -> None:
    server = serve()
    visitor = server.visitor()
    assert "set-cookie" not in visitor.get("/").headers, "who comes by a link sends none there"
    cookie = visitor.get("/jobs").headers["set-cookie"]
    assert "HttpOnly; SameSite=Strict" in cookie
    assert "set-cookie" not in visitor.get("/jobs").headers
    made_up = server.visitor(cookies={"stream_unmask_visitor": "1"}).get("/jobs")
    assert "set-cookie" in made_up.headers


@pytest.mark.parametrize("path", ["/", "/jobs", "/static/app.js", "/openapi.json", "/nowhere"])
def test_headers(serve: Serve, path: str) -> None:
    headers = serve().visitor().get(path).headers
    policy = dict(
        part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static/..%5capp.py",
        "/static//etc/passwd",
        "/static/%00",
        "/static/",
        "//etc/passwd",
        "/../../etc/passwd",
        "/jobs/../../etc/passwd",
        "/jobs/..%2f..%2fetc%2fpasswd/source",
        "/jobs/%2e%2e/source",
        "/jobs/%00/result",
        "/docs",
        "/redoc",
    ],
)
def test_tricks_with_paths(serve: Serve, path: str) -> None:
    port = serve().port
    status, answer = raw(port, f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}")
    assert status == 404
    assert "root:" not in answer
    assert "import" not in answer


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:9999", 200),
        ("[::1]:8000", 200),
        ("ours.example", 200),
        ("evil.example", 403),
        ("evil.example:80", 403),
        ("127.0.0.1.evil.example", 403),
        ("192.0.2.1", 403),
        ("user@127.0.0.1@evil.example", 403),
        ("[", 403),
        ("", 403),
    ],
)
def test_the_host(serve: Serve, host: str, status: int) -> None:
    port = serve(names=("ours.example",)).port
    for path in ("/", "/jobs", "/static/app.js"):
        assert raw(port, f"GET {path} HTTP/1.1", f"Host: {host}")[0] == status, path


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 201),
        ({"Origin": "http://{own}"}, 201),
        ({"Origin": "https://{own}"}, 201),  # a proxy in front may speak TLS
        ({"Sec-Fetch-Site": "same-origin"}, 201),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
    ],
)
def test_posts_from_elsewhere(
    serve: Serve, bare_clip: Path, headers: dict[str, str], status: int
) -> None:
    server = serve()
    headers = {name: text.format(own=f"127.0.0.1:{server.port}") for name, text in headers.items()}
    visitor = server.visitor(headers=headers)
    if status == 201:  # anything but 403 will do, and is sooner had
        refused(post(visitor, b"no video"), 415)
    else:
        refused(post(visitor, bare_clip.read_bytes()), 403, "Other sites")
    assert visitor.delete("/jobs/x").status_code == (404 if status == 201 else 403)


def test_nothing_is_embedded_elsewhere(serve: Serve) -> None:
    visitor = serve().visitor(headers={"Sec-Fetch-Site": "cross-site"})
    for path in ("/", "/jobs", "/static/app.js"):
        refused(visitor.get(path), 403)
        refused(visitor.get(path, headers={"Origin": "http://evil.example"}), 403)
    assert visitor.get("/", headers={"Sec-Fetch-Mode": "navigate"}).status_code == 200


def test_without_the_token(serve: Serve, bare_clip: Path) -> None:
    server = serve(token=TOKEN)
    for headers in (
        {},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer"},
        {"Cookie": f"stream_unmask_pass={TOKEN}"},
        {"Cookie": "stream_unmask_pass="},
    ):
        visitor = server.visitor(headers=headers)
        for path in ("/", "/jobs", "/static/app.js", "/openapi.json", "/limits", "/nowhere"):
            answer = visitor.get(path)
            refused(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
        refused(visitor.get("/?token=wrong"), 401)
        refused(visitor.get(f"/jobs?token={TOKEN}"), 401)
        refused(post(visitor, bare_clip.read_bytes()), 401)


def test_with_the_token(serve: Serve) -> None:
    server = serve(token=TOKEN)
    by_header = server.visitor(headers={"Authorization": f"bearer {TOKEN}"})
    assert by_header.get("/jobs").json() == []
    by_link = server.visitor()
    answer = by_link.get(f"/?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "HttpOnly; SameSite=Lax" in answer.headers["set-cookie"]
    assert TOKEN not in answer.headers["set-cookie"]
    assert by_link.get("/").status_code == 200
    assert by_link.get("/jobs").json() == []
    elsewhere = serve(token=TOKEN).visitor(cookies=dict(by_link.cookies))
    refused(elsewhere.get("/"), 401)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "0.0.0.0"}, "give them a --token"),
        ({"host": "::"}, "give them a --token"),
        ({"host": "192.0.2.2"}, "give them a --token"),
        ({"token": "short"}, "at least 16 characters"),
        ({"upload": 0}, "at least 1"),
        ({"minutes": float("nan")}, "above 0"),
        ({"live": -1}, "0 or more"),
        ({"precision": "int4"}, "no precision 'int4'"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], words: str) -> None:
    from stream_unmask.web.settings import Settings

    with pytest.raises(OptionError, match=words):
        Settings(**settings)
    assert TOKEN not in repr(Settings(host="0.0.0.0", token=TOKEN))


def test_the_description_needs_nothing_from_elsewhere(serve: Serve) -> None:
    described = serve().visitor().get("/openapi.json").json()
    assert {"/jobs", "/jobs/{job_id}", "/jobs/{job_id}/events"} <= {*described["paths"]}
    form = described["paths"]["/jobs"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert {*form["schema"]["properties"]} == {"file", "profile", "label", "quality"}
    assert "http" not in json.dumps(described)
