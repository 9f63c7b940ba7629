"""`penstock doctor`: what is open, missing or risky in a configuration, and that it changes nothing."""

import datetime
import json
import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fake_engine import MODEL, FakeEngine
from penstock import free_port, penstock, write_config

SECRET = "sk-nobody-may-read-this"


@pytest.fixture
def engine():
    with FakeEngine() as engine:
        yield engine


@pytest.fixture
def doctor(engine, tmp_path):
    """Runs it on a configuration that is well, but for what is given. Returns its exit code and its findings by topic."""

    def run(*arguments, env=None, engine_url=engine.url):
        where = ["--data", tmp_path / "data"] if "--data" not in arguments else []
        ran = penstock("doctor", "--json", *where, "--engine", engine_url, *arguments, folder=tmp_path, env=env)
        assert ran.stderr == ""
        findings = {}
        for finding in json.loads(ran.stdout):
            assert finding.keys() == {"level", "topic", "words", "advice"}
            assert finding["level"] == "ok" or finding["advice"]
            findings.setdefault(finding["topic"], []).append(finding)
        return ran.returncode, findings

    return run


def levels(findings, topic):
    return [finding["level"] for finding in findings[topic]]


def words(findings, topic):
    return " ".join(finding["words"] for finding in findings[topic])


def failures(findings):
    """All but that the PostgreSQL of the tests does without fsync, which it is right about."""
    everything = [finding["words"] for topic in findings.values() for finding in topic if finding["level"] == "fail"]
    return [words for words in everything if "fsync" not in words]


def everything_in(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_a_safe_configuration_has_nothing_that_fails_and_nothing_is_changed(doctor, tmp_path):
    before = everything_in(tmp_path)
    code, findings = doctor()
    assert (code, failures(findings)) == (0, [])
    assert levels(findings, "listen") == levels(findings, "engines") == ["ok"]
    assert f"serves {MODEL}" in words(findings, "engines")
    assert everything_in(tmp_path) == before


def test_text_has_a_line_for_each_finding(engine, tmp_path):
    ran = penstock("doctor", "--data", tmp_path / "data", "--engine", engine.url, "--listen", "0.0.0.0:4080", folder=tmp_path)
    assert ran.returncode == 1
    lines = ran.stdout.splitlines()
    assert all(line.split()[0] in ("ok", "warn", "fail") for line in lines)
    assert [line for line in lines if line.startswith("fail")] == [lines[0]]
    assert "0.0.0.0:4080" in lines[0] and "penstock keys create" in lines[0]


def test_a_running_server_is_seen_and_not_disturbed(new_server, engine, doctor):
    server = new_server("--engine", engine.url, models=())
    code, findings = doctor(*server.place.arguments(server.folder / "data"), env=server.env)
    assert (code, failures(findings)) == (server.place.is_shared, [])
    assert f"process {server.process.pid} runs" in words(findings, "data")
    assert "has schema" in words(findings, "database")
    server.kill()
    code, findings = doctor(*server.place.arguments(server.folder / "data"), env=server.env)
    assert failures(findings) == []
    assert "nothing runs" in words(findings, "data")
    server.start()


def test_what_others_can_read_is_told_and_no_secret_is(doctor, tmp_path):
    (tmp_path / "data").mkdir()
    os.chmod(tmp_path / "data", 0o755)
    config = tmp_path / "given.toml"
    config.write_text(f'engine_key = "{SECRET}"\n')
    os.chmod(config, 0o644)
    code, findings = doctor("--config", config)
    assert (code, levels(findings, "config"), levels(findings, "data")) == (0, ["warn"], ["warn", "ok"])
    assert SECRET not in json.dumps(findings)
    os.chmod(config, 0o666)
    code, findings = doctor("--config", config)
    assert (code, levels(findings, "config")) == (1, ["fail"])


def test_an_engine_that_is_not_there_or_refuses_our_key_fails(doctor):
    code, findings = doctor(engine_url=f"http://127.0.0.1:{free_port()}")
    assert (code, levels(findings, "engines")) == (1, ["fail"])
    with FakeEngine(key="another") as engine:
        code, findings = doctor(engine_url=engine.url, env={"PENSTOCK_ENGINE_KEY": SECRET})
    assert (code, levels(findings, "engines")) == (1, ["fail"])
    assert "401" in words(findings, "engines") and SECRET not in json.dumps(findings)


def test_a_model_that_is_not_there_fails_and_a_real_one_is_well(tmp_path):
    for models, code in ((("the-model",), 0), (("missing",), 1)):
        config = write_config(tmp_path, models)
        if code:
            config.write_text(config.read_text() + 'none = "nowhere.gguf"\n')
        ran = penstock("doctor", "--json", "--config", config, "--data", tmp_path / "data", folder=tmp_path)
        assert ran.returncode == code, ran.stdout
        failed = [finding["words"] for finding in json.loads(ran.stdout) if finding["level"] == "fail"]
        assert len(failed) == code


def test_a_database_that_is_away_or_of_a_newer_program_fails(new_server, engine, doctor):
    secret = "thepassword"
    code, findings = doctor("--database", f"postgres://user:{secret}@127.0.0.1:{free_port()}/db")
    assert (code, levels(findings, "database")[-1]) == (1, "fail")
    assert "command line" in words(findings, "database") and secret not in json.dumps(findings)

    server = new_server("--engine", engine.url, models=())
    server.kill()
    for table in ("schema_version", "schema_oldest_program"):
        server.place.rows(f"UPDATE {table} SET version = version + 100")
    code, findings = doctor(*server.place.arguments(server.folder / "data"), env=server.env)
    assert code == 1 and "this program knows only" in words(findings, "database")
    for table in ("schema_version", "schema_oldest_program"):
        server.place.rows(f"UPDATE {table} SET version = version - 100")


def certificate(folder, days):
    """A certificate that ends in so many days, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "penstock")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=90))
    made = made.not_valid_after(now + datetime.timedelta(days=days, hours=1)).sign(key, hashes.SHA256())
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*plain))
    os.chmod(folder / "key.pem", 0o600)


def test_a_certificate_is_looked_at(doctor, tmp_path):
    files = ["--tls-certificate", tmp_path / "certificate.pem", "--tls-key", tmp_path / "key.pem"]
    for days, level in ((40, "ok"), (20, "warn"), (-1, "fail")):
        certificate(tmp_path, days)
        code, findings = doctor(*files)
        assert (levels(findings, "tls_certificate"), levels(findings, "tls_key")) == ([level], ["ok"])
        assert code == (level == "fail")
    os.chmod(tmp_path / "key.pem", 0o644)
    assert levels(doctor(*files)[1], "tls_key") == ["warn"]
    (tmp_path / "key.pem").unlink()
    code, findings = doctor(*files)
    assert (code, levels(findings, "tls_certificate")) == (1, ["fail"])
