"""HTTPS by the server itself: the same API, for clients that trust its certificate."""

import datetime
import ipaddress
import json
import shutil
import socket
import ssl
import subprocess

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from penstock import Connection, Server, create_batch, finished, jsonl, line, output_lines, parse, penstock

MEBIBYTE = 1024 * 1024


def certificate(name, issuer=None, names=()):
    """A key and a certificate in PEM, signed by the `issuer`, which is such a pair too, or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[1].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=not issuer, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[0].public_key())
        made = made.add_extension(authority, critical=False).add_extension(x509.SubjectAlternativeName(names), critical=False)
    else:
        usage = dict.fromkeys(("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"), False)
        usage |= dict.fromkeys(("key_agreement", "encipher_only", "decipher_only"), False)
        made = made.add_extension(x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True), critical=True)
    return key, made.sign((issuer or (key,))[0], hashes.SHA256())


class TlsServer(Server):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.url = f"https://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A certificate for 127.0.0.1, its key, and the authority that vouches for it, in PEM files. All clients trust it."""
    folder = tmp_path_factory.mktemp("tls")
    authority = certificate("An authority of ours")
    key, own = certificate("penstock", authority, [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    pem = serialization.Encoding.PEM
    plain = (pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ca.pem").write_bytes(authority[1].public_bytes(pem))
    (folder / "own.pem").write_bytes(own.public_bytes(pem))
    (folder / "own.key").write_bytes(key.private_bytes(*plain))
    (folder / "other.key").write_bytes(authority[0].private_bytes(*plain))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
        yield folder


@pytest.fixture(scope="module")
def server(files, new_module_server):  # in this order, as the audit is a client too
    return new_module_server("--tls-certificate", files / "own.pem", "--tls-key", files / "own.key", kind=TlsServer)


@pytest.fixture
def client(server):
    return server.client()


@pytest.fixture
def connection(server):
    """One whose handshake is done."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as plain:
        context = ssl.create_default_context()
        with context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False) as connection:
            yield connection


def test_official_client_runs_a_batch_over_https(client):
    batch = finished(client, create_batch(client, [line(f"line-{n}") for n in range(3)]))
    assert batch.status == "completed"
    assert {one["custom_id"] for one in output_lines(client, batch)} == {"line-0", "line-1", "line-2"}


def test_long_files_go_both_ways_unchanged(client):
    content = b"".join(b"%d " % n for n in range(1_500_000))
    assert len(content) > 10 * MEBIBYTE
    file = client.files.create(file=("long.txt", content), purpose="user_data")
    assert client.files.content(file.id).content == content
    client.files.delete(file.id)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_curl_that_waits_for_continue_is_told_to_go_on(server, files, tmp_path):
    (tmp_path / "long.txt").write_bytes(b"x" * 3 * MEBIBYTE)
    command = ["curl", "-sv", "--cacert", files / "ca.pem", "-H", "Expect: 100-continue", f"{server.url}/v1/files"]
    command += ["-F", "purpose=user_data", "-F", "file=@long.txt"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["bytes"] == 3 * MEBIBYTE, done.stderr
    assert "HTTP/1.1 100 Continue" in done.stderr


def test_followers_are_served_over_tls_too(client, server):
    batch = create_batch(client, [line("one")])
    with httpx2.stream("GET", f"{server.url}/v1/batches/{batch.id}/events", timeout=60) as events:
        told = [text.removeprefix("data: ") for text in events.iter_lines() if text.startswith("data: {")]
    assert json.loads(told[-1])["status"] == "completed"


def test_client_without_the_authority_trusts_nobody(server, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx2.get(f"{server.url}/healthz")


def test_command_line_trusts_the_authority_of_its_profile(server, files, tmp_path, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    (tmp_path / "penstock").mkdir()
    (tmp_path / "penstock/ca.pem").write_bytes((files / "ca.pem").read_bytes())
    config = tmp_path / "penstock/config.toml"
    config.write_text(f'[profiles.default]\nurl = "{server.url}"\nca_file = "ca.pem"\n[profiles.bare]\nurl = "{server.url}"\n')
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "SSL_CERT_FILE": "/dev/null"}
    (tmp_path / "in.jsonl").write_bytes(jsonl([line("one")]))
    done = penstock("submit", "in.jsonl", "-o", "out.jsonl", folder=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(parse((tmp_path / "out.jsonl").read_text())) == 1
    done = penstock("list", "--profile", "bare", folder=tmp_path, env=environment)
    assert done.returncode == 3
    assert "certificate verify failed" in done.stderr and "as ca_file in a profile" in done.stderr
    config.write_text(config.read_text().replace("ca.pem", "no.pem"))
    done = penstock("list", folder=tmp_path, env=environment)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"penstock: ca_file: cannot use {tmp_path}/penstock/no.pem: ")


def test_plain_http_is_told_what_to_do(server):
    with Connection(server) as plain:
        plain.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, headers, body = plain.answer()
        assert plain.is_closed()
    assert (status, headers["Content-Type"]) == (400, "application/json")
    assert json.loads(body)["error"]["message"] == "this port speaks TLS: ask with https://"
    assert httpx2.get(f"{server.url}/healthz").status_code == 200


def test_garbage_and_slow_handshakes_hold_nobody_up(server):
    begun = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(100)]
    for number, one in enumerate(begun):
        one.sendall((b"", b"\x16\x03\x01\x02", b"\0" * 20, b"\x16\x03\x01\x00\x05hello")[number % 4])
    for _ in range(10):
        assert httpx2.get(f"{server.url}/healthz").status_code == 200
    for one in begun:
        one.close()


def test_fault_44_malformed_request_is_refused_over_tls(connection):
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head + b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while piece := connection.recv(4096):  # it ends with a word of TLS, else this raises
        answer += piece
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.local
def test_unusable_files_are_refused_in_one_line(files, tmp_path):
    own, key, other = (str(files / name) for name in ("own.pem", "own.key", "other.key"))
    for arguments, message in [
        (["--tls-certificate", own], "tls_certificate and tls_key belong together: set both, or none"),
        (["--tls-certificate", "no.pem", "--tls-key", key], "tls_certificate: cannot read no.pem: No such file or directory"),
        (["--tls-certificate", own, "--tls-key", own], f"tls_key: {own} holds no private key as PEM without a passphrase"),
        (["--tls-certificate", own, "--tls-key", other], f"tls_key: {other} is not the key of the certificate in {own}"),
    ]:
        done = penstock("serve", "--listen", "127.0.0.1:0", "--engine", "http://127.0.0.1:1", *arguments, folder=tmp_path)
        assert done.returncode == 2
        (said,) = done.stderr.strip().splitlines()
        assert said.startswith(f"penstock: {message}"), said
