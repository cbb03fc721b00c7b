"""The private CA, the certificate and the fake account: real files, real handshakes, google-auth."""

import datetime as dt
import json
import multiprocessing
import ssl
import stat
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, pkcs12
from google.oauth2 import service_account

from emulator.trust import CertificateError, Certificates, prepare, server_context


def contents(files: Certificates) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in files.folder.iterdir()}


def certificate(files: Certificates) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files.server.read_bytes())


def verifies(files: Certificates, name: str, trusted: Path) -> bool:
    """Shake hands without a socket, as strictly as OpenSSL can."""
    context = ssl.create_default_context(cafile=str(trusted))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_context(files).wrap_bio(to_server, to_client, server_side=True)
    try:
        for side in (client, server, client):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError:
        return False
    return client.version() == "TLSv1.3"


@pytest.fixture
def files(tmp_path: Path) -> Certificates:
    return prepare(tmp_path / "tls", ["vertex.test", "10.1.2.3"])


@pytest.mark.parametrize(
    "name",
    [
        "localhost",
        "127.0.0.1",
        "::1",
        "us-central1-aiplatform.googleapis.com",
        "aiplatform.googleapis.com",
        "storage.googleapis.com",
        "my-bucket.storage.googleapis.com",
        "oauth2.googleapis.com",
        "vertex.test",
        "10.1.2.3",
    ],
)
def test_certificate_is_good_for_every_name(files: Certificates, name: str) -> None:
    assert verifies(files, name, files.ca)
    assert verifies(files, name, files.bundle)


def test_certificate_is_good_for_no_other_name_and_under_no_other_ca(files: Certificates) -> None:
    assert not verifies(files, "example.com", files.ca)
    assert not verifies(files, "localhost", Path(certifi.where()))


@pytest.mark.parametrize("name", ["vertex_emulator", "my_service.local"])
def test_name_of_a_service_may_have_underscores(tmp_path: Path, name: str) -> None:
    files = prepare(tmp_path / "tls", [name])
    assert verifies(files, name, files.ca)


def test_certificates_say_what_they_are_for_and_no_more(files: Certificates) -> None:
    authority = x509.load_pem_x509_certificate(files.ca.read_bytes())
    limits = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (limits.critical, limits.value) == (True, x509.BasicConstraints(ca=True, path_length=0))
    assert authority.not_valid_after_utc - authority.not_valid_before_utc == dt.timedelta(days=3650)
    extensions = certificate(files).extensions
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    # RFC 8813, section 3: a certificate of an elliptic curve's key enciphers no keys.
    assert usage.digital_signature
    assert not usage.key_encipherment


def test_only_the_owner_reads_the_keys(files: Certificates) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files.folder.iterdir()}
    accounts = {"service-account.json", "service-account-alias.json"}
    secret = {"ca-key.pem", "server.pem", "access-token", *accounts}
    assert {name for name, mode in modes.items() if mode == 0o600} == secret
    assert stat.S_IMODE(files.folder.stat().st_mode) == 0o700


def test_no_other_file_holds_the_cas_key(files: Certificates) -> None:
    key = (files.folder / "ca-key.pem").read_bytes()
    assert [name for name, content in contents(files).items() if key in content] == ["ca-key.pem"]


def test_everything_is_kept_across_restarts(files: Certificates) -> None:
    before = contents(files)
    prepare(files.folder, ["vertex.test", "10.1.2.3"])
    assert contents(files) == before


def test_other_names_get_another_certificate_from_the_same_ca(files: Certificates) -> None:
    before = contents(files)
    prepare(files.folder, ["other.test"])
    changed = {name for name, content in contents(files).items() if content != before[name]}
    assert changed == {"server.pem"}
    assert verifies(files, "other.test", files.ca)
    assert not verifies(files, "vertex.test", files.ca)


def test_certificate_about_to_expire_is_replaced(files: Certificates) -> None:
    current = certificate(files)
    ca_key = load_pem_private_key((files.folder / "ca-key.pem").read_bytes(), None)
    server_key = load_pem_private_key(files.server.read_bytes(), None)
    builder = (
        x509.CertificateBuilder()
        .subject_name(current.subject)
        .issuer_name(current.issuer)
        .public_key(server_key.public_key())  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(current.not_valid_before_utc)
        .not_valid_after(dt.datetime.now(dt.UTC) + dt.timedelta(days=29))
    )
    for extension in current.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    old = builder.sign(ca_key, hashes.SHA256())  # type: ignore[arg-type]
    head = files.server.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")[0]
    files.server.write_bytes(head + old.public_bytes(Encoding.PEM))
    prepare(files.folder, ["vertex.test", "10.1.2.3"])
    left = certificate(files).not_valid_after_utc - dt.datetime.now(dt.UTC)
    assert dt.timedelta(days=390) < left < dt.timedelta(days=398)


def test_ca_without_its_key_is_made_anew_with_all_that_hangs_on_it(files: Certificates) -> None:
    (files.folder / "ca-key.pem").unlink()
    prepare(files.folder, ["vertex.test", "10.1.2.3"])
    assert verifies(files, "localhost", files.bundle)


def test_unreadable_certificate_is_named_with_the_remedy(files: Certificates) -> None:
    files.ca.write_text("no certificate")
    with pytest.raises(CertificateError, match="Delete the folder"):
        prepare(files.folder)


@pytest.mark.parametrize("name", ["no name", "", "http://host", "x" * 64 + ".test", "a..b"])
def test_name_that_is_none_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(CertificateError, match="is no host name or IP address"):
        prepare(tmp_path / "tls", [name])
    assert not (tmp_path / "tls").exists()


def test_bundle_holds_the_public_roots(files: Certificates) -> None:
    trusted = ssl.create_default_context(cafile=str(files.bundle)).get_ca_certs()
    public = ssl.create_default_context(cafile=certifi.where()).get_ca_certs()
    assert len(trusted) == len(public) + 1


def test_trust_store_for_java_holds_the_bundle(files: Certificates) -> None:
    def held() -> list[bytes]:
        store = pkcs12.load_pkcs12(files.java_bundle.read_bytes(), None)
        certificates = [entry.certificate for entry in store.additional_certs]
        return [certificate.public_bytes(Encoding.DER) for certificate in certificates]

    with warnings.catch_warnings(action="ignore"):
        public = x509.load_pem_x509_certificates(files.bundle.read_bytes())
        assert held() == [root.public_bytes(Encoding.DER) for root in public]
        (files.folder / "ca-key.pem").unlink()
        prepare(files.folder, environ={})
        assert held()[0] == ssl.PEM_cert_to_DER_cert(files.ca.read_text())


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"])
def test_bundle_keeps_the_roots_that_the_environment_named(tmp_path: Path, variable: str) -> None:
    company = prepare(tmp_path / "company").ca
    environment = {variable: str(company)}
    files = prepare(tmp_path / "tls", environ=environment)
    root = company.read_bytes().strip()
    assert files.bundle.read_bytes().count(root) == 1
    # Neither a restart of the server nor a second `env` in the environment of the first loses them.
    prepare(files.folder)
    prepare(files.folder, environ={"REQUESTS_CA_BUNDLE": str(files.bundle)})
    assert root in files.bundle.read_bytes()
    prepare(files.folder, environ={})
    assert root not in files.bundle.read_bytes()


def test_bundle_follows_another_ca(files: Certificates) -> None:
    (files.folder / "ca-key.pem").unlink()
    prepare(files.folder, environ={"SSL_CERT_FILE": str(files.bundle)})
    assert files.bundle.read_bytes().startswith(files.ca.read_bytes())


def test_account_is_one_that_google_auth_signs_with(files: Certificates) -> None:
    credentials: Any = service_account.Credentials  # comes without types
    credentials = credentials.from_service_account_file(str(files.account))
    credentials._create_self_signed_jwt("https://aiplatform.googleapis.com/")
    credentials.refresh(None)  # signs by itself; there is no request to send
    assert credentials.token.count(".") == 2


def test_account_keeps_its_key_and_follows_the_emulator(tmp_path: Path) -> None:
    def accounts(**options: Any) -> list[dict[str, str]]:
        files = prepare(tmp_path / "tls", **options)
        both = files, replace(files, alias=True)
        read: list[dict[str, str]] = [json.loads(each.account.read_text()) for each in both]
        return read

    usual, alias = accounts()
    assert usual["token_uri"] == "http://localhost:8080/token"
    assert alias == {**usual, "token_uri": "https://oauth2.googleapis.com/token"}
    moved = {**usual, "token_uri": "http://vertex:9000/token"}
    assert accounts(token_uri="http://vertex:9000/token") == [moved, alias]
    assert accounts() == [moved, alias]  # a server that starts changes nothing of that
    old = {**usual, "token_uri": "https://localhost/the-emulator-needs-no-token"}
    (tmp_path / "tls" / "service-account.json").write_text(json.dumps(old))
    assert accounts(token_uri="http://vertex:9000/token") == [moved, alias]


@pytest.mark.parametrize("content", ["", "[]", "{}", "\xff"])
def test_account_that_cannot_be_read_is_made_anew(tmp_path: Path, content: str) -> None:
    files = prepare(tmp_path / "tls")
    files.account.write_text(content, encoding="latin-1")
    prepare(tmp_path / "tls")
    assert "PRIVATE KEY" in json.loads(files.account.read_text())["private_key"]


def _prepare(folder: Path) -> None:
    prepare(folder)


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_prepare, args=(tmp_path / "tls",)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    before = contents(Certificates(tmp_path / "tls"))
    files = prepare(tmp_path / "tls")
    assert contents(files) == before
    assert verifies(files, "localhost", files.bundle)
