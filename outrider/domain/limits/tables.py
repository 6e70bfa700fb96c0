"""The installation's row, switches and buckets."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKeyConstraint,
    Identity,
    Index,
    SmallInteger,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from outrider.data.orm import Base, CreatedAt, TenantId


class Installation(Base):
    """The one row of what concerns every tenant at once. `switch_epoch` grows with every pause and resume."""

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("id = 1"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False, server_default=text("1"))
    installation_id: Mapped[UUID] = mapped_column(server_default=text("gen_random_uuid()"))
    switch_epoch: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    maintenance_since: Mapped[datetime | None]
    maintenance_reason: Mapped[str | None]
    maintenance_by: Mapped[str | None]
    key_id: Mapped[str | None]
    key_check: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    open_most: Mapped[int | None] = mapped_column(BigInteger)
    tenant_open_most: Mapped[int | None] = mapped_column(BigInteger)
    open_bulk_percent: Mapped[int | None] = mapped_column(SmallInteger)


class SwitchRow(Base):
    """A row means: paused."""

    __tablename__ = "switches"
    __table_args__ = (CheckConstraint("scope IN ('installation', 'tenant', 'channel', 'sender', 'campaign')"),)

    tenant_id: Mapped[TenantId]
    scope: Mapped[str] = mapped_column(primary_key=True)
    scope_id: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(server_default=text("'not given'"))
    actor: Mapped[str]
    at: Mapped[CreatedAt]


class _Filled:
    """What is in a bucket, and when by the database's clock it was so."""

    tokens: Mapped[float] = mapped_column(Double)
    at_s: Mapped[float] = mapped_column(Double, server_default=text("extract(epoch FROM clock_timestamp())"))


class BucketRow(_Filled, Base):
    """A shared token bucket: at most `cap` at once and `rate` per second, refilled by the database's clock."""

    __tablename__ = "buckets"
    __table_args__ = (
        CheckConstraint("scope IN ('tenant', 'sender', 'campaign', 'connection')"),
        CheckConstraint("rate > 0"),
        CheckConstraint("cap >= 1"),
        {"postgresql_with": {"fillfactor": 10}},
    )

    tenant_id: Mapped[TenantId]
    scope: Mapped[str] = mapped_column(primary_key=True)
    scope_id: Mapped[UUID] = mapped_column(primary_key=True)
    rate: Mapped[float] = mapped_column(Double)
    cap: Mapped[float] = mapped_column(Double)
    granted: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class AccountBucketRow(_Filled, Base):
    """What may go by an account at a provider now, at one of the rates that connections to it have; tenant NIL."""

    __tablename__ = "account_buckets"
    __table_args__ = ({"postgresql_with": {"fillfactor": 10}},)

    tenant_id: Mapped[TenantId]
    account: Mapped[str] = mapped_column(primary_key=True)
    rate: Mapped[float] = mapped_column(Double, primary_key=True)
    cap: Mapped[float] = mapped_column(Double, primary_key=True)


class AccountTurnRow(Base):
    """Up to when turns to make a request to an account are given out; tenant NIL."""

    __tablename__ = "account_turns"
    __table_args__ = ({"postgresql_with": {"fillfactor": 10}},)

    tenant_id: Mapped[TenantId]
    account: Mapped[str] = mapped_column(primary_key=True)
    next_s: Mapped[float] = mapped_column(Double)


class DestinationRateRow(Base):
    """How fast a mail domain, or texts to a country, are sent; tenant NIL: for who has no rate of its own."""

    __tablename__ = "destination_rates"
    __table_args__ = (CheckConstraint("rate > 0"), CheckConstraint("cap >= 1"))

    tenant_id: Mapped[TenantId]
    channel: Mapped[str] = mapped_column(primary_key=True)
    destination: Mapped[str] = mapped_column(primary_key=True)
    rate: Mapped[float] = mapped_column(Double)
    cap: Mapped[float] = mapped_column(Double)
    updated_at: Mapped[CreatedAt]


class DestinationBucketRow(_Filled, Base):
    """What a tenant may send to a destination now."""

    __tablename__ = "destination_buckets"
    __table_args__ = ({"postgresql_with": {"fillfactor": 10}},)

    tenant_id: Mapped[TenantId]
    channel: Mapped[str] = mapped_column(primary_key=True)
    destination: Mapped[str] = mapped_column(primary_key=True)


class DestinationTurnRow(Base):
    """Up to when turns are given out to what a lane has held for a destination."""

    __tablename__ = "destination_turns"
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)

    tenant_id: Mapped[TenantId]
    channel: Mapped[str] = mapped_column(primary_key=True)
    destination: Mapped[str] = mapped_column(primary_key=True)
    lane_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    next_s: Mapped[float] = mapped_column(Double)


class WarmUpRow(Base):
    """A sender's plan and where it stands: `step` is the day of the plan that `day_on` is."""

    __tablename__ = "warm_ups"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "sender_id"], ["senders.tenant_id", "senders.id"], ondelete="CASCADE"),
        CheckConstraint("state IN ('running', 'paused', 'finished')"),
        CheckConstraint("step >= 1"),
        CheckConstraint("day_sent >= 0 AND hour_sent >= 0"),
        CheckConstraint("reserve_percent BETWEEN 0 AND 50"),
        {"postgresql_with": {"fillfactor": 10}},
    )

    tenant_id: Mapped[TenantId]
    sender_id: Mapped[UUID] = mapped_column(primary_key=True)
    plan: Mapped[str]
    steps: Mapped[list[Any]]
    starts_on: Mapped[date]
    state: Mapped[str] = mapped_column(server_default=text("'running'"))
    step: Mapped[int] = mapped_column(server_default=text("1"))
    day_on: Mapped[date]
    day_began_at: Mapped[datetime]
    day_ends_at: Mapped[datetime]
    day_sent: Mapped[int] = mapped_column(server_default=text("0"))
    hour_ends_at: Mapped[datetime]
    hour_sent: Mapped[int] = mapped_column(server_default=text("0"))
    is_transactional_exempt: Mapped[bool] = mapped_column(server_default=text("false"))
    reserve_percent: Mapped[int] = mapped_column(server_default=text("10"))
    most_bounces_percent: Mapped[float] = mapped_column(Double, server_default=text("5"))
    most_complaints_percent: Mapped[float] = mapped_column(Double, server_default=text("0.1"))
    note: Mapped[str] = mapped_column(server_default=text("''"))
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]


class WarmUpSendRow(Base):
    """An attempt that counts in a day of a plan."""

    __tablename__ = "warm_up_sends"
    __table_args__ = (Index("warm_up_sends_at", "at"),)

    tenant_id: Mapped[TenantId]
    message_id: Mapped[UUID] = mapped_column(primary_key=True)
    token: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    sender_id: Mapped[UUID]
    day_on: Mapped[date]
    hour_ends_at: Mapped[datetime]
    at: Mapped[CreatedAt]


class MessageSourceRow(Base):
    """Who asked for a text, to which country and range of numbers."""

    __tablename__ = "message_sources"
    __table_args__ = (
        Index("message_sources_source", "tenant_id", "source", "country", "at"),
        Index("message_sources_range", "tenant_id", "range", "at"),
        Index("message_sources_at", "at"),
    )

    tenant_id: Mapped[TenantId]
    message_id: Mapped[UUID] = mapped_column(primary_key=True)
    source: Mapped[str]
    country: Mapped[str]
    range: Mapped[str]
    at: Mapped[CreatedAt]


class CampaignGatesRow(Base):
    """Settings of gates that hold for one campaign instead of its tenant's."""

    __tablename__ = "campaign_gates"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "campaign_id"], ["campaigns.tenant_id", "campaigns.id"], ondelete="CASCADE"),
    )

    tenant_id: Mapped[TenantId]
    campaign_id: Mapped[UUID] = mapped_column(primary_key=True)
    settings: Mapped[dict[str, Any]]
    updated_at: Mapped[CreatedAt]


class PriceRow(Base):
    """What one part of a message costs from a moment on."""

    __tablename__ = "prices"
    __table_args__ = (CheckConstraint("micros >= 0"), CheckConstraint("country ~ '^([A-Z]{2})?$'"))

    tenant_id: Mapped[TenantId]
    channel: Mapped[str] = mapped_column(primary_key=True)
    country: Mapped[str] = mapped_column(primary_key=True, server_default=text("''"))
    valid_from: Mapped[datetime] = mapped_column(primary_key=True, server_default=func.now())
    micros: Mapped[int] = mapped_column(BigInteger)
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]


class BudgetAccountRow(Base):
    """What was spent in this day and month; a campaign's limits."""

    __tablename__ = "budget_accounts"
    __table_args__ = (
        CheckConstraint("scope IN ('tenant', 'campaign')"),
        CheckConstraint("daily_cents >= 0 AND monthly_cents >= 0"),
        CheckConstraint("day_spent_micros >= 0 AND month_spent_micros >= 0"),
        Index("budget_accounts_freed", "tenant_id", postgresql_where=text("is_freed")),
        {"postgresql_with": {"fillfactor": 10}},
    )

    tenant_id: Mapped[TenantId]
    scope: Mapped[str] = mapped_column(primary_key=True)
    scope_id: Mapped[UUID] = mapped_column(primary_key=True)
    daily_cents: Mapped[int | None] = mapped_column(BigInteger)
    monthly_cents: Mapped[int | None] = mapped_column(BigInteger)
    day_on: Mapped[date]
    day_ends_at: Mapped[datetime]
    day_spent_micros: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    month_on: Mapped[date]
    month_ends_at: Mapped[datetime]
    month_spent_micros: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    is_short: Mapped[bool] = mapped_column(server_default=text("false"))
    is_freed: Mapped[bool] = mapped_column(server_default=text("false"))


class ChargeRow(Base):
    """What an attempt was charged."""

    __tablename__ = "charges"
    __table_args__ = (
        Index("charges_at", "at"),
        Index("charges_ask", "tenant_id", "ask_at", postgresql_where=text("ask_at IS NOT NULL")),
        {"postgresql_with": {"fillfactor": 70}},
    )

    tenant_id: Mapped[TenantId]
    message_id: Mapped[UUID] = mapped_column(primary_key=True)
    token: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    campaign_id: Mapped[UUID | None]
    micros: Mapped[int] = mapped_column(BigInteger)
    segments: Mapped[int] = mapped_column(SmallInteger)
    day_on: Mapped[date]
    month_on: Mapped[date]
    is_settled: Mapped[bool] = mapped_column(server_default=text("false"))
    at: Mapped[CreatedAt]
    ask_at: Mapped[datetime | None]
    provider_id: Mapped[str | None]


class BudgetEventRow(Base):
    """A budget was used up to a share; once per period."""

    __tablename__ = "budget_events"
    __table_args__ = (Index("budget_events_at", "tenant_id", "at"),)

    tenant_id: Mapped[TenantId]
    scope: Mapped[str] = mapped_column(primary_key=True)
    scope_id: Mapped[UUID] = mapped_column(primary_key=True)
    period: Mapped[str] = mapped_column(primary_key=True)
    period_on: Mapped[date] = mapped_column(primary_key=True)
    percent: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    spent_cents: Mapped[int] = mapped_column(BigInteger)
    limit_cents: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))


class BudgetHandChangeRow(Base):
    """An UPDATE by hand that is not in the audit log yet."""

    __tablename__ = "budget_hand_changes"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    tenant_id: Mapped[UUID]
    what: Mapped[str]
    before_cents: Mapped[int | None] = mapped_column(BigInteger)
    after_cents: Mapped[int | None] = mapped_column(BigInteger)
    by_login: Mapped[str] = mapped_column(server_default=text("session_user"))
    at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))


class ContactSendRow(Base):
    """An attempt that counts for a contact."""

    __tablename__ = "contact_sends"
    __table_args__ = (
        Index("contact_sends_contact", "tenant_id", "contact_id", "purpose", "at"),
        Index("contact_sends_at", "at"),
    )

    tenant_id: Mapped[TenantId]
    message_id: Mapped[UUID] = mapped_column(primary_key=True)
    token: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    contact_id: Mapped[UUID]
    purpose: Mapped[str]
    at: Mapped[CreatedAt]
