"""The suite that every channel passes: addresses, identities, contents, and bytes that depend on nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from outrider.base.errors import Refused, RefusedMany
from outrider.base.registry import discover
from outrider.contracts.channel import AddressNotes, Channel, Composer, Content, Identity, Item, Unrenderable
from outrider.contracts.provider import Outgoing
from tests.kit.letters import DATED_AT
from tests.kit.rendering import InProcessRenderer
from tests.kit.samples import SAMPLES, Samples

CHANNELS: dict[str, Channel] = discover("outrider.plugins.channels", "CHANNEL")
EACH = pytest.mark.parametrize("channel", CHANNELS.values(), ids=list(CHANNELS))
CONTENTS = pytest.mark.parametrize(
    ("channel", "content"),
    [(channel, content) for key, channel in CHANNELS.items() for content in SAMPLES[key].contents],
    ids=[f"{key}-{n}" for key in CHANNELS for n in range(len(SAMPLES[key].contents))],
)
IDENTITY_FIELDS = {
    "from_address", "from_name", "reply_to", "return_path", "headers", "dkim", "postal_address", "opt_out_line"
}  # fmt: skip
UNSUBSCRIBE = "https://mail.example.org/u/token"


def of(channel: Channel) -> Samples:
    return SAMPLES[channel.key]


def item(channel: Channel, number: int = 1, variables: Mapping[str, Any] | None = None, url: str = "") -> Item:
    address = next(iter(of(channel).addresses.values()))
    text = json.dumps(variables if variables is not None else {"name": f"Name {number}"})
    return Item(UUID(int=0x0199 << 112 | 0x7 << 76 | 0x2 << 62 | number), address, text, DATED_AT, url)


async def composed(channel: Channel, content: Content, *, is_compiled: bool = True) -> Composer:
    """A composer as the worker makes it: what was compiled has passed through the database as JSON."""
    renderer = InProcessRenderer()
    compiled = await channel.compile(content, renderer)
    stored = json.loads(json.dumps(compiled)) if compiled is not None and is_compiled else None
    identity, _ = channel.check_identity(of(channel).identity)
    return channel.composer(replace(content, compiled=stored), identity, renderer)


def test_every_channel_has_samples_to_be_tried_with() -> None:
    assert set(CHANNELS) == set(SAMPLES), "add an entry to tests/kit/samples.py"


@EACH
def test_it_says_what_it_is(channel: Channel) -> None:
    assert channel.key.isidentifier()
    assert channel.help


@EACH
def test_an_address_has_one_stored_form_which_is_its_own(channel: Channel) -> None:
    for typed, stored in of(channel).addresses.items():
        assert channel.normalise(typed) == stored
        assert channel.normalise(stored) == stored
        assert isinstance(channel.notes(stored), AddressNotes)


@EACH
def test_what_is_no_address_is_refused_by_the_field_it_came_in_and_never_raises_otherwise(channel: Channel) -> None:
    for typed in of(channel).bad_addresses:
        with pytest.raises(Refused) as refused:
            channel.normalise(typed, field="/messages/7/to")
        assert refused.value.field == "/messages/7/to"
        assert len(refused.value.message) < 500
        assert "\n" not in refused.value.message


@EACH
def test_an_identity_is_stored_in_a_form_that_is_its_own(channel: Channel) -> None:
    stored, warnings = channel.check_identity(of(channel).identity)
    assert isinstance(stored, Identity)
    assert all(isinstance(warning, str) for warning in warnings)
    assert channel.check_identity(stored)[0] == stored


@EACH
def test_an_identity_that_cannot_send_is_refused_by_its_field(channel: Channel) -> None:
    for identity in of(channel).bad_identities:
        with pytest.raises(Refused) as refused:
            channel.check_identity(identity)
        errors = refused.value.errors if isinstance(refused.value, RefusedMany) else [refused.value]
        assert {(error.field or "").strip("/").split("/")[0].split(".")[0] for error in errors} <= IDENTITY_FIELDS


@EACH
async def test_content_that_cannot_be_rendered_is_refused_when_it_is_saved(channel: Channel) -> None:
    for content in of(channel).bad_contents:
        with pytest.raises(Refused) as refused:
            await channel.compile(content, InProcessRenderer())
        assert (refused.value.field or "").strip("/").split("/")[0] in {"subject", "html", "text", "preheader"}


@CONTENTS
async def test_what_is_compiled_survives_json(channel: Channel, content: Content) -> None:
    compiled = await channel.compile(content, InProcessRenderer())
    if compiled is not None:
        assert json.loads(json.dumps(compiled)) == compiled


@CONTENTS
async def test_every_recipient_gets_an_answer_in_order_with_what_the_wire_needs(
    channel: Channel, content: Content
) -> None:
    items = [item(channel, n) for n in range(1, 40)]
    made = await (await composed(channel, content)).compose(items)
    assert [message.id for message in made] == [each.id for each in items]
    for message in made:
        assert isinstance(message, Outgoing), message
        assert message.address == items[0].address
        assert message.idempotency_key
        assert message.body
    assert len({message.idempotency_key for message in made if isinstance(message, Outgoing)}) == len(items)


@CONTENTS
async def test_the_bytes_depend_on_content_identity_and_recipient_alone(channel: Channel, content: Content) -> None:
    items = [item(channel, n, url=UNSUBSCRIBE) for n in range(1, 6)]
    together = await (await composed(channel, content)).compose(items)
    composer = await composed(channel, content)
    alone = [(await composer.compose([each]))[0] for each in reversed(items)]
    assert together == list(reversed(alone)), "neither a neighbour nor the order nor another composer matters"


@CONTENTS
async def test_what_was_compiled_says_what_rendering_says(channel: Channel, content: Content) -> None:
    values = ["Ann", "", "<b>&\"'</b>", "\u00e4\u4f60\U0001f600", "{{ name }}", "a" * 500, "line\u2028end"]
    items = [item(channel, n, {"name": value}) for n, value in enumerate(values, 1)]
    quick = await (await composed(channel, content)).compose(items)
    slow = await (await composed(channel, content, is_compiled=False)).compose(items)
    for one, other in zip(quick, slow, strict=True):
        assert isinstance(one, Outgoing)
        assert isinstance(other, Outgoing)
        assert of(channel).meaning(one.body) == of(channel).meaning(other.body)
        assert replace(one, body=b"") == replace(other, body=b"")


@EACH
async def test_one_recipient_that_cannot_be_rendered_costs_nobody_else(channel: Channel) -> None:
    composer = await composed(channel, of(channel).unrenderable)
    name = {"first": {"second": "x"}}
    made = await composer.compose([item(channel, n, {"name": 5 if n == 3 else name}) for n in range(1, 6)])
    assert [isinstance(message, Unrenderable) for message in made] == [False, False, True, False, False]
    bad = made[2]
    assert isinstance(bad, Unrenderable)
    assert bad.detail
    assert len(bad.detail) < 1000


@EACH
@pytest.mark.parametrize("variables", [None, "[]", "5", "null", "{", '{"name": 1e999}'])
async def test_variables_that_are_no_object_are_that_messages_fault_or_nothing(
    channel: Channel, variables: str | None
) -> None:
    composer = await composed(channel, of(channel).contents[0])
    odd = replace(item(channel, 1), variables=variables)
    made = await composer.compose([odd, item(channel, 2)])
    assert [message.id for message in made] == [odd.id, item(channel, 2).id]
    assert isinstance(made[1], Outgoing)


@EACH
async def test_a_way_out_is_in_the_message_when_it_is_given_and_not_otherwise(channel: Channel) -> None:
    for content in of(channel).contents:
        composer = await composed(channel, content)
        with_url, without = await composer.compose([item(channel, 1, url=UNSUBSCRIBE), item(channel, 2)])
        assert isinstance(with_url, Outgoing)
        assert isinstance(without, Outgoing)
        way_out = of(channel).way_out(UNSUBSCRIBE)
        assert way_out in with_url.body
        assert way_out not in without.body
        assert b"/u/" not in without.body
