"""The letter every side sends: about 4 kB on the wire, three substitutions per recipient, plain ASCII in short lines.

Short lines, so that no side needs to encode anything.
"""

from __future__ import annotations

SUBJECT = "{{ name }}, your order {{ order }}"
_FILL = "Each line of this letter is as long as a line of prose in a mail of a shop."
HTML = (
    "<html><body>\n<p>Dear {{ name }},</p>\n<p>your order {{ order }} is on its way to {{ city }}.</p>\n"
    + "".join(f"<p>{_FILL}</p>\n" for _ in range(40))
    + "</body></html>\n"
)
TEXT = "Dear {{ name }},\n\nyour order {{ order }} is on its way to {{ city }}.\n"
SENDER = "shop@sender.example"
CITIES = ("Lisbon", "Utrecht", "Turin", "Malmo", "Graz")


def address(number: int) -> str:
    """The address of a recipient."""
    return f"user{number}@recipient.example"


def variables(number: int) -> dict[str, str]:
    """What is substituted for a recipient."""
    return {"name": f"Recipient {number}", "order": f"A-{number:07d}", "city": CITIES[number % len(CITIES)]}
