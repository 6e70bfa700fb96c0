"""The rules of a segment: what may be said about contacts, as a tree of plain data.

Owns the words and their shapes; what they mean in SQL is in compile.py, whether they fit a tenant in check.py.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec

Text = Annotated[str, msgspec.Meta(max_length=1000)]
Scalar = Text | int | float | bool
Days = Annotated[int, msgspec.Meta(ge=0, le=36_500)]

AttributeOperator = Literal[
    "is", "is_not", "is_one_of", "is_none_of", "contains", "starts_with", "is_set", "is_not_set", "above", "at_least",
    "below", "at_most", "since", "before", "in_last_days", "in_next_days", "anniversary_in_next_days",
]  # fmt: skip
FieldOperator = Literal["is", "is_not", "is_one_of", "is_none_of", "contains", "starts_with", "is_set", "is_not_set"]
MomentOperator = Literal["since", "before", "in_last_days", "not_in_last_days"]
CampaignOutcome = Literal["got", "may_have_got", "did_not_get"]


class _Rule(msgspec.Struct, forbid_unknown_fields=True, frozen=True, tag_field="kind"):
    """Common to all rules: told apart by `kind`."""


class AllOf(_Rule, tag="all", frozen=True):
    """Every one of the rules holds; without rules: everybody."""

    rules: Annotated[list[Rule], msgspec.Meta(max_length=50)]


class AnyOf(_Rule, tag="any", frozen=True):
    """At least one of the rules holds; without rules: nobody."""

    rules: Annotated[list[Rule], msgspec.Meta(max_length=50)]


class Not(_Rule, tag="not", frozen=True):
    """The rule does not hold: everybody else, those included of whom it cannot be said."""

    rule: Rule


class Attribute(_Rule, tag="attribute", frozen=True):
    """What an attribute says.

    `value` is one value, a list for is_one_of and is_none_of, days for …_days, absent for is_set and is_not_set.
    """

    key: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]{0,62}$")]
    op: AttributeOperator = "is"
    value: Scalar | Annotated[list[Scalar], msgspec.Meta(max_length=1000)] | None = None


class Field(_Rule, tag="field", frozen=True):
    """What a field of the contact says."""

    field: Literal["name", "external_id", "locale", "timezone"]
    op: FieldOperator = "is"
    value: Text | Annotated[list[Text], msgspec.Meta(max_length=1000)] | None = None


class Moment(_Rule, tag="moment", frozen=True):
    """When the contact was made or last changed; `value` is an RFC 3339 moment, or a number of days."""

    field: Literal["created_at", "updated_at"]
    op: MomentOperator
    value: Text | Days


class Tag(_Rule, tag="tag", frozen=True):
    """The contact has one of the tags."""

    tags: Annotated[list[Text], msgspec.Meta(min_length=1, max_length=100)]


class OnList(_Rule, tag="list", frozen=True):
    """The contact is on one of the lists."""

    list_ids: Annotated[list[UUID], msgspec.Meta(min_length=1, max_length=100)]


class InSegment(_Rule, tag="segment", frozen=True):
    """The contact belongs to another segment."""

    segment_id: UUID


class Address(_Rule, tag="address", frozen=True):
    """The contact has an address in the channel; `contains` or `domain` say which."""

    channel: Text
    contains: Text | None = None
    domain: Text | None = None


class Consent(_Rule, tag="consent", frozen=True):
    """What holds about consent; `silent`: nothing was ever said."""

    status: Literal["granted", "withdrawn", "silent"]
    channel: Text = "email"
    purpose: Text = "marketing"


class Suppressed(_Rule, tag="suppressed", frozen=True):
    """An address of the contact in the channel is on the do-not-contact list."""

    channel: Text = "email"


class OfCampaign(_Rule, tag="campaign", frozen=True):
    """What became of a campaign for the contact.

    got           it was sent
    may_have_got  it was sent, or may have been, or is about to be: what to exclude, so that nobody gets two
    did_not_get   it was chosen and ended without being sent
    """

    campaign_ids: Annotated[list[UUID], msgspec.Meta(min_length=1, max_length=100)]
    outcome: CampaignOutcome = "got"


class WrittenTo(_Rule, tag="written_to", frozen=True):
    """The contact was sent at least so many messages in the last days."""

    in_last_days: Annotated[int, msgspec.Meta(ge=1, le=1095)]
    at_least: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1


class Event(_Rule, tag="event", frozen=True):
    """Something happened to messages of the contact at least so often, of any campaign or of one."""

    event: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z_]{0,39}$")]
    in_last_days: Annotated[int, msgspec.Meta(ge=1, le=1095)] | None = None
    campaign_id: UUID | None = None
    at_least: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1


class Anywhere(_Rule, tag="text", frozen=True):
    """Name, external id or an address contains the text, whatever the case."""

    contains: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


Rule = (
    AllOf
    | AnyOf
    | Not
    | Attribute
    | Field
    | Moment
    | Tag
    | OnList
    | InSegment
    | Address
    | Consent
    | Suppressed
    | OfCampaign
    | WrittenTo
    | Event
    | Anywhere
)

EVERYBODY = AllOf([])
