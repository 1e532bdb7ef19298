import errno
import io
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from stream_unmask import provenance
from stream_unmask.errors import InputError, OptionError, OutputError
from stream_unmask.label import mark
from stream_unmask.provenance import Provenance, check_signing, sign, verify
from stream_unmask.video.image import read_image, write_image

OURS = f"stream-unmask {version('stream-unmask')}"
SUFFIXES = [".mp4", ".mov", ".jpg", ".jpeg", ".png", ".webp", ".PNG"]
NOBODY = "no known authority vouches for its signer"
EMAIL, CODE, DOCUMENTS = (f"1.3.6.1.5.5.7.3.{last}" for last in (4, 3, 36))  # uses of certificates


@pytest.fixture
def c2pa() -> Any:
    return pytest.importorskip("c2pa", reason="needs the extra `provenance`")


def noise(height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def make(path: Path, **tags: str) -> Path:
    """A small output of the suffix, with the mark unless other tags are given."""
    tags = tags or {"comment": mark()}
    if path.suffix.lower() not in (".mp4", ".mov", ".mkv", ".webm"):
        write_image(path, noise(), mark=tags.get("comment", ""))
        return path
    with av.open(str(path), "w") as container:
        container.metadata.update(tags)
        stream: Any = container.add_stream("mpeg4" if path.suffix != ".webm" else "vp8", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for shift in range(6):
            picture = np.roll(noise(), shift, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    return path


def decoded(path: Path) -> list[tuple[int, bytes]]:
    if path.suffix not in (".mp4", ".mov"):
        return [(0, read_image(path).tobytes())]
    with av.open(str(path)) as container:
        return [(frame.pts, frame.to_ndarray().tobytes()) for frame in container.decode(video=0)]


def change(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


@pytest.fixture
def authority(tmp_path: Path) -> Callable[..., tuple[Path, Path, Path]]:
    """A function that writes an authority's certificate, a signer's chain and the signer's key."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    keys: dict[str, Callable[[], Any]] = {
        "es256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "es512": lambda: ec.generate_private_key(ec.SECP521R1()),
        "ps256": lambda: rsa.generate_private_key(65537, 2048),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
    }

    def certificate(owner: Any, name: str, issuer: Any, top: bool, age: int, use: str) -> Any:
        start = datetime.now(UTC) - timedelta(days=age)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name.from_rfc4514_string(name))
            .issuer_name(x509.Name.from_rfc4514_string("CN=Town hall"))
            .public_key(owner.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=30))
            .add_extension(x509.BasicConstraints(top, None), True)
            .add_extension(x509.KeyUsage(*[not top, *[False] * 4, top, *[False] * 3]), True)
        )
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
        builder = builder.add_extension(identifier, False)
        if use:
            purposes = x509.ExtendedKeyUsage([x509.ObjectIdentifier(use)])
            builder = builder.add_extension(purposes, False)
        return builder.sign(issuer, hashes.SHA256())

    def write(
        name: str = "x", kind: str = "es256", password: bytes = b"", age: int = 1, use: str = EMAIL
    ) -> tuple[Path, Path, Path]:
        issuer, owner = keys["es256"](), keys[kind]()
        top = certificate(issuer, "CN=Town hall", issuer, True, age, "")
        leaf = certificate(owner, "CN=Ann,O=Smith & Co", issuer, False, age, use)
        lock = form.BestAvailableEncryption(password) if password else form.NoEncryption()
        paths = [tmp_path / f"{name}-{what}.pem" for what in ("top", "chain", "key")]
        top_pem, leaf_pem = (each.public_bytes(form.Encoding.PEM) for each in (top, leaf))
        paths[0].write_bytes(top_pem)
        paths[1].write_bytes(leaf_pem + top_pem)
        style = form.PrivateFormat.PKCS8
        paths[2].write_bytes(owner.private_bytes(form.Encoding.PEM, style, lock))
        return paths[0], paths[1], paths[2]

    return write


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_signed_file_says_what_it_is(tmp_path: Path, suffix: str, c2pa: Any) -> None:
    path = make(tmp_path / f"out{suffix}")
    assert verify(path) == Provenance(True, mark(), "none")
    before = decoded(path)
    sign(path, "A walk", "portrait")
    signer = "stream-unmask (self-made certificate)"
    assert verify(path) == Provenance(True, mark(), "untrusted", signer, OURS, (NOBODY,))
    assert decoded(path) == before
    assert [*tmp_path.iterdir()] == [path]


def test_what_the_manifest_says(tmp_path: Path, c2pa: Any) -> None:
    path = make(tmp_path / "out.jpg")
    sign(path, "A walk", "paper")
    report = json.loads(c2pa.Reader(path).json())
    manifest = report["manifests"][report["active_manifest"]]
    (assertion,) = [each for each in manifest["assertions"] if "actions" in each["label"]]
    created, edited = assertion["data"]["actions"]
    composite = "digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
    assert manifest["title"] == "A walk"
    assert manifest["claim_version"] == 2
    assert manifest["signature_info"]["alg"] == "Es256"
    assert "time" not in manifest["signature_info"]  # no time stamp
    assert "thumbnail" not in manifest
    assert (created["action"], edited["action"]) == ("c2pa.created", "c2pa.edited")
    assert created["digitalSourceType"].endswith(composite)
    assert edited["digitalSourceType"].endswith(composite)
    assert edited["softwareAgent"] == {"name": "stream-unmask", "version": OURS.split()[1]}
    assert edited["parameters"] == {"profile": "paper"}
    assert edited["description"] == mark()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_manifest_alone_tells(tmp_path: Path, suffix: str, c2pa: Any) -> None:
    path = make(tmp_path / f"out{suffix}", title="A walk")
    assert not verify(path).synthesised
    sign(path, "A walk", "portrait")
    found = verify(path)
    assert (found.synthesised, found.mark, found.manifest) == (True, None, "untrusted")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (mark().encode(), mark().replace("invented", "inverted").encode(), "changed"),
        (b"self-made certificate", b"Town hall certificate", "manifest was changed"),
        (b"portrait", b"portrais", "manifest was changed"),
        (None, None, "the file was changed"),
    ],
    ids=["mark", "signer", "profile", "pixel"],
)
def test_tampering_is_seen(
    tmp_path: Path, suffix: str, old: bytes | None, new: bytes | None, why: str, c2pa: Any
) -> None:
    path = make(tmp_path / f"out{suffix}")
    pixels = path.read_bytes()[-2500:-2490]  # amid them in all of these formats
    sign(path, "A walk", "portrait")
    change(path, old or pixels, new or bytes(byte ^ 1 for byte in pixels))
    found = verify(path)
    assert found.manifest == "invalid"
    assert why in found.problems[0]
    assert found.problems[-1] == NOBODY


def test_a_manifest_that_is_broken_does_not_hold(tmp_path: Path, c2pa: Any) -> None:
    path = make(tmp_path / "out.mp4")
    sign(path, "A walk", "portrait")
    change(path, b"jumdcbor", b"jumxcbor")
    found = verify(path)
    assert found.manifest == "invalid"
    assert found.problems
    assert "\n" not in "".join(found.problems)


def test_each_problem_is_named_once(tmp_path: Path, c2pa: Any) -> None:
    path = make(tmp_path / "out.mp4")
    sign(path, "A walk", "portrait")
    change(path, b"portrait", b"portrais")
    change(path, b"self-made certificate", b"Town hall certificate")
    assert verify(path).problems == ("the manifest was changed after it was signed", NOBODY)


def test_a_remuxed_file_has_lost_its_manifest(tmp_path: Path, c2pa: Any) -> None:
    path, copy = make(tmp_path / "out.mp4"), tmp_path / "copy.mp4"
    sign(path, "A walk", "portrait")
    with av.open(str(path)) as old, av.open(str(copy), "w") as new:
        new.metadata.update(old.metadata)
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    assert verify(copy) == Provenance(True, mark(), "none")


def test_other_tools_manifests_are_not_ours(
    tmp_path: Path, c2pa: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
    actions = {"actions": [{"action": "c2pa.created", "digitalSourceType": kind}]}
    foreign = {
        "claim_generator_info": [{"name": "Camera\x1b[2J"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": actions}],
    }
    monkeypatch.setattr(provenance, "_manifest", lambda *_: foreign)
    path = make(tmp_path / "out.jpg", title="A walk")
    sign(path, "A walk", "portrait")
    found = verify(path)
    assert (found.synthesised, found.manifest) == (False, "untrusted")
    assert found.generator == "Camera\x1b[2J"
    assert not any("\x1b" in sentence for sentence in found.sentences())


@pytest.mark.parametrize("kind", ["es256", "es384", "es512", "ps256", "ed25519"])
def test_own_certificates(tmp_path: Path, kind: str, c2pa: Any, authority: Any) -> None:
    top, chain, key = authority(kind=kind)
    path = make(tmp_path / "out.png")
    sign(path, "A walk", "portrait", chain, key)
    found = verify(path)
    assert (found.manifest, found.signer) == ("untrusted", "Ann (Smith & Co)")
    trusted = verify(path, top)
    assert (trusted.manifest, trusted.problems) == ("valid", ())
    assert verify(path, authority("other")[0]).manifest == "untrusted"
    with pytest.raises(OptionError, match="is no certificate in PEM"):
        verify(path, key)


@pytest.mark.parametrize("use", [DOCUMENTS, "1.3.6.1.4.1.311.76.59.1.9", "1.3.6.1.4.1.62558.2.1"])
def test_uses_of_certificates(tmp_path: Path, use: str, c2pa: Any, authority: Any) -> None:
    top, chain, key = authority(use=use)
    path = make(tmp_path / "out.png")
    sign(path, "A walk", "portrait", chain, key)
    assert verify(path).manifest == "untrusted"
    assert verify(path, top).manifest == "valid"


@pytest.mark.parametrize(
    ("certificate", "key", "sentence"),
    [
        ("a-chain", None, "both a certificate and its key"),
        (None, "a-key", "both a certificate and its key"),
        ("none", "a-key", "none.pem can't be read"),
        ("a-chain", "none", "none.pem can't be read"),
        ("a-key", "a-key", "a-key.pem is no certificate in PEM"),
        ("a-chain", "a-chain", "a-chain.pem is no private key in PEM"),
        ("a-chain", "locked-key", "locked-key.pem is no private key in PEM without a password"),
        ("a-chain", "b-key", "b-key.pem is not the key of .*a-chain.pem"),
        ("a-top", "a-key", "a-key.pem is not the key of .*a-top.pem"),
        ("old-chain", "old-key", "old-chain.pem can't sign .*not valid at time of signing"),
        ("bare-chain", "bare-key", "bare-chain.pem can't sign .*certificate is invalid"),
        ("code-chain", "code-key", r"certificate is invalid\)\.$"),
    ],
)
def test_bad_certificates_are_refused(
    tmp_path: Path, certificate: str | None, key: str | None, sentence: str,
    c2pa: Any, authority: Any,
) -> None:  # fmt: skip
    for name, settings in {
        "a": {}, "b": {}, "locked": {"password": b"x"}, "old": {"age": 60}, "bare": {"use": ""},
        "code": {"use": CODE},
    }.items():  # fmt: skip
        authority(name, **settings)
    path = make(tmp_path / "out.png")
    before, names = path.read_bytes(), {*tmp_path.iterdir()}
    options = [tmp_path / f"{name}.pem" if name else None for name in (certificate, key)]
    with pytest.raises(OptionError, match=sentence) as error:
        check_signing(path, *options)
    assert "\n" not in str(error.value)
    with pytest.raises(OptionError, match=sentence):
        sign(path, "A walk", "portrait", *options)
    assert path.read_bytes() == before
    assert {*tmp_path.iterdir()} == names


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".txt", ""])
def test_only_some_formats_can_be_signed(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(OutputError, match=r"can't be signed, only \.mp4, \.mov, \.jpg, .* can\."):
        check_signing(tmp_path / f"out{suffix}")
    with pytest.raises(OutputError, match="can't be signed, only"):
        sign(tmp_path / f"out{suffix}", "A walk", "portrait")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_can_be_signed_is_not_refused(tmp_path: Path, suffix: str, c2pa: Any) -> None:
    check_signing(tmp_path / f"out{suffix}")
    assert not [*tmp_path.iterdir()]


def failing_with(error: Exception) -> Callable[..., None]:
    def fail(_: Any, source: Any, target: Any, *rest: Any) -> None:
        target.write(b"half of it")
        raise error

    return fail


REFUSAL = "Verify: it failed:\n  code: why (self#jumbf=/c2pa/urn:1/c2pa.signature)"


@pytest.mark.parametrize(
    "where", ["library", "checks", "writing", "reading back", "unreadable", "name"]
)
def test_a_failure_leaves_the_file_as_it_was(
    tmp_path: Path, where: str, c2pa: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "out.png")
    if where == "library":
        path.write_bytes(b"no picture at all")
    before = path.read_bytes()

    def refuse(*_: Any) -> None:
        raise (InputError if where == "unreadable" else OutputError)("It is cut short.")

    if where in ("checks", "writing"):  # the check beforehand signs, too: it must not fail
        monkeypatch.setattr(provenance, "check_signing", lambda *_: None)
        error = OSError(errno.ENOSPC, "No space") if where == "writing" else c2pa.C2paError(REFUSAL)
        monkeypatch.setattr(provenance, "_seal", failing_with(error))
    if where == "reading back":
        bad = Provenance(True, None, "invalid", problems=("it was changed",))
        monkeypatch.setattr(provenance, "verify", lambda _: bad)
    if where in ("unreadable", "name"):
        monkeypatch.setattr(provenance, "verify" if where == "unreadable" else "publish", refuse)
    why = {
        "checks": "it failed: code: why",
        "writing": "No space",
        "reading back": "it was changed",
    }
    with pytest.raises(OutputError) as raised:
        sign(path, "A walk", "portrait")
    assert "\n" not in str(raised.value)
    if where in why:
        assert str(raised.value) == f"{path} can't be signed ({why[where]})."
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_what_is_in_the_way_stays(tmp_path: Path, c2pa: Any) -> None:
    path, other = make(tmp_path / "out.png"), tmp_path / "out.part.png"
    other.write_bytes(b"something else")
    before = path.read_bytes()
    with pytest.raises(OutputError):
        sign(path, "A walk", "portrait")
    assert other.read_bytes() == b"something else"
    assert path.read_bytes() == before


def test_a_missing_file_can_not_be_signed(tmp_path: Path, c2pa: Any) -> None:
    with pytest.raises(OutputError, match="can't be signed"):
        sign(tmp_path / "out.mp4", "A walk", "portrait")
    assert not [*tmp_path.iterdir()]


class Interrupting(io.FileIO):
    """A file in which somebody presses Ctrl-C, once, while it is read."""

    pressed = False

    def readinto(self, buffer: Any) -> int:
        if not self.pressed:
            self.pressed = True
            time.sleep(0.1)  # the main thread is surely waiting by then
            signal.raise_signal(signal.SIGINT)
        return super().readinto(buffer) or 0


def test_an_interrupt_is_not_lost(
    tmp_path: Path, c2pa: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "out.mp4")
    before, usual = path.read_bytes(), Path.open
    check_signing(path)

    def opened(self: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        return Interrupting(self) if self == path else usual(self, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(KeyboardInterrupt):
        sign(path, "A walk", "portrait")
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_nothing_is_fetched(tmp_path: Path, c2pa: Any) -> None:
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            pass

    path, kept = make(tmp_path / "plain.jpg"), tmp_path / "out.jpg"
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            info = c2pa.C2paSignerInfo(*provenance._credentials(None, None), None)
            builder = c2pa.Builder(provenance._manifest("A walk", "portrait"))
            builder.set_no_embed()
            builder.set_remote_url(f"http://127.0.0.1:{server.server_port}/manifest")
            with path.open("rb") as source, kept.open("w+b") as target:
                builder.sign(c2pa.Signer.from_info(info), "image/jpeg", source, target)
            found = verify(kept)
        finally:
            server.shutdown()
            thread.join()
    assert not asked
    assert found.manifest == "unknown"
    assert "remote" in found.problems[0]


def test_a_signature_holds_for_long(c2pa: Any) -> None:
    from cryptography import x509

    _, chain, _ = provenance._credentials(None, None)
    (certificate,) = x509.load_pem_x509_certificates(chain)
    assert certificate.not_valid_before_utc < datetime.now(UTC) - timedelta(hours=12)
    assert certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=20 * 365)
    assert provenance._credentials(None, None)[2] != provenance._credentials(None, None)[2]


@pytest.mark.parametrize("module", ["c2pa", "cryptography"])
@pytest.mark.parametrize("suffix", [".mp4", ".png"])
def test_without_the_extra(
    tmp_path: Path, suffix: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    path = make(tmp_path / f"out{suffix}")
    before = path.read_bytes()
    sentence = (
        r"^Signing needs the package c2pa-python: pip install 'stream-unmask\[provenance\]'\.$"
    )
    with pytest.raises(OptionError, match=sentence):
        check_signing(path)
    with pytest.raises(OptionError, match=sentence):
        sign(path, "A walk", "portrait")
    assert path.read_bytes() == before
    found = verify(path)
    assert (found.synthesised, found.mark, found.manifest) == (True, mark(), "unknown")
    assert "stream-unmask[provenance]" in found.sentences()[1]
    assert not verify(make(tmp_path / f"plain{suffix}", title="A walk")).synthesised


def test_neither_library_is_loaded_by_the_import() -> None:
    code = "import sys, stream_unmask.provenance; print({'c2pa', 'cryptography'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
        cwd=Path(__file__).parents[1], check=True,
    )  # fmt: skip
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_formats_without_a_place_for_a_manifest(tmp_path: Path, suffix: str) -> None:
    found = verify(make(tmp_path / f"out{suffix}"))
    assert (found.synthesised, found.mark) == (True, mark())
    assert found.manifest in ("none", "unknown")


@pytest.mark.parametrize("suffix", [".mp4", ".jpg"])
def test_names_do_not_matter(
    tmp_path: Path, suffix: str, c2pa: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / f"out{suffix}")
    sign(path, "A walk", "portrait")
    monkeypatch.chdir(tmp_path)
    for name in ("-", "copy.txt", "copy.avi"):
        path = path.rename(name)
        found = verify(path)
        assert (found.mark, found.manifest) == (mark(), "untrusted")


def test_marks_of_other_versions_and_beside_other_tags(tmp_path: Path) -> None:
    newer = mark().replace(version("stream-unmask"), "12.0.1rc3")
    path = make(tmp_path / "out.mp4", title="Box", comment=f"{newer}\nA holiday")
    assert verify(path).mark == newer
    assert verify(make(tmp_path / "out.jpg", comment=f"Box {newer}")).mark == newer


@pytest.mark.parametrize("suffix", [".mp4", ".jpg"])
def test_other_comments_are_no_mark(tmp_path: Path, suffix: str) -> None:
    path = make(tmp_path / f"out{suffix}", comment="Faces in this file were synthesised by hand.")
    found = verify(path)
    assert (found.synthesised, found.mark) == (False, None)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.mp4", None),
        ("empty.png", b""),
        ("text.mp4", b"no video at all"),
        ("text.jpg", b"no picture at all"),
        ("cut.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xda\0"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name) as error:
        verify(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        verify(tmp_path)


@pytest.mark.parametrize(
    ("found", "parts"),
    [
        (Provenance(True, "M.", "none"), ["Its metadata say: M.", "It has no C2PA manifest."]),
        (
            Provenance(True, None, "untrusted", "Ann", "tool 1", ("why",)),
            ["no mark", "whole, but why", "by tool 1 and signed by Ann", "synthesised"],
        ),
        (Provenance(True, "M.", "valid", "Ann", None), ["M.", "trusted", "unnamed tool"]),
        (Provenance(True, "M.", "invalid", None, None, ("a", "b")), ["M.", "not hold: a; b."]),
        (Provenance(False, None, "unknown", None, None, ("a",)), ["no mark", ": a.", "real"]),
        (Provenance(False, None, "none"), ["no mark", "no C2PA manifest", "real"]),
    ],
)
def test_sentences(found: Provenance, parts: list[str]) -> None:
    sentences = found.sentences()
    assert len(sentences) == len(parts)
    assert all(part in sentence for part, sentence in zip(parts, sentences, strict=True))
