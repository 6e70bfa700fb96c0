"""Fault rules: their JSON, their conditions, their counters."""

from __future__ import annotations

import json
from typing import Any

import pytest

from outrider.base.errors import Misconfigured
from outrider.interfaces.sandbox.faults import FaultBook
from outrider.interfaces.sandbox.rules import AnyRule, Defer, Drop, Hang, NoPipelining, Refuse, SizeLimit, parse_rules


def rules(*documents: dict[str, Any]) -> tuple[AnyRule, ...]:
    return parse_rules(json.dumps({"rules": documents}).encode())


def strikes(book: FaultBook, count: int, *, stage: str = "rcpt", rcpt: str = "ana@example.org") -> str:
    """One character per opportunity: x struck, . left alone."""
    return "".join("." if book.judge(stage, "from@x", [rcpt]) is None else "x" for _ in range(count))


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"action": "refuse", "code": 250}, "rules[0].code"),
        ({"action": "defer", "code": 550}, "rules[0].code"),
        ({"action": "explode"}, "rules[0].action"),
        ({"action": "hang"}, "rules[0]"),
        ({"action": "drop", "stage": "lunch"}, "rules[0].stage"),
        ({"action": "drop", "sudden": True}, "rules[0]"),
        ({"action": "refuse", "every": 0}, "rules[0].every"),
        ({"action": "refuse", "probability": 1.5}, "rules[0].probability"),
        ({"action": "refuse", "enhanced": "5.1"}, "rules[0].enhanced"),
        ({"code": 550}, "rules[0]"),
    ],
)
def test_a_bad_rule_is_refused_by_name(document: dict[str, Any], field: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        rules(document)
    assert caught.value.field == field


@pytest.mark.parametrize("text", [b"", b"[]", b'{"rules"', b"\xff", b'{"rule": []}'])
def test_what_is_no_rules_document_is_refused(text: bytes) -> None:
    with pytest.raises(Misconfigured):
        parse_rules(text)


def test_a_recipient_makes_no_sense_before_recipients_are_known() -> None:
    book = FaultBook(rules({"action": "refuse", "name": "kept"}))
    for document in ({"action": "refuse", "stage": "mail"}, {"action": "no_pipelining"}, {"action": "auth_fail"}):
        with pytest.raises(Misconfigured) as caught:
            book.replace(rules({**document, "recipient": "*"}))
        assert caught.value.field == "rules[0].recipient"
    assert book.names == ["kept"]


def test_conditions_count_opportunities() -> None:
    assert strikes(FaultBook((Refuse(every=3),)), 7) == "..x..x."
    assert strikes(FaultBook((Refuse(skip=2, times=2),)), 7) == "..xx..."
    assert strikes(FaultBook((Refuse(skip=1, every=2, times=1),)), 5) == "..x.."


def test_chance_is_repeatable_by_its_seed() -> None:
    def run(seed: int) -> str:
        return strikes(FaultBook((Refuse(probability=0.3, seed=seed),)), 200)

    assert run(1) == run(1) != run(2)
    assert 30 < run(1).count("x") < 90


def test_patterns_meet_whole_addresses_in_any_case() -> None:
    book = FaultBook((Refuse(recipient="*@Bounce.example"),))
    assert strikes(book, 1, rcpt="Ana@bounce.EXAMPLE") == "x"
    assert strikes(book, 1, rcpt="ana@bounce.example.org") == "."
    assert book.judge("rcpt", "", ["a@other", "b@bounce.example"]) is not None


def test_delays_add_up_until_a_rule_ends_the_stage() -> None:
    book = FaultBook(
        rules(
            {"action": "hang", "stage": "dot", "seconds": 2},
            {"action": "slow", "delay_ms": 500},
            {"action": "defer", "stage": "dot", "name": "later"},
            {"action": "refuse", "stage": "dot"},
        )
    )
    verdict = book.judge("dot", "", ["a@b"])
    assert verdict is not None
    assert (verdict.name, verdict.delay_s, type(verdict.rule)) == ("later", 2.5, Defer)
    assert book.hits == {"1-hang": 1, "2-slow": 1, "later": 1, "4-refuse": 0}


def test_greylisting_defers_each_pair_once() -> None:
    book = FaultBook(rules({"action": "greylist"}))
    assert strikes(book, 3) == "x.."
    assert strikes(book, 2, rcpt="other@example.org") == "x."
    assert book.judge("rcpt", "another@x", ["ana@example.org"]) is not None


def test_greylisting_may_ask_for_patience() -> None:
    assert strikes(FaultBook(rules({"action": "greylist", "wait_s": 3600})), 3) == "xxx"


def test_unchanged_rules_keep_their_counters_and_lost_ones_their_hits() -> None:
    once = Refuse(name="once", times=1)
    book = FaultBook((once, Hang(name="gone", stage="data", seconds=0)))
    assert strikes(book, 2) == "x."
    assert strikes(book, 1, stage="data") == "x"
    book.replace((once,))
    assert strikes(book, 2) == ".."
    assert book.hits == {"gone": 1, "once": 1}
    book.replace((Refuse(name="once", times=2),))
    assert strikes(book, 3) == "xx."


def test_features_are_decided_together() -> None:
    features = FaultBook((NoPipelining(), SizeLimit(size_bytes=500, is_advertised=False))).features()
    assert (features.is_pipelining_off, features.size_bytes, features.is_size_advertised) == (True, 500, False)
    assert not features.is_8bitmime_off


def test_rules_of_other_stages_are_not_asked() -> None:
    book = FaultBook((Drop(stage="after_dot"),))
    assert strikes(book, 3, stage="dot") == "..."
    assert book.has("after_dot")
    assert not book.has("before_dot")
