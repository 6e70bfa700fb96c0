"""The mail that asks for a confirmation: one content per tenant's look, sent through the queue like everything else.

Owns its words. Nothing that a visitor typed stands in it: a form must not carry a stranger's text to somebody else.
"""

from __future__ import annotations

from uuid import UUID

import orjson

from outrider.contracts.channel import Channel, Renderer
from outrider.data.db import UnitOfWork
from outrider.domain.messages.admit import LaneKey, NewMessage, admit
from outrider.domain.signup.forms import CHANNEL, Form
from outrider.domain.templates import contents
from outrider.domain.tenants.looks import Look

PURPOSE = "confirmation"
_COLOUR = "#1a56c4"
_SUBJECT = "Please confirm: {{ form_title }}"
_TEXT = """Somebody, probably you, asked {{ tenant }} to send mail to this address:

  {{ lists }}

If that was you, open this address and press the button:

{{ confirm_url }}

It works for {{ hours }} hours. If it was not you, do nothing: you will get nothing more because of this.

{{ tenant }}
"""
_HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Please confirm</title></head>
<body style="margin:0;padding:24px 16px;font:16px/1.5 sans-serif;color:#1b1f24;background:#ffffff">
<div style="max-width:520px;margin:0 auto">
<p>Somebody, probably you, asked <b>{{ tenant }}</b> to send mail to this address:</p>
<p style="padding:12px 16px;background:#f1f3f6;border-radius:6px"><b>{{ lists }}</b></p>
<p>If that was you, open the page and press the button there:</p>
<p><a href="{{ confirm_url }}" style="display:inline-block;padding:12px 20px;border-radius:6px;background:COLOUR;
color:#ffffff;text-decoration:none;font-weight:bold">Confirm my subscription</a></p>
<p style="font-size:14px;color:#525b67">It works for {{ hours }} hours. If it was not you, do nothing: you will
get nothing more because of this.</p>
</div></body></html>
"""


async def ask(
    uow: UnitOfWork,
    channel: Channel,
    renderer: Renderer,
    form: Form,
    look: Look,
    *,
    address: str,
    titles: list[str],
    url: str,
    hours: int,
) -> UUID:
    """Queue the mail with the link, in the caller's transaction (engine role). Gives the message's id."""
    content_id = await contents.save(
        uow,
        channel,
        renderer,
        subject=_SUBJECT,
        html=_HTML.replace("COLOUR", look.colour or _COLOUR),
        text=_TEXT,
        is_template=True,
    )
    values = {
        "form_title": form.title,
        "tenant": look.name,
        "lists": ", ".join(titles),
        "confirm_url": url,
        "hours": hours,
    }
    key = LaneKey(CHANNEL, form.sender_id, "transactional", PURPOSE, 0)
    (message_id,) = await admit(uow, uow.tenant, key, [NewMessage(address, content_id, orjson.dumps(values).decode())])
    return message_id
