"""The ledger: written before the answer, whole after kill -9, readable while it grows."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from outrider.base.errors import Broken, Misconfigured
from outrider.interfaces.sandbox import LedgerReader, Record, Sandbox, SandboxOptions
from outrider.interfaces.sandbox.ledger import Ledger, Ticket, decode
from tests.kit.sandbox import SandboxProcess
from tests.kit.smtp_pump import Pump
from tests.kit.smtp_talk import ENVELOPE, MESSAGE, Talk, open_sandbox, records, until, with_smtplib

HELLO = b"EHLO client.test\r\n"


def options(directory: Path, **changes: object) -> SandboxOptions:
    values = SandboxOptions(ledger_path=directory / "ledger.jsonl", smtp_port=0, http_port=0, keeps_bodies=True)
    return dataclasses.replace(values, **changes)  # type: ignore[arg-type]  # options by name


def lines_of(numbers: range, *, message_id: str = "<m{}@x>", rcpt_to: str = "r{}@example.org") -> Iterator[bytes]:
    """Ledger lines as the sandbox writes them."""
    for number in numbers:
        record = Record(
            seq=number, at_ns=number, boot_ns=number, outcome="accepted", stage="dot", mail_from="a@b",
            rcpt_to=rcpt_to.format(number), message_id=message_id.format(number), outrider_ids={}, size_bytes=1,
            sha256=None, session="s", queue_id=None, is_tls=False, auth_user=None, mail_params="", reply="", fault=None,
        )  # fmt: skip
        yield msgspec.json.encode(record) + b"\n"


@pytest.mark.parametrize("fsync", ["none", "flush"])
def test_every_answered_message_is_in_the_ledger_after_kill_9(tmp_path: Path, fsync: str) -> None:
    with SandboxProcess(options(tmp_path, fsync=fsync)) as sandbox:
        pumps = [Pump(sandbox.addresses.smtp, name=f"p{number}") for number in range(3)]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            assert pump.has_answered.wait(20), "nothing was answered"
        assert sandbox.kill() == -signal.SIGKILL
        for pump in pumps:
            pump.join(20)
        answered = {queue_id: message_id for pump in pumps for queue_id, message_id in pump.answered.items()}
        assert len(answered) >= 3 * Pump.ENOUGH
        written = {record.queue_id: record for record in sandbox.reader if record.outcome == "accepted"}
        assert {queue_id: written[queue_id].message_id for queue_id in answered} == answered
        for record in written.values():
            body = sandbox.reader.body(record)
            assert body is not None
            assert hashlib.sha256(body).hexdigest() == record.sha256
        assert sandbox.reader.duplicates() == {}
        last_seq = max(record.seq for record in written.values())
    with SandboxProcess(options(tmp_path)) as sandbox:
        again = Pump(sandbox.addresses.smtp, name="again", most=1)
        again.start()
        again.join(20)
        assert sandbox.stop() == 0
        later = [record.seq for record in sandbox.reader.find(message_id="<again-1@pump.test>")]
        assert len(later) == 1
        assert later[0] > last_seq
        assert [record.seq for record in sandbox.reader] == list(range(1, later[0] + 1))


def test_hangup_and_term_are_heard_by_the_process(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    with SandboxProcess(options(tmp_path, faults_path=path)) as sandbox:
        reads = sandbox.stats()["rules_reads"]
        sandbox.process.send_signal(signal.SIGHUP)
        sandbox.wait_for_stats(lambda stats: stats["rules_reads"] > reads)
        assert sandbox.stop() == 0


async def test_a_ledger_belongs_to_one_process(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path):
        with pytest.raises(Misconfigured) as caught:
            await Sandbox(options(tmp_path)).start()
        assert (caught.value.code, caught.value.field) == ("ledger_in_use", "ledger_path")
    async with open_sandbox(tmp_path):
        pass


async def test_a_port_in_use_is_named_and_nothing_stays_open(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path) as other:
        busy = options(tmp_path, ledger_path=tmp_path / "second.jsonl", http_port=other.addresses.smtp[1])
        with pytest.raises(Misconfigured) as caught:
            await Sandbox(busy).start()
        assert caught.value.field == "http_port"
        async with Sandbox(dataclasses.replace(busy, http_port=None)):
            pass


async def test_a_half_written_end_is_cut_off_and_counting_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    whole = b"".join(lines_of(range(1, 4)))
    for cut in (b"", b'{"seq":4,"at', b"\0" * 70_000):
        path.write_bytes(whole + cut)
        async with open_sandbox(tmp_path) as sandbox:
            await with_smtplib(sandbox, lambda client: client.sendmail("a@b", "c@d", MESSAGE))
        assert [record.seq for record in records(sandbox)] == [1, 2, 3, 4]
    path.write_bytes(b'{"seq":1,')
    async with open_sandbox(tmp_path) as sandbox:
        await with_smtplib(sandbox, lambda client: client.sendmail("a@b", "c@d", MESSAGE))
    assert [record.seq for record in records(sandbox)] == [1]


def test_a_file_that_is_no_ledger_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"my notes\n")
    with pytest.raises(Misconfigured) as caught:
        Ledger(path)
    assert caught.value.field == "ledger_path"
    assert path.read_bytes() == b"my notes\n"


async def test_what_cannot_be_written_is_not_answered_250(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").symlink_to("/dev/full")
    async with open_sandbox(tmp_path) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(HELLO, expect=250)
        await talk.say(ENVELOPE)
        await talk.hear(250, 250, 354)
        await talk.say(MESSAGE + b".\r\n", expect=452)
        await talk.say(b"NOOP\r\n", expect=250)
        stats = sandbox.house.stats()
        assert (stats["accepted"], stats["is_ledger_healthy"]) == (0, False)


async def test_with_fsync_answers_keep_their_order(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, fsync="flush") as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(HELLO, expect=250)
        await talk.say(ENVELOPE)
        await talk.hear(250, 250, 354)
        for _ in range(5):
            await talk.say(MESSAGE + b".\r\n" + ENVELOPE.replace(b"DATA", b"RCPT TO:<bad>\r\nDATA"))
            await talk.hear(250, 250, 250, 501, 354)
        assert len(records(sandbox)) == 5


async def test_the_reader_follows_a_growing_ledger(tmp_path: Path) -> None:
    seen: list[str | None] = []

    async def follow(reader: LedgerReader) -> None:
        async for record in reader.follow(poll_s=0.005):
            seen.append(record.rcpt_to)  # noqa: PERF401 -- it never ends

    async with open_sandbox(tmp_path) as sandbox:
        task = asyncio.create_task(follow(LedgerReader(sandbox.options.ledger_path)))
        for number in range(3):
            await with_smtplib(sandbox, lambda client, to=f"r{number}@x": client.sendmail("a@b", to, MESSAGE))  # type: ignore[misc]  # mypy does not infer a lambda with a default
            await until(lambda count=number: len(seen) == count + 1)  # type: ignore[misc]  # as above
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert seen == ["r0@x", "r1@x", "r2@x"]


def test_the_reader_finds_counts_and_ignores_a_cut_end(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    reader = LedgerReader(path)
    assert (list(reader), reader.read_new(), reader.latest(5), reader.by_seq(1)) == ([], [], [], None)
    with path.open("wb") as file:
        file.writelines(lines_of(range(1, 3_001)))
        file.writelines(lines_of(range(3_001, 3_003), message_id="<m7@x>", rcpt_to="R7@example.org"))
        file.write(b'{"seq":3003,"at_ns')
    assert [record.seq for record in reader] == list(range(1, 3_003))
    assert len(reader.read_new()) == 3_002
    assert reader.read_new() == []
    assert [record.seq for record in reader.latest(3)] == [3_002, 3_001, 3_000]
    assert [record.seq for record in reader.latest(9, rcpt_to="r7@EXAMPLE.org")] == [3_002, 3_001, 7]
    assert len(reader.latest(10_000)) == 3_002
    assert [record.seq for record in reader.find(rcpt_to="r7@example.org", message_id="<m7@x>")] == [7, 3_001, 3_002]
    assert reader.count_by_message_id()["<m7@x>"] == 3
    assert reader.duplicates() == {("<m7@x>", "R7@example.org"): 2}
    for seq in (1, 2, 1_500, 3_001, 3_002):
        found = reader.by_seq(seq)
        assert found is not None
        assert found.seq == seq
    assert (reader.by_seq(0), reader.by_seq(3_003)) == (None, None)


def test_a_damaged_middle_is_an_error_not_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"".join(lines_of(range(1, 3))) + b"{damaged\n" + b"".join(lines_of(range(3, 4))))
    with pytest.raises(Broken) as caught:
        list(LedgerReader(path))
    assert caught.value.code == "ledger_damaged"


async def test_records_of_one_turn_are_written_together(tmp_path: Path) -> None:
    class Owner:
        def __init__(self) -> None:
            self.calls = 0

        def on_written(self) -> None:
            self.calls += 1

    ledger = Ledger(tmp_path / "ledger.jsonl")
    owner = Owner()
    tickets = [Ticket(owner, b"250 ok\r\n", [decode(line, 0)]) for line in lines_of(range(100, 110))]
    for ticket in tickets:
        ledger.submit(ticket)
    assert owner.calls == 0
    await asyncio.sleep(0)
    assert owner.calls == 1
    assert all(ticket.is_settled and not ticket.is_failed for ticket in tickets)
    await ledger.close()
    assert [record.seq for record in LedgerReader(tmp_path / "ledger.jsonl")] == list(range(1, 11))
