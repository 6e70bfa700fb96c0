"""`outrider sandbox` as people start it: who may sign in, what is inside TLS, and what of it a fault rule refuses."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import smtplib
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from outrider.interfaces.sandbox import LedgerReader
from outrider.interfaces.sandbox.tls import make_certificate
from tests.kit.command import Command, command, migrated_command
from tests.kit.processes import wait_until

_BOUND_S = 120.0
PASSWORD = "hunter2-hunter2"
MESSAGE = b"Message-ID: <m1@example.org>\r\nSubject: hello\r\n\r\nhello\r\n"


@pytest.fixture
def outrider(tmp_path: Path) -> Command:
    """A command that needs no database."""
    return command(tmp_path)


@contextmanager
def _running(outrider: Command, folder: Path, *arguments: str) -> Iterator[dict[str, int]]:
    """The sandbox until the block ends: its ports by scheme, as it says them."""
    ports = ("--smtp-port", "0", "--no-http")
    process = outrider.start(
        "sandbox", "--ledger", str(folder / "ledger"), *ports, *arguments, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("ready: "), line
        yield {url.partition(":")[0]: int(url.rpartition(":")[2]) for url in line.removeprefix("ready: ").split()}
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(_BOUND_S)
        process.stdout.close()
        process.stdin.close()
    assert code == 0


def _trusting(path: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(path))


def _send(client: smtplib.SMTP) -> None:
    client.sendmail("from@example.org", "ana@example.org", MESSAGE)


def test_who_signs_in_with_the_password_of_the_environment_is_taken_and_nobody_else(
    outrider: Command, tmp_path: Path
) -> None:
    with (
        _running(
            outrider.with_(OUTRIDER_SANDBOX_PASSWORD=PASSWORD), tmp_path, "--user", "shop", "--require-auth"
        ) as ports,
        smtplib.SMTP("127.0.0.1", ports["smtp"], timeout=_BOUND_S) as client,
    ):
        client.ehlo()
        assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
        with pytest.raises(smtplib.SMTPSenderRefused) as refused:
            _send(client)
        assert refused.value.smtp_code == 530
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("shop", "wrong")
        client.login("shop", PASSWORD)
        _send(client)
    records = list(LedgerReader(tmp_path / "ledger"))
    assert [(record.outcome, record.auth_user) for record in records] == [("refused", None), ("accepted", "shop")]


def test_a_fault_rule_refuses_right_credentials(outrider: Command, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\nnot this line\n")
    faults = tmp_path / "faults.json"
    faults.write_text(json.dumps({"rules": [{"action": "auth_fail", "times": 1}]}))
    signed = ("--user", "shop", "--password-file", str(tmp_path / "password"), "--faults", str(faults))
    with (
        _running(outrider, tmp_path, *signed) as ports,
        smtplib.SMTP("127.0.0.1", ports["smtp"], timeout=_BOUND_S) as client,
    ):
        client.ehlo()
        client.user, client.password = "shop", PASSWORD
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            client.auth("PLAIN", client.auth_plain)
        assert refused.value.smtp_code == 535
        client.auth("PLAIN", client.auth_plain)
        _send(client)
    assert [record.auth_user for record in LedgerReader(tmp_path / "ledger")] == ["shop"]


def test_a_connection_signs_in_inside_tls_until_a_fault_rule_refuses_it(
    new_database: Callable[..., str], tmp_path: Path
) -> None:
    faults = tmp_path / "faults.json"
    ours = migrated_command(new_database, tmp_path).with_(
        OUTRIDER_EGRESS_ALLOW='["127.0.0.0/8", "::1/128"]', SSL_CERT_FILE=str(tmp_path / "ledger.crt")
    )
    served = ours.with_(OUTRIDER_SANDBOX_PASSWORD=PASSWORD)
    arguments = ("--user", "shop", "--require-auth", "--tls", "required", "--faults", str(faults))
    with _running(served, tmp_path, *arguments) as ports:
        given = ("--set", "host=localhost", "--set", f"port={ports['smtp']}", "--set", "username=shop")
        made = ours.run("connection", "create", "mx", *given, "--secret", "password", stdin=f"{PASSWORD}\n")
        assert made.code == 0, made
        examined = ours.run("connection", "examine", "mx", "--json")
        assert examined.code == 0, examined
        assert {"tls", "auth"} <= {stage["name"] for stage in examined.json() if stage["is_ok"]}, examined
        faults.write_text(json.dumps({"rules": [{"action": "auth_fail"}]}))

        def is_refused() -> bool:
            return ours.run("connection", "examine", "mx").code == 1

        wait_until(is_refused, what="the rule is in force", bound_s=60)
        (refused,) = [stage for stage in ours.run("connection", "examine", "mx", "--json").json() if not stage["is_ok"]]
        assert refused["name"] == "auth"
        assert "535" in refused["detail"]


def test_the_password_is_asked_for_on_a_terminal_and_not_shown(outrider: Command, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    arguments = ("sandbox", "--ledger", str(tmp_path / "ledger"), "--smtp-port", "0", "--no-http", "--user", "shop")
    process = outrider.start(*arguments, stdin=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    assert process.stdout is not None
    seen = b""
    try:
        while b"password of shop: " not in seen:
            assert select.select([ours], [], [], _BOUND_S)[0], f"never asked, said {seen!r}"
            seen += os.read(ours, 1000)
        os.write(ours, f"{PASSWORD}\n".encode())
        line = process.stdout.readline()
        assert line.startswith("ready: smtp://"), line
        with smtplib.SMTP("127.0.0.1", int(line.rpartition(":")[2]), timeout=_BOUND_S) as client:
            client.login("shop", PASSWORD)
            _send(client)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(_BOUND_S) == 0
        process.stdout.close()
        os.close(ours)
    assert PASSWORD.encode() not in seen


def test_mail_is_refused_before_tls_where_it_is_required(outrider: Command, tmp_path: Path) -> None:
    with (
        _running(outrider, tmp_path, "--tls", "required") as ports,
        smtplib.SMTP("localhost", ports["smtp"], timeout=_BOUND_S) as client,
    ):
        client.ehlo()
        with pytest.raises(smtplib.SMTPSenderRefused) as refused:
            _send(client)
        assert refused.value.smtp_code == 530
        client.starttls(context=_trusting(tmp_path / "ledger.crt"))
        _send(client)
    assert [record.is_tls for record in LedgerReader(tmp_path / "ledger")] == [False, True]


def test_implicit_tls_has_a_port_of_its_own_with_a_certificate_of_ones_own(outrider: Command, tmp_path: Path) -> None:
    certificate, key = make_certificate("mail.test", "127.0.0.1")
    (tmp_path / "own.crt").write_bytes(certificate)
    (tmp_path / "own.key").write_bytes(key)
    own = ("--certificate", str(tmp_path / "own.crt"), "--key", str(tmp_path / "own.key"))
    with _running(outrider, tmp_path, "--tls", "implicit", "--smtps-port", "0", *own) as ports:
        context = _trusting(tmp_path / "own.crt")
        with smtplib.SMTP_SSL("localhost", ports["smtps"], timeout=_BOUND_S, context=context) as client:
            _send(client)
        with smtplib.SMTP("localhost", ports["smtp"], timeout=_BOUND_S) as client:
            client.ehlo()
            assert not client.has_extn("starttls")
            with pytest.raises(smtplib.SMTPSenderRefused):
                _send(client)
    assert not (tmp_path / "ledger.crt").exists()
    assert [(record.outcome, record.is_tls) for record in LedgerReader(tmp_path / "ledger")] == [
        ("accepted", True),
        ("refused", False),
    ]


def test_without_tls_nothing_is_offered_and_mail_is_taken(outrider: Command, tmp_path: Path) -> None:
    with (
        _running(outrider, tmp_path, "--tls", "off") as ports,
        smtplib.SMTP("127.0.0.1", ports["smtp"], timeout=_BOUND_S) as client,
    ):
        client.ehlo()
        assert not client.has_extn("starttls")
        assert not client.has_extn("auth")
        _send(client)
    assert [record.is_tls for record in LedgerReader(tmp_path / "ledger")] == [False]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--require-auth",), "--user"),
        (("--password-file", "/dev/null"), "--user"),
        (("--user", "shop"), "--password-file"),
        (("--user", "shop", "--password-file", "/no/such/file"), "--password-file"),
        (("--user", ""), "--user"),
        (("--certificate", "own.crt"), "--key"),
        (("--key", "own.key"), "--certificate"),
        (("--certificate", "own.crt", "--key", "own.key", "--tls", "off"), "--tls"),
        (("--tls", "sometimes"), "--tls"),
    ],
    ids=" ".join,
)
def test_what_cannot_work_is_refused_by_its_option(
    outrider: Command, tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    (done,) = outrider.many([("sandbox", "--ledger", str(tmp_path / "ledger"), *arguments)])
    assert done.code == 2, done
    assert done.err.startswith("error: ")
    assert named in done.err
    assert not (tmp_path / "ledger").exists()
