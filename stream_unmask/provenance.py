"""Signs what was made (a C2PA manifest inside the file), and reads what a file says of itself.

All of it works offline: no time stamp is asked for, no manifest and no trust list are fetched. The
package c2pa-python is an extra, loaded only when something is signed or read.
"""

from __future__ import annotations  # cryptography's types are for the type checker only

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import partial
from importlib import import_module
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar

from stream_unmask.errors import InputError, OptionError, OutputError
from stream_unmask.label import mark
from stream_unmask.video.metadata import is_cut, kind_of
from stream_unmask.video.source import Limits, open_source
from stream_unmask.video.target import claim, publish

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.x509 import Certificate

_T = TypeVar("_T")
Verdict = Literal["valid", "invalid", "untrusted", "none", "unknown"]

# The outputs that can hold a manifest, by suffix. C2PA has no place for one in Matroska and WebM.
SIGNABLE = {
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}
_NAME = "stream-unmask"
_INSTALL = "pip install 'stream-unmask[provenance]'"
_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
# What a signer's certificate may be for; of itself the library takes the first three only.
_PURPOSES = (
    "1.3.6.1.5.5.7.3.4",  # e-mail
    "1.3.6.1.5.5.7.3.8",  # time stamps
    "1.3.6.1.5.5.7.3.9",  # the state of certificates
    "1.3.6.1.5.5.7.3.36",  # documents
    "1.3.6.1.4.1.311.76.59.1.9",  # C2PA by Microsoft
    "1.3.6.1.4.1.62558.2.1",  # C2PA
)
_SETTINGS: dict[str, Any] = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
    # Copies of what is larger wait in a temporary file instead of in memory.
    "core": {"backing_store_memory_threshold_in_mb": 64},
    "trust": {"trust_config": "\n".join(_PURPOSES)},
}
_FILE, _MANIFEST = (f"the {part} was changed after it was signed" for part in ("file", "manifest"))
_WORDS = {
    "assertion.bmffHash.mismatch": _FILE,
    "assertion.boxesHash.mismatch": _FILE,
    "assertion.dataHash.mismatch": _FILE,
    "assertion.hashedURI.mismatch": _MANIFEST,
    "claimSignature.mismatch": _MANIFEST,
    "signingCredential.expired": "the signer's certificate has expired",
    "signingCredential.untrusted": "no known authority vouches for its signer",
}


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a file says of itself.

    synthesised: the mark stands in the metadata or in a manifest. mark: the one in the metadata.
    manifest: "valid" (whole, by a trusted signer), "untrusted" (whole, by anybody), "invalid",
    "none", or "unknown" (it could not be looked at). signer, generator: whom and what the manifest
    names. problems: in words, what speaks against the manifest, or why it is unknown.
    """

    synthesised: bool
    mark: str | None
    manifest: Verdict
    signer: str | None = None
    generator: str | None = None
    problems: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """The same for a human, a sentence each."""
        why = "; ".join(self.problems)
        manifest = {
            "valid": "Its C2PA manifest is whole, and its signer is trusted.",
            "untrusted": f"Its C2PA manifest is whole, but {why}.",
            "invalid": f"Its C2PA manifest does not hold: {why}.",
            "none": "It has no C2PA manifest.",
            "unknown": f"Whether it has a C2PA manifest is unknown: {why}.",
        }
        said = [f"Its metadata say: {self.mark}" if self.mark else "Its metadata hold no mark."]
        said.append(manifest[self.manifest])
        if self.generator or self.signer:
            tool, signer = self.generator or "an unnamed tool", self.signer or "nobody named"
            said.append(f"The manifest says that it was made by {tool} and signed by {signer}.")
        if self.synthesised and not self.mark:
            said.append(f"The manifest says that faces were synthesised by {_NAME}.")
        if not self.synthesised:
            said.append("That doesn't make its faces real: marks and manifests get lost easily.")
        # The file's own words must not steer a terminal.
        return ["".join(filter(str.isprintable, sentence)) for sentence in said]


def check_signing(target: Path, certificate: Path | None = None, key: Path | None = None) -> None:
    """Nothing comes back; raises what `sign` would raise, as far as it can be known beforehand."""
    if target.suffix.lower() not in SIGNABLE:
        raise OutputError(f"{target} can't be signed, only {', '.join(SIGNABLE)} can.")
    c2pa = _c2pa()
    if c2pa is None:
        raise OptionError(f"Signing needs the package c2pa-python: {_INSTALL}.")
    credentials = _credentials(certificate, key)
    drawing = BytesIO(b'<svg xmlns="http://www.w3.org/2000/svg"></svg>')
    try:  # C2PA has rules of its own for certificates, so only a signature tells
        _apart(_seal, c2pa, drawing, BytesIO(), "image/svg+xml", _manifest("", ""), credentials)
    except c2pa.C2paError as error:
        subject = certificate or "A certificate made on the spot"
        raise OptionError(f"{subject} can't sign ({_reason(error)}).") from error


def sign(
    path: Path, title: str, profile: str, certificate: Path | None = None, key: Path | None = None
) -> None:
    """Nothing comes back; the finished file holds a signed manifest that says what was done.

    title: what the manifest calls the file. certificate, key: PEM files, the certificate with those
    that lead to its authority behind it; without them a signer is made up whom nobody trusts. The
    signed file takes the name of the other only after it was read back as whole. Raises
    OutputError, and OptionError for what `check_signing` finds wrong with the options.
    """
    check_signing(path, certificate, key)
    c2pa, kind, credentials = _c2pa(), SIGNABLE[path.suffix.lower()], _credentials(certificate, key)
    part = claim(path, None, overwrite=True)
    try:
        with path.open("rb") as source, part.open("w+b") as target:
            _apart(_seal, c2pa, source, target, kind, _manifest(title, profile), credentials)
        found = verify(part)
        if found.manifest not in ("valid", "untrusted"):
            raise OutputError(f"{path} can't be signed ({'; '.join(found.problems)}).")
        publish(part, path)
    except (c2pa.C2paError, InputError, OSError) as error:
        raise OutputError(f"{path} can't be signed ({_reason(error)}).") from error
    finally:
        part.unlink(missing_ok=True)


def verify(path: Path, anchors: Path | None = None) -> Provenance:
    """What the file says of itself, and whether that holds; InputError if it can't be read.

    anchors: a PEM file with the certificates of the authorities to trust. None are built in, so
    that without it the best verdict is "untrusted". OptionError if it can't be read.
    """
    own, c2pa = _find_mark(_metadata(path)), _c2pa()
    if c2pa is None:
        missing = f"the package c2pa-python is not installed: {_INSTALL}"
        return Provenance(own is not None, own, "unknown", problems=(missing,))
    trusted = {"trust_anchors": _pem(_certificates(anchors)).decode()} if anchors else {}
    settings = _SETTINGS | {"trust": _SETTINGS["trust"] | trusted}
    try:
        report = _apart(_read, c2pa, path, settings)
    except c2pa.C2paError as error:
        unread = str(error).startswith(("Remote:", "Other: asset could not be parsed"))
        verdict: Verdict = "unknown" if unread else "invalid"
        return Provenance(own is not None, own, verdict, problems=(_reason(error),))
    return _judged(own, report) if report else Provenance(own is not None, own, "none")


def _judged(own: str | None, report: dict[str, Any]) -> Provenance:
    """C2PA's report in our terms."""
    verdicts: dict[str | None, Verdict] = {"Trusted": "valid", "Valid": "untrusted"}
    active = report["manifests"].get(report.get("active_manifest"), {})
    tool = (active.get("claim_generator_info") or [{}])[0]
    seal = active.get("signature_info") or {}
    signer, issuer = seal.get("common_name"), seal.get("issuer")
    return Provenance(
        synthesised=bool(own or _find_mark(json.dumps(report).encode())),
        mark=own,
        manifest=verdicts.get(report.get("validation_state"), "invalid"),
        signer=f"{signer} ({issuer})" if signer and issuer else signer or issuer,
        generator=" ".join(filter(None, map(tool.get, ("name", "version")))) or None,
        problems=_in_words(report.get("validation_status") or []),
    )


def _in_words(failures: list[dict[str, str]]) -> tuple[str, ...]:
    """Each kind of failure once, and last what is true of whole files as well."""
    reasons = {fail["code"]: fail.get("explanation", "a check failed") for fail in failures}
    codes = sorted(reasons, key=lambda code: code == "signingCredential.untrusted")
    return tuple(dict.fromkeys(_WORDS.get(code, f"{reasons[code]} [{code}]") for code in codes))


def _metadata(path: Path) -> bytes:
    """Where to look for the mark: the tags of a video, the whole file of a picture."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
            data = head + file.read() if kind_of(head) else b""
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}).") from error
    if is_cut(data):
        raise InputError(f"{path} is cut short.")
    if data:
        return data
    # Absolute, as "-" would be the standard input.
    with open_source(str(path.absolute()), Limits(), Fraction(25)) as container:
        return "\n".join(container.metadata.values()).encode()


def _find_mark(data: bytes) -> str | None:
    """The mark of any version of this package, outside of manifests."""
    before, after = (re.escape(part.encode()) for part in mark().split(version(_NAME)))
    for found in re.finditer(before + rb"\S{1,40}" + after, data):
        text, at = found[0], found.start()
        if data[at - 2 : at] != b"x" + bytes([len(text)]):  # how a string begins in a manifest
            return text.decode(errors="replace")
    return None


def _manifest(title: str, profile: str) -> dict[str, Any]:
    agent = {"name": _NAME, "version": version(_NAME)}
    common = {"digitalSourceType": _SOURCE, "softwareAgent": agent}
    created = {"action": "c2pa.created", **common}  # C2PA wants to know first where it comes from
    edited = {"action": "c2pa.edited", **common, "description": mark()}
    actions = [created, {**edited, "parameters": {"profile": profile}}]
    assertion = {"label": "c2pa.actions.v2", "data": {"actions": actions}}
    return {"claim_generator_info": [agent], "title": title, "assertions": [assertion]}


def _c2pa() -> Any:
    """The library, None if it is not installed."""
    try:
        import_module("cryptography")
        return import_module("c2pa")
    except (ImportError, RuntimeError):  # RuntimeError: its native part is not for this machine
        return None


def _apart(function: Callable[..., _T], *args: Any) -> _T:
    """What the function returns, called in a thread of its own.

    The native library reads and writes through callbacks in Python. An interrupt that was raised
    in one of them would be swallowed, and a file cut short be taken for whole; the main thread
    raises it after the call has ended.
    """
    with ThreadPoolExecutor(1) as worker:
        return worker.submit(function, *args).result()


def _seal(
    c2pa: Any, source: IO[bytes], target: IO[bytes], kind: str,
    manifest: dict[str, Any], credentials: tuple[str, bytes, bytes],
) -> None:  # fmt: skip
    """Nothing comes back; `target` is `source` with the manifest, without a time stamp."""
    with (
        c2pa.Signer.from_info(c2pa.C2paSignerInfo(*credentials, None)) as signer,
        c2pa.Context.from_dict(_SETTINGS) as context,
        c2pa.Builder(manifest, context) as builder,
    ):
        builder.sign(signer, kind, source, target)


def _read(c2pa: Any, path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """C2PA's report on the file, None without a manifest."""
    with path.open("rb") as file, c2pa.Context.from_dict(settings) as context:
        try:  # by content: a name says little
            with c2pa.Reader(file, context=context) as reader:
                report: dict[str, Any] = json.loads(reader.json())
                return report
        except (c2pa.C2paError.ManifestNotFound, c2pa.C2paError.NotSupported):
            return None  # NotSupported: a format that has no place for one


def _reason(error: Exception) -> str:
    """The error's text in one line, without its class and the addresses in the manifest."""
    text = (isinstance(error, OSError) and error.strerror) or str(error)
    return " ".join(re.sub(r"^[A-Z]\w+: |\(self#[^)]*\)", "", text).split()).rstrip(".")


def _credentials(certificate: Path | None, key: Path | None) -> tuple[str, bytes, bytes]:
    """The algorithm, the chain of certificates and the key, from the files or made up."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if (certificate is None) != (key is None):
        raise OptionError("Signing takes both a certificate and its key, or neither.")
    private: Any = ec.generate_private_key(ec.SECP256R1())
    if key:
        load = partial(form.load_pem_private_key, password=None)
        private = _load(key, load, "private key in PEM without a password")
    chain = _certificates(certificate) if certificate else [_made_up(private.public_key())]
    if private.public_key() != chain[0].public_key():
        raise OptionError(f"{key} is not the key of {certificate}.")
    algorithm = "ps256" if isinstance(private, rsa.RSAPrivateKey) else "ed25519"
    if isinstance(private, ec.EllipticCurvePrivateKey):
        algorithm = {384: "es384", 521: "es512"}.get(private.key_size, "es256")
    plain = private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    return algorithm, _pem(chain), plain


def _load(path: Path, load: Callable[[bytes], _T], what: str) -> _T:
    """What the file holds; OptionError if it can't be read or is not `what`."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return load(path.read_bytes())
    except OSError as error:
        raise OptionError(f"{path} can't be read ({error.strerror}).") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise OptionError(f"{path} is no {what}.") from error


def _certificates(path: Path) -> list[Certificate]:
    from cryptography.x509 import load_pem_x509_certificates

    return _load(path, load_pem_x509_certificates, "certificate in PEM")


def _pem(chain: list[Certificate]) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)


def _made_up(owner: EllipticCurvePublicKey) -> Certificate:
    """A certificate for the key, by an authority that is forgotten at once.

    It is good for long, as without a time stamp a file counts as invalid once its certificate has
    expired. That gives nothing away: the key is forgotten, too.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    issuer = ec.generate_private_key(ec.SECP256R1())
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    purpose = x509.ExtendedKeyUsage([x509.ObjectIdentifier(_PURPOSES[0])])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(x509.Name.from_rfc4514_string("CN=made for one file"))
        .subject_name(x509.Name.from_rfc4514_string(f"CN={_NAME},O=self-made certificate"))
        .public_key(owner)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30 * 365))
        # What C2PA demands of a signer.
        .add_extension(x509.KeyUsage(True, *[False] * 8), critical=True)
        .add_extension(purpose, critical=False)
        .add_extension(issuer_id, critical=False)
        .sign(issuer, hashes.SHA256())
    )
