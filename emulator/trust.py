"""The emulator's own certificates and the fake account for its clients, created on first use in one folder.

The private CA's key never leaves that folder. Functions import `cryptography` themselves, so that a start
which creates and checks nothing does not pay for it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib.util
import ipaddress
import json
import os
import re
import socket
import ssl
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_CA_LIFE = dt.timedelta(days=3650)
# Apple's and other strict verifiers accept no longer lifetime for a server certificate.
_SERVER_LIFE = dt.timedelta(days=397)
_RENEW_BEFORE = dt.timedelta(days=30)
# The clocks of a container and its host may differ.
_BACKDATED = dt.timedelta(days=1)
# Variables that may name a company's own root certificates. `vertex-emulator env` sets them to the bundle.
_ROOTS_VARIABLES = (
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "NODE_EXTRA_CA_CERTS",
)
_CERTIFICATE = re.compile(b"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
#: The token endpoint of Google's own accounts. In alias mode this host name resolves to the emulator.
GOOGLE_TOKEN_URI = "https://oauth2.googleapis.com/token"
_ACCOUNT = "emulator@vertex-emulator.iam.gserviceaccount.com"


class CertificateError(Exception):
    """A certificate cannot be made or read; the message names the cause and the remedy."""


@dataclass(frozen=True)
class ClientFiles:
    """The files that clients may read, in the folder or in a copy. `alias`: the client uses alias mode."""

    folder: Path
    alias: bool = False

    @property
    def ca(self) -> Path:
        """The private CA's certificate (PEM), which clients must trust."""
        return self.folder / "ca.pem"

    @property
    def bundle(self) -> Path:
        """The private CA's certificate and the public roots (PEM), to replace a client's own roots."""
        return self.folder / "ca-bundle.pem"

    @property
    def java_bundle(self) -> Path:
        """The same certificates as a trust store for the JVM (PKCS #12, no password)."""
        return self.folder / "ca-bundle.p12"

    @property
    def account(self) -> Path:
        """A fake service account's JSON file: its key grants nothing, the emulator issues its tokens."""
        return self.folder / ("service-account-alias.json" if self.alias else "service-account.json")

    @property
    def token(self) -> Path:
        """A file with an access token that grants nothing."""
        return self.folder / "access-token"


@dataclass(frozen=True)
class Certificates(ClientFiles):
    """All files of the folder. They exist once `prepare` has returned."""

    @property
    def server(self) -> Path:
        """The server's key and certificate (PEM), in one file so that they always match."""
        return self.folder / "server.pem"

    def copy_for_clients(self, folder: Path) -> ClientFiles:
        """Copy the files for clients to `folder`, readable by every user. The server's keys stay.

        Raises:
            OSError: the folder cannot be used.
        """
        copies = ClientFiles(folder.absolute())
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("ca", "bundle", "java_bundle", "account", "token"):
            source: Path = getattr(self, name)
            _write_if_other(getattr(copies, name), source.read_bytes(), 0o644)
        return copies

    @property
    def _ca_key(self) -> Path:
        return self.folder / "ca-key.pem"


def prepare(
    folder: Path,
    names: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    *,
    token_uri: str | None = None,
) -> Certificates:
    """Create what is missing, expires soon or no longer matches `names`; keep the rest.

    Args:
        folder: the folder of the files, created with mode 0700. Several processes may call this at once.
        names: host names and IP addresses to certify besides `localhost`, 127.0.0.1, ::1, this host's
            name, `*.googleapis.com` and `*.storage.googleapis.com`.
        environ: the environment of the clients; the root certificates that it names join the bundle.
        token_uri: the token endpoint for the account, `http://HOST:PORT/token`; None keeps the endpoint of an
            existing account.

    Raises:
        CertificateError: a name is no host name or IP address, or a certificate in the folder is unreadable.
        OSError: the folder cannot be used.
    """
    alternatives = _alternatives(names)
    files = Certificates(folder.absolute())
    files.folder.mkdir(parents=True, exist_ok=True)
    files.folder.chmod(0o700)
    with _locked(files.folder / "lock"):
        _prepare_authority(files, alternatives)
        _prepare_bundle(files, environ)
        _prepare_java_bundle(files)
        _prepare_accounts(files, token_uri)
        if not files.token.exists():
            _write(files.token, b"vertex-emulator-token\n", 0o600)
    return files


def server_context(files: Certificates) -> ssl.SSLContext:
    """Return the server's TLS context. ALPN: `http/1.1` if the client offers it, else `h2`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.server)
    context.set_alpn_protocols(["http/1.1", "h2"])  # in the server's order of preference
    return context


def _prepare_authority(files: Certificates, alternatives: Sequence[x509.GeneralName]) -> None:
    try:
        authority = _load_authority(files)
        is_current = _is_current(files.server, authority[1], alternatives) if authority else False
    except ValueError as error:
        raise CertificateError(
            f"A certificate in {files.folder} cannot be read ({error}). Delete the folder; it is made anew,"
            " and clients that read its files before have to be started again."
        ) from error
    if authority is None:
        authority = _issue_authority(files)
    if not is_current:
        _issue_server(files, authority, alternatives)


def _load_authority(files: Certificates) -> tuple[EllipticCurvePrivateKey, x509.Certificate] | None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if not (files._ca_key.exists() and files.ca.exists()):
        return None
    key: Any = load_pem_private_key(files._ca_key.read_bytes(), None)
    certificate = x509.load_pem_x509_certificate(files.ca.read_bytes())
    # Key and certificate do not match if a process died between writing them.
    if certificate.public_key() != key.public_key() or _expires_soon(certificate):
        return None
    return key, certificate


def _is_current(path: Path, authority: x509.Certificate, alternatives: Sequence[x509.GeneralName]) -> bool:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    if not path.exists():
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    certified = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return list(certified) == list(alternatives) and not _expires_soon(certificate)


def _expires_soon(certificate: x509.Certificate) -> bool:
    return certificate.not_valid_after_utc - dt.datetime.now(dt.UTC) < _RENEW_BEFORE


# trustme 1.2 was tried here. It refuses names with an underscore, which Compose services have, gives its CA
# the years 2000 to 3000, and certifies clients and code besides the server.
def _issue_authority(files: Certificates) -> tuple[EllipticCurvePrivateKey, x509.Certificate]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    # The number distinguishes the CAs of two data folders in a client's list of trusted CAs.
    name = f"Vertex emulator, private CA {os.urandom(4).hex()}"
    usage = _key_usage(key_cert_sign=True, crl_sign=True)
    certificate = (
        _builder(name, name, key, _CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(files._ca_key, _pem_of(key), 0o600)
    _write(files.ca, _pem_of(certificate), 0o644)
    return key, certificate


def _issue_server(
    files: Certificates,
    authority: tuple[EllipticCurvePrivateKey, x509.Certificate],
    alternatives: Sequence[x509.GeneralName],
) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    ca_key, ca = authority
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = ca.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    certificate = (
        _builder("Vertex emulator", str(issuer), key, _SERVER_LIFE)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    _write(files.server, _pem_of(key) + _pem_of(certificate), 0o600)


def _builder(
    subject: str, issuer: str, key: EllipticCurvePrivateKey, life: dt.timedelta
) -> x509.CertificateBuilder:
    from cryptography import x509

    now = dt.datetime.now(dt.UTC)
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in (subject, issuer)]
    return (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now - _BACKDATED + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(**uses: bool) -> x509.KeyUsage:
    from cryptography import x509

    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{use: uses.get(use, False) for use in every})


def _pem_of(thing: Any) -> bytes:
    """Return a key or a certificate as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    if isinstance(thing, x509.Certificate):
        return thing.public_bytes(serialization.Encoding.PEM)
    written: bytes = thing.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return written


def _alternatives(names: Sequence[str]) -> list[x509.GeneralName]:
    # Clients accept a wildcard only as a whole label (RFC 6125): `*-aiplatform.googleapis.com` never matches.
    google = ["*.googleapis.com", "*.storage.googleapis.com"]
    wanted = ["localhost", "127.0.0.1", "::1", *google, *names]
    host = socket.gethostname()
    with contextlib.suppress(CertificateError):  # a certificate may be unable to hold the host's name
        _alternative(host)
        wanted.append(host)
    return [_alternative(name) for name in dict.fromkeys(name.lower() for name in wanted)]


def _alternative(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        pass
    try:
        label, dot, rest = name.partition(".")
        text = f"*.{rest.encode('idna').decode()}" if label == "*" and dot else name.encode("idna").decode()
        if not text or any(char in text for char in " /:@"):
            raise ValueError("no host name")
        return x509.DNSName(text)
    except ValueError as error:
        raise CertificateError(
            f"{name!r} is no host name or IP address that a certificate can hold. Correct --tls-names."
        ) from error


def _prepare_accounts(files: Certificates, token_uri: str | None) -> None:
    """Create the account, or update the token endpoint of the existing one. Its key stays the same."""
    account = _known_account(files.account) or _new_account()
    usual = token_uri or account["token_uri"]
    for alias, uri in ((False, usual), (True, GOOGLE_TOKEN_URI)):
        content = json.dumps({**account, "token_uri": uri}, indent=2).encode()
        _write_if_other(replace(files, alias=alias).account, content, 0o600)


def _known_account(path: Path) -> dict[str, Any] | None:
    try:
        account = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return account if isinstance(account, dict) and {"private_key", "token_uri"} <= account.keys() else None


def _new_account() -> dict[str, Any]:
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return {
        "type": "service_account",
        "project_id": "vertex-emulator",
        "private_key_id": os.urandom(20).hex(),
        "private_key": _pem_of(key).decode(),
        "client_email": _ACCOUNT,
        "client_id": str(int.from_bytes(os.urandom(8), "big")).zfill(21),
        "token_uri": "http://localhost:8080/token",
        "universe_domain": "googleapis.com",
    }


def _prepare_bundle(files: Certificates, environ: Mapping[str, str] | None) -> None:
    ca = files.ca.read_bytes()
    has_bundle = files.bundle.exists() and files.bundle.read_bytes().startswith(ca)
    own = [Path(environ[name]) for name in _ROOTS_VARIABLES if environ.get(name)] if environ else []
    # If the environment already names this bundle, it no longer says which roots it named before: keep it.
    if has_bundle and (environ is None or files.bundle in own):
        return
    content = b"".join(path.read_bytes() for path in [*own, *_public_roots()] if path.is_file())
    roots = dict.fromkeys(_CERTIFICATE.findall(content))
    _write_if_other(files.bundle, ca + b"".join(root + b"\n" for root in roots), 0o644)


def _prepare_java_bundle(files: Certificates) -> None:
    store = files.java_bundle
    if store.exists() and store.stat().st_mtime_ns >= files.bundle.stat().st_mtime_ns:
        return
    from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

    found = map(_certificate, _CERTIFICATE.findall(files.bundle.read_bytes()))
    trusted = [
        pkcs12.PKCS12Certificate(certificate, f"vertex-emulator-{number}".encode())
        for number, certificate in enumerate(found)
        if certificate is not None
    ]
    _write(store, pkcs12.serialize_java_truststore(trusted, NoEncryption()), 0o644)


def _certificate(text: bytes) -> x509.Certificate | None:
    """Parse one root certificate; None if it is malformed, so that no client could trust it either."""
    from cryptography import x509

    with warnings.catch_warnings(action="ignore"):  # some public roots predate today's rules
        try:
            return x509.load_pem_x509_certificate(text)
        except ValueError:
            return None


def _public_roots() -> list[Path]:
    """Return the file of public roots for other connections: certifi's, else the system's, else []."""
    found = importlib.util.find_spec("certifi")
    candidates = [Path(found.origin).with_name("cacert.pem")] if found and found.origin else []
    system = ssl.get_default_verify_paths().openssl_cafile
    candidates += map(Path, (system, "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem"))
    return [path for path in candidates if path.is_file()][:1]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("wb") as file:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_if_other(path: Path, content: bytes, mode: int) -> None:
    if not path.exists() or path.read_bytes() != content:
        _write(path, content, mode)


def write_private(path: Path, content: bytes) -> None:
    """Write a file atomically, with mode 0600."""
    _write(path, content, 0o600)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file atomically. It never has wider permissions than `mode`."""
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
