"""Every recorded message, pushed unchanged, is run as its headers say."""

from __future__ import annotations

import base64
import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.celery import samples
from tests.celery.samples import Sample
from tests.eventually import eventually
from tests.fix_lab import Lab, stored

#: These need a worker with other settings; they have tests of their own below.
SPECIAL = {"msg-auth", "msg-sep-steps", "msg-global-keyprefix", "msg-v2-no-binding-dropped"}
QUEUES = "celery,other,directq,topicq,expq"


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """One worker on all queues of the recordings, accepting every serializer."""
    module_lab.use("tests.apps.golden")
    module_lab.worker("-Q", QUEUES)
    return module_lab


def header(envelope: str) -> dict[str, Any]:
    """The fields of a message, whichever protocol."""
    message = json.loads(envelope)
    return dict(message["headers"] or json.loads(base64.b64decode(message["body"])))


def expected_state(fields: dict[str, Any]) -> str:
    """What becomes of it now: the recordings' times are of the day they were made."""
    if fields.get("expires") and moment(fields["expires"]) < datetime.now(timezone.utc):
        return "REVOKED"
    if fields.get("eta") and moment(fields["eta"]) > datetime.now(timezone.utc) + timedelta(seconds=5):
        return "WAITING"
    return "FAILURE" if fields["task"] == "not.here" else "SUCCESS"


def moment(text: str) -> datetime:
    """An ISO time; without a zone it is UTC."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def needs(name: str) -> None:
    """Skip what needs a package that is not installed."""
    for part, package in {"brotli": "brotli", "zstd": "backports.zstd", "yaml": "yaml", "msgpack": "msgpack"}.items():
        if part in name:
            pytest.importorskip(package)


@pytest.mark.parametrize("name", [name for name in samples.names("msg-") if name not in SPECIAL])
def test_message(lab: Lab, name: str) -> None:
    needs(name)
    sample = Sample(name)
    for command in sample.sent_by_client():
        lab.db.client.execute_command(*command)
    for _client, _key, envelope in sample.pushes():
        check(lab, header(envelope))
    lab.db.client.delete(*[f"celery-task-meta-{header(text)['id']}" for _c, _k, text in sample.pushes()])


def check(lab: Lab, fields: dict[str, Any]) -> None:
    """The outcome of one message is the expected one."""
    state = expected_state(fields)
    if state == "WAITING":
        eventually(lambda: lab.held() and not any(lab.db.length(queue) for queue in QUEUES.split(",")))
    elif fields.get("ignore_result"):
        lab.workers[0].wait_log(rf"{fields['id']}\] succeeded")
    else:
        eventually(lambda: stored(lab, fields["id"]).get("status") == state, saying=f"{fields['id']} is {state}")


def test_custom_separator_and_steps(other_lab: Lab) -> None:
    other_lab.use(broker_transport_options={"sep": ":", "priority_steps": list(range(10))})
    other_lab.worker()
    run(other_lab, "msg-sep-steps", prefix="")


def test_global_key_prefix(other_lab: Lab) -> None:
    other_lab.use(
        broker_transport_options={"global_keyprefix": "pfx:"},
        result_backend_transport_options={"global_keyprefix": "rp"},
    )
    other_lab.worker()
    run(other_lab, "msg-global-keyprefix", prefix="rp_")
    own = [key for key in other_lab.db.keys() if "fastq:" in key]
    assert all(key.startswith("pfx:") for key in own), own


def run(lab: Lab, name: str, *, prefix: str) -> None:
    """Replay a sample of add(2, 3) and wait for its 5."""
    sample = Sample(name)
    for command in sample.sent_by_client():
        lab.db.client.execute_command(*command)
    key = f"{prefix}celery-task-meta-{header(sample.pushes()[0][2])['id']}"
    raw: Any = eventually(lambda: lab.db.client.get(key))
    assert json.loads(raw)["result"] == 5


def test_signed_message(other_lab: Lab, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    write_keys(tmp_path)
    certificate = str(Sample("msg-auth").content["certificate_pem"])
    (tmp_path / "theirs.pem").write_text(certificate)
    other_lab.use("tests.apps.signed")
    other_lab.worker(env={"FASTQ_TEST_KEYS": str(tmp_path)})
    run(other_lab, "msg-auth", prefix="")


def test_a_signed_message_of_a_stranger_is_dropped_and_logged(other_lab: Lab, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    write_keys(tmp_path)
    other_lab.use("tests.apps.signed")
    worker = other_lab.worker(env={"FASTQ_TEST_KEYS": str(tmp_path)})
    sample = Sample("msg-auth")
    for command in sample.sent_by_client():
        other_lab.db.client.execute_command(*command)
    worker.wait_log("(?i)(decode|certificate)")
    eventually(other_lab.idle)
    assert worker.alive


def write_keys(folder: Path) -> None:
    """A key and a certificate of the worker's own."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "tests")])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(int.from_bytes(os.urandom(8), "big") >> 1).not_valid_before(now - timedelta(days=1))
    certificate = builder.not_valid_after(now + timedelta(days=9)).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    (folder / "own.pem").write_bytes(certificate.public_bytes(pem))
    plain = serialization.PrivateFormat.TraditionalOpenSSL
    (folder / "own.key").write_bytes(key.private_bytes(pem, plain, serialization.NoEncryption()))
