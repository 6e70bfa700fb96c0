"""A message that failed, waits or is uncertain says what that means and what to do, as the command line shows it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from outrider.contracts.outcome import CAUSES
from outrider.interfaces.sandbox import SandboxOptions, parse_rules
from tests.kit.command import Done, migrated_command
from tests.kit.processes import wait_until
from tests.kit.sandbox import SandboxProcess

FAULTS = parse_rules(
    json.dumps(
        {
            "rules": [
                {"action": "refuse", "recipient": "gone@*", "code": 550, "enhanced": "5.1.1", "text": "No such user"},
                {"action": "defer", "recipient": "later@*", "code": 451},
                {"action": "drop", "recipient": "doubt@*", "stage": "after_dot"},
            ]
        }
    ).encode()
)
EXPECTED = {"gone": ("failed", "mailbox_unavailable"), "later": ("scheduled", "server_deferred"),
            "doubt": ("uncertain", "answer_lost")}  # fmt: skip


def _ok(done: Done) -> Any:
    assert done.code == 0, done
    return json.loads(done.out)


def test_cause_and_remedy_stand_beside_every_message_that_did_not_go(
    new_database: Callable[..., str], tmp_path: Path
) -> None:
    outrider = migrated_command(new_database, tmp_path).with_(
        OUTRIDER_EGRESS_ALLOW='["127.0.0.0/8"]', OUTRIDER_WORKER_HEALTH_PORT="0", OUTRIDER_RETRY_FIRST_S="600"
    )
    options = SandboxOptions(ledger_path=tmp_path / "ledger", smtp_port=0, http_port=None, faults=FAULTS)
    with SandboxProcess(options) as mail:
        mx = ("--set", "host=127.0.0.1", "--set", f"port={mail.addresses.smtp[1]}", "--set", "tls=off")
        send = ("--sender", "shop", "--subject", "Hello", "--text", "Hello.", "--json")
        *prepared, gone, later, doubt = outrider.many(
            [
                ("connection", "create", "mx", *mx),
                ("sender", "create", "shop", "--connection", "mx", "--from", "shop@example.com",
                 "--transactional", "at_most_once"),
                *(("messages", "send", f"{name}@example.org", *send) for name in EXPECTED),
            ]
        )  # fmt: skip
        assert [done.code for done in prepared] == [0, 0], prepared
        ids = {name: _ok(done)["id"] for name, done in zip(EXPECTED, (gone, later, doubt), strict=True)}
        worker = outrider.start("worker", stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:

            def is_settled() -> bool:
                rows = _ok(outrider.run("messages", "list", "--json"))
                wanted = {(ids[name], state) for name, (state, _) in EXPECTED.items()}
                return {(row["id"], row["state"]) for row in rows} == wanted

            wait_until(is_settled, what="each message stands as the server made it", bound_s=60)
        finally:
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(60) == 0
            assert worker.stdout is not None
            worker.stdout.close()
    shows = [("messages", "show", message_id) for message_id in ids.values()]
    answers = outrider.many(
        [
            *shows,
            *((*line, "--json") for line in shows),
            ("messages", "list"),
            ("messages", "list", "--json"),
            ("uncertain", "list"),
            ("uncertain", "list", "--json"),
        ]
    )
    text_list, listed, text_doubts, doubts = answers[6].out, _ok(answers[7]), answers[8].out, _ok(answers[9])
    for (_name, (_state, code)), text, full in zip(EXPECTED.items(), answers[:3], answers[3:6], strict=True):
        cause = CAUSES[code]
        words = {"code": code, "title": cause.title, "why": cause.why, "remedy": cause.remedy}
        shown = _ok(full)
        assert shown["cause"] == words
        assert [event["cause"] for event in shown["events"] if "cause" in event["data"]] == [words]
        lines = [" ".join(line.split()) for line in text.out.splitlines()]
        assert f"cause {cause.title}: {cause.why}" in lines
        assert f"remedy {cause.remedy}" in lines
        assert any(line.endswith(f"{cause.title}: {cause.why}; remedy: {cause.remedy}") for line in lines)
        assert next(row["cause"] for row in listed if row["id"] == shown["id"]) == words
        assert cause.title in text_list
        assert cause.remedy not in text_list, "a list stays narrow"
    (doubt_row,) = doubts
    assert (doubt_row["cause"], doubt_row["title"]) == ("answer_lost", "Answer lost")
    assert (doubt_row["why"], doubt_row["remedy"]) == (CAUSES["answer_lost"].why, CAUSES["answer_lost"].remedy)
    assert "Answer lost" in text_doubts
