"""The suite that every provider passes against a server that behaves, refuses, breaks and is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from outrider.base.errors import Refused, RefusedMany
from outrider.base.fields import check
from outrider.base.registry import discover
from outrider.contracts.outcome import CAUSES, Accepted, Deferred, Outcome, Rejected, Uncertain, Unsent
from outrider.contracts.provider import HasLines, Outgoing, Provider, Repeats, Transport
from tests.kit.rigs import RIGS, Mood, Rig
from tests.kit.watching import Recorder, outgoing

PROVIDERS: dict[str, Provider] = discover("outrider.plugins.providers", "PROVIDER")
CHANNELS = discover("outrider.plugins.channels", "CHANNEL")
EACH = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=list(PROVIDERS))
KINDS = (Accepted, Deferred, Rejected, Uncertain, Unsent)
_BOUND_S = 120.0


def test_every_provider_has_a_server_to_be_tried_against() -> None:
    assert set(PROVIDERS) == set(RIGS), "add an entry to tests/kit/rigs.py"


@EACH
def test_it_says_what_it_is_and_carries_a_channel_that_exists(provider: Provider) -> None:
    assert provider.help
    assert provider.channel in CHANNELS


@EACH
def test_its_settings_are_data_with_help_and_sound_defaults(provider: Provider) -> None:
    names = [field.name for field in provider.fields]
    assert len(set(names)) == len(names)
    for field in provider.fields:
        assert field.help
        assert field.name.isidentifier()
        assert field.kind != "choice" or field.default in {None, *field.choices}
        if field.default is not None:
            assert check((field,), {field.name: field.default})[field.name] == field.default
        assert field.kind != "secret" or field.default is None, "a secret has no default"


@EACH
def test_a_setting_that_is_unknown_or_wrong_is_refused_by_name(provider: Provider) -> None:
    with pytest.raises(RefusedMany) as refused:
        check(provider.fields, {"no_such_setting": 1})
    assert "settings.no_such_setting" in [error.field for error in refused.value.errors]


@pytest.fixture
async def rig(provider: Provider) -> AsyncIterator[Rig]:
    async with RIGS[provider.key]() as made:
        yield made


def opened(provider: Provider, rig: Rig, **changes: Any) -> Transport:
    settings = check([f for f in provider.fields if f.kind != "secret"], {**rig.settings, **changes})
    return provider.open(settings, rig.secrets, rig.egress)


def people(count: int) -> list[Outgoing]:
    return [outgoing(f"p{n}@example.com") for n in range(count)]


async def sent(provider: Provider, rig: Rig, messages: list[Outgoing], watch: Recorder | None = None) -> Recorder:
    """Send one batch over a transport of its own; every message is settled once, soundly."""
    watch = watch or Recorder()
    transport = opened(provider, rig)
    try:
        async with asyncio.timeout(_BOUND_S):
            await transport.send(messages, watch)
    finally:
        await transport.close()
    settled_soundly(watch, messages)
    return watch


def settled_soundly(watch: Recorder, messages: list[Outgoing]) -> None:
    """Exactly one outcome for each message, of a kind and cause the engine knows, in words people can be shown."""
    assert {address: len(found) for address, found in watch.settled.items()} == dict.fromkeys(
        (message.address for message in messages), 1
    )
    for outcome in watch.outcomes.values():
        assert isinstance(outcome, KINDS)
        for text in _words(outcome):
            assert text.isprintable()
            assert len(text) <= 500
        if isinstance(outcome, (Deferred, Rejected, Uncertain)):
            assert outcome.cause in CAUSES
        if isinstance(outcome, Deferred) and outcome.after_s is not None:
            assert 0 < outcome.after_s <= 86_400


def _words(outcome: Outcome) -> list[str]:
    return [value for name in outcome.__slots__ if isinstance(value := getattr(outcome, name), str)]


@EACH
async def test_opening_connects_to_nobody_and_closing_is_idempotent(provider: Provider, rig: Rig) -> None:
    transport = opened(provider, rig)
    await transport.close()
    await transport.close()
    assert rig.connections() == 0


@EACH
@pytest.mark.parametrize("count", [1, 7, 300])
async def test_a_sound_server_gets_every_message_once_byte_for_byte(provider: Provider, rig: Rig, count: int) -> None:
    messages = people(count)
    watch = await sent(provider, rig, messages)
    assert all(isinstance(outcome, Accepted) for outcome in watch.outcomes.values())
    assert sorted(rig.taken()) == sorted((message.address, message.body) for message in messages)
    assert sorted(watch.begun) == sorted(message.address for message in messages)


@EACH
async def test_batches_side_by_side_share_the_account_and_each_is_settled_by_itself(
    provider: Provider, rig: Rig
) -> None:
    transport = opened(provider, rig)
    watches = [Recorder() for _ in range(4)]
    parts = [[outgoing(f"b{b}p{n}@example.com") for n in range(20)] for b in range(4)]
    async with asyncio.timeout(_BOUND_S):
        await asyncio.gather(*(transport.send(part, watch) for part, watch in zip(parts, watches, strict=True)))
        await transport.send(people(3), Recorder())
    await transport.close()
    for part, watch in zip(parts, watches, strict=True):
        settled_soundly(watch, part)
    assert len(rig.taken()) == 83


OUTCOMES: list[tuple[Mood, type[Outcome], int]] = [
    ("refuses", Rejected, 0),
    ("defers", Deferred, 0),
    ("cuts after the body", Uncertain, 1),
    ("hangs after the body", Uncertain, 1),
    ("away", Deferred, 0),
]


@EACH
@pytest.mark.parametrize(("mood", "kind", "taken"), OUTCOMES, ids=[mood for mood, _, _ in OUTCOMES])
async def test_what_a_server_does_is_what_the_outcome_says(
    provider: Provider, rig: Rig, mood: Mood, kind: type[Outcome], taken: int
) -> None:
    rig.behave(mood)
    watch = await sent(provider, rig, people(1))
    assert [type(outcome) for outcome in watch.outcomes.values()] == [kind]
    await rig.until(lambda: len(rig.taken()) >= taken)  # given up by the client, it may yet be read by the server
    assert len(rig.taken()) == taken


@EACH
async def test_a_server_that_cannot_be_reached_defers_everything_and_nothing_is_begun(
    provider: Provider, rig: Rig
) -> None:
    settings = check([f for f in provider.fields if f.kind != "secret"], dict(rig.wrong))
    transport, watch = provider.open(settings, rig.secrets, rig.egress), Recorder()
    async with asyncio.timeout(_BOUND_S):
        await transport.send(people(20), watch)
    await transport.close()
    settled_soundly(watch, people(20))
    assert all(isinstance(outcome, Deferred) for outcome in watch.outcomes.values())
    assert watch.begun == []


@EACH
async def test_a_target_that_is_not_allowed_is_never_dialled(provider: Provider, rig: Rig) -> None:
    class Nowhere:
        """Allows nothing."""

        async def resolve(self, host: str, port: int) -> list[str]:
            raise Refused("target_refused", f"{host} is private", port=port)

    rig.egress = Nowhere()
    watch = await sent(provider, rig, people(3))
    assert {outcome.cause for outcome in watch.outcomes.values() if isinstance(outcome, Deferred)} == {"target_refused"}
    assert len(watch.outcomes) == 3
    assert rig.connections() == 0


# the watch


@EACH
async def test_without_leave_nothing_can_be_accepted(provider: Provider, rig: Rig) -> None:
    messages = people(12)
    watch = await sent(provider, rig, messages, Recorder(lambda _message: "paused"))
    assert rig.taken() == []
    assert set(watch.outcomes.values()) == {Unsent("paused")}


@EACH
async def test_one_that_is_withheld_keeps_nobody_elses(provider: Provider, rig: Rig) -> None:
    messages = people(9)
    withheld = {f"p{n}@example.com" for n in (0, 4, 8)}
    watch = await sent(
        provider, rig, messages, Recorder(lambda message: "suppressed" if message.address in withheld else None)
    )
    assert {a for a, outcome in watch.outcomes.items() if outcome == Unsent("suppressed")} == withheld
    assert {address for address, _body in rig.taken()} == {message.address for message in messages} - withheld


@EACH
async def test_a_pause_in_the_middle_stops_what_was_not_begun(provider: Provider, rig: Rig) -> None:
    limit = 5
    watch = Recorder(lambda _message: "paused" if len(set(watch.begun)) >= limit else None)
    messages = people(60)
    await sent(provider, rig, messages, watch)
    accepted = {address for address, outcome in watch.outcomes.items() if isinstance(outcome, Accepted)}
    assert {address for address, _body in rig.taken()} == accepted
    assert accepted <= set(watch.begun)
    assert len(accepted) <= limit


@EACH
async def test_a_transport_says_how_many_messages_a_claim_should_hold(provider: Provider, rig: Rig) -> None:
    transport = opened(provider, rig)
    if isinstance(transport, Repeats):
        assert transport.request_count > 1
    else:
        assert isinstance(transport, HasLines), "what a claim of fewer than its lines would waste"
        assert transport.line_count == rig.settings["connections"]
    await transport.close()


@EACH
async def test_cancelling_leaves_begun_messages_uncertain_and_the_others_unsent(provider: Provider, rig: Rig) -> None:
    transport, watch, messages = opened(provider, rig), Recorder(), people(20)
    rig.behave("hangs after the body")  # only now: this transport waits for longer than this takes
    task = asyncio.create_task(transport.send(messages, watch))
    await rig.until(lambda: bool(rig.taken()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(_BOUND_S):
            await task
    await transport.close()
    settled_soundly(watch, messages)
    begun = set(watch.begun)
    for address, outcome in watch.outcomes.items():
        assert isinstance(outcome, (Uncertain, Unsent))
        assert isinstance(outcome, Uncertain) == (address in begun), address
    assert {address for address, _body in rig.taken()} <= begun


@EACH
async def test_closing_settles_what_still_waits(provider: Provider, rig: Rig) -> None:
    rig.behave("hangs after the body")
    transport, watch, messages = opened(provider, rig), Recorder(), people(20)
    task = asyncio.create_task(transport.send(messages, watch))
    await rig.until(lambda: bool(rig.taken()))
    async with asyncio.timeout(_BOUND_S):
        await transport.close()
        await task
    settled_soundly(watch, messages)


@EACH
async def test_the_same_message_sent_again_is_the_same_bytes(provider: Provider, rig: Rig) -> None:
    messages = people(2)
    for _ in range(2):
        await sent(provider, rig, messages)
    bodies: dict[str, set[bytes]] = {}
    for address, body in rig.taken():
        bodies.setdefault(address, set()).add(body)
    assert len(rig.taken()) == 4
    assert all(len(found) == 1 for found in bodies.values())


# examination and secrets


@EACH
async def test_an_examination_names_its_stages_sends_nothing_and_ends_at_the_first_that_fails(
    provider: Provider, rig: Rig
) -> None:
    plain = [f for f in provider.fields if f.kind != "secret"]
    for settings, is_sound in ((rig.settings, True), (rig.wrong, False)):
        async with asyncio.timeout(_BOUND_S):
            stages = [s async for s in provider.examine(check(plain, dict(settings)), rig.secrets, rig.egress)]
        names = [stage.name for stage in stages]
        assert names
        assert len(set(names)) == len(names)
        assert all(stage.is_ok for stage in stages[:-1])
        assert stages[-1].is_ok is is_sound, stages
        assert all(stage.detail.isprintable() for stage in stages)
    assert rig.taken() == []


@EACH
@pytest.mark.parametrize("mood", ["wrong password", "refuses", "cuts after the body", "away"])
async def test_no_secret_shows_in_an_outcome_a_stage_or_a_representation(
    provider: Provider, rig: Rig, mood: Mood
) -> None:
    rig.behave(mood)
    given = rig.signed_in if mood == "wrong password" else rig.settings
    plain = check([f for f in provider.fields if f.kind != "secret"], dict(given))
    transport, watch = provider.open(plain, rig.secrets, rig.egress), Recorder()
    async with asyncio.timeout(_BOUND_S):
        await transport.send(people(2), watch)
        stages = [stage async for stage in provider.examine(plain, rig.secrets, rig.egress)]
    shown = [repr(transport), repr(provider), *map(repr, watch.outcomes.values()), *map(repr, stages)]
    await transport.close()
    assert len(watch.outcomes) == 2
    assert mood != "wrong password" or not stages[-1].is_ok
    for secret in rig.secrets.values():
        assert not [text for text in shown if secret in text]


def test_ids_of_the_messages_differ() -> None:
    assert len({message.id for message in people(300)}) == 300
    assert all(isinstance(message.id, UUID) for message in people(1))
