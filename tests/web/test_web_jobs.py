"""The file half by its REST API: real files through the real engines."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import jsonschema
import numpy as np
import pytest

from stream_unmask.label import mark

ROOT = Path(__file__).parents[2]
Serve = Callable[..., Any]
Ended = Callable[[Any, str], dict[str, Any]]


def sent(visitor: Any, path: Path, name: str | None = None, **fields: str) -> dict[str, Any]:
    """The job for a file that is sent."""
    with path.open("rb") as file:
        answer = visitor.post("/jobs", files={"file": (name or path.name, file)}, data=fields)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/jobs/{answer.json()['id']}"
    job: dict[str, Any] = answer.json()
    return job


def events(visitor: Any, name: str) -> list[dict[str, Any]]:
    """All events of a job until its last."""
    with visitor.stream("GET", f"/jobs/{name}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.slow
def test_a_video(
    serve: Serve, longer_clip: Path, played: Callable[[Path], Any], tmp_path: Path
) -> None:
    server = serve()
    visitor = server.visitor()
    job = sent(visitor, longer_clip, "März & <b>.mov", label="true", quality="30")
    assert (job["name"], job["kind"], job["state"]) == ("März & _b_.mov", "video", "running")
    seen = events(visitor, job["id"])
    assert [seen[0]["state"], seen[-1]["state"]] == ["running", "done"]
    progress = [event["progress"] for event in seen if event["progress"] is not None]
    assert progress == sorted(progress)
    assert len({*progress}) > 2, "it moved"
    assert any(event["seconds_left"] is not None for event in seen)
    assert visitor.get("/jobs").json() == [seen[-1]]
    answer = visitor.get(f"/jobs/{job['id']}/result")
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-disposition"].startswith(
        "attachment; filename*=utf-8''M%C3%A4rz"
    )
    result = tmp_path / "result.mp4"
    result.write_bytes(answer.content)
    before, after = played(longer_clip), played(result)
    assert after.times == before.times
    assert after.packets == before.packets, "the sound"
    assert mark() in after.metadata["comment"]
    assert np.abs(after.pictures[5].astype(int) - before.pictures[5]).max() > 50
    report = visitor.get(f"/jobs/{job['id']}/report").json()
    jsonschema.validate(report, json.loads((ROOT / "docs/report.schema.json").read_text()))
    assert report["files"][0]["edited_frames"] == 30
    assert report["files"][0]["source"] == "März & _b_.mov"
    assert str(server.folder) not in json.dumps(report)
    part = visitor.get(f"/jobs/{job['id']}/result", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, answer.content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(answer.content)}"
    beyond = visitor.get(f"/jobs/{job['id']}/result", headers={"Range": "bytes=99999999-"})
    assert beyond.status_code == 416
    assert visitor.get(f"/jobs/{job['id']}/source").content == longer_clip.read_bytes()


@pytest.mark.slow
def test_a_picture(serve: Serve, masked_picture: np.ndarray, tmp_path: Path, ended: Ended) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "in.png"), masked_picture[..., ::-1])
    visitor = serve(precision="fp32").visitor()
    job = sent(visitor, tmp_path / "in.png", "in.mp4")  # what it is called is no matter
    assert job["kind"] == "picture"
    assert ended(visitor, job["id"])["state"] == "done"
    answer = visitor.get(f"/jobs/{job['id']}/result")
    assert answer.headers["content-type"] == "image/png"
    report = visitor.get(f"/jobs/{job['id']}/report").json()
    assert report["files"][0]["backend"] == "openvino CPU f32"
    assert 'filename="in-unmasked.png"' in answer.headers["content-disposition"]
    picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert 0.01 < (picture != masked_picture).any(2).mean() < 0.4
    assert visitor.get(f"/jobs/{job['id']}/source").headers["content-type"] == "image/png"


def test_an_odd_size_is_coded_for_browsers(tmp_path: Path) -> None:
    from stream_unmask.web.work import Task, look

    for width, codec in ((96, "h264"), (95, "vp9")):
        with av.open(str(tmp_path / f"{width}.mkv"), "w") as container:
            stream: Any = container.add_stream("ffv1", rate=25, width=width, height=64)
            stream.pix_fmt = "yuv444p"
            frame = av.VideoFrame.from_ndarray(np.zeros((64, width, 3), np.uint8))
            container.mux([*stream.encode(frame), *stream.encode(None)])
        assert look(Task(str(tmp_path / f"{width}.mkv"), "x")).codec == codec


def test_a_queue(serve: Serve, bare_clip: Path, ended: Ended) -> None:
    server = serve()
    first, second = server.visitor(), server.visitor()
    owners = [first, second, first]
    jobs = [sent(owner, bare_clip) for owner in owners]
    assert [job["before"] for job in jobs] == sorted(job["before"] for job in jobs)
    ends = [ended(owner, job["id"]) for owner, job in zip(owners, jobs, strict=True)]
    assert [end["state"] for end in ends] == ["done"] * 3
    times = [end["expires"] for end in ends]
    assert times == sorted(times), "in the order in which they came"
    assert [job["id"] for job in first.get("/jobs").json()] == [jobs[0]["id"], jobs[2]["id"]]
    assert [job["id"] for job in second.get("/jobs").json()] == [jobs[1]["id"]]


def test_cancelling(serve: Serve, example: Path, bare_clip: Path, ended: Ended) -> None:
    server = serve()
    visitor = server.visitor()
    long, waiting, last = (sent(visitor, path) for path in (example, example, bare_clip))
    assert (long["state"], waiting["state"]) == ("running", "queued")
    for job in (waiting, long):
        assert visitor.delete(f"/jobs/{job['id']}").status_code == 204
        assert visitor.get(f"/jobs/{job['id']}").status_code == 404
        assert visitor.delete(f"/jobs/{job['id']}").status_code == 404
    assert ended(visitor, last["id"])["state"] == "done", "the place is free again"
    assert server.files() == [last["id"], f"{last['id']}/result.mp4", f"{last['id']}/source"]
    assert visitor.delete(f"/jobs/{last['id']}").status_code == 204
    assert server.files() == []


def test_who_follows_a_job_hears_of_its_end(serve: Serve, example: Path) -> None:
    visitor = serve().visitor()
    job = sent(visitor, example)
    with visitor.stream("GET", f"/jobs/{job['id']}/events") as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines).removeprefix("data: "))["state"] == "running"
        visitor.delete(f"/jobs/{job['id']}")
        last = [line for line in lines if line.startswith("data: ")][-1]
    assert json.loads(last.removeprefix("data: "))["state"] == "cancelled"


def test_a_job_expires(serve: Serve, bare_clip: Path, ended: Ended) -> None:
    server = serve(keep=1.0)
    visitor = server.visitor()
    job = sent(visitor, bare_clip)
    assert ended(visitor, job["id"])["expires"] > time.time() - 1
    time.sleep(1.5)
    assert visitor.get("/jobs").json() == []
    assert server.files() == []


def test_a_server_that_ends_leaves_nothing(serve: Serve, example: Path) -> None:
    visitor = serve().visitor()  # the fixture looks at what is left
    job = sent(visitor, example)
    assert visitor.get(f"/jobs/{job['id']}").json()["state"] == "running"


def test_a_job_fails_with_a_sentence(
    serve: Serve, short_clip: Path, tmp_path: Path, ended: Ended
) -> None:
    # As it is streamed, Matroska does not say how long it will last.
    streamed = tmp_path / "live.mkv"
    with (
        av.open(str(short_clip)) as source,
        av.open(str(streamed), "w", options={"live": "1"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    server = serve(minutes=0.3 / 60)
    visitor = server.visitor()
    job = sent(visitor, streamed)
    end = ended(visitor, job["id"])
    assert (end["state"], end["error"]) == ("failed", "live.mkv lasts more than 0.005 minutes.")
    assert server.files() == []
    for what in ("result", "source", "report"):
        answer = visitor.get(f"/jobs/{job['id']}/{what}")
        assert (answer.status_code, answer.json()) == (409, {"detail": end["error"]})


def test_what_is_not_done_has_no_result(serve: Serve, example: Path) -> None:
    visitor = serve().visitor()
    job = sent(visitor, example)
    for what in ("result", "report"):
        answer = visitor.get(f"/jobs/{job['id']}/{what}")
        assert answer.status_code == 409
        assert "not done yet" in answer.json()["detail"]
