"""Schedules and the record of their planned times."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Integer,
    SmallInteger,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from outrider.data.orm import Base, CreatedAt, Id, Json, TenantId


class ScheduleRow(Base):
    """When a job is enqueued by itself. Tenant NIL is the installation's: its upkeep."""

    __tablename__ = "schedules"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name"),
        CheckConstraint("misfire IN ('once', 'all', 'skip')"),
        CheckConstraint("ends_at > starts_at"),
        Index("schedules_due", "due_at", postgresql_where=text("paused_at IS NULL AND due_at IS NOT NULL")),
    )

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    name: Mapped[str]
    job_type: Mapped[str]
    arguments: Mapped[dict[str, Any]] = mapped_column(Json, server_default=text("'{}'"))
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("5"))
    cron: Mapped[str]
    timezone: Mapped[str]
    misfire: Mapped[str] = mapped_column(server_default=text("'once'"))
    grace_s: Mapped[int] = mapped_column(Integer)
    jitter_s: Mapped[int] = mapped_column(Integer)
    starts_at: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]
    is_standing: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    paused_at: Mapped[datetime | None]
    paused_by: Mapped[str | None]
    pause_reason: Mapped[str | None]
    handled_at: Mapped[datetime]
    handled_wall: Mapped[datetime | None] = mapped_column(DateTime(timezone=False))
    next_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None]
    offset_s: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    rules: Mapped[str] = mapped_column(server_default=text("''"))
    problem: Mapped[str | None]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]


class RunRow(Base):
    """One planned time or one run by hand, and what became of it; the job of `job_id` has the details."""

    __tablename__ = "schedule_runs"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "schedule_id"], ["schedules.tenant_id", "schedules.id"], ondelete="CASCADE"),
        CheckConstraint("trigger IN ('scheduled', 'manual')"),
        CheckConstraint("state IN ('waiting', 'enqueued', 'succeeded', 'failed', 'deleted', 'missed', 'skipped')"),
        Index(
            "schedule_runs_planned", "tenant_id", "schedule_id", "planned_at",
            unique=True, postgresql_where=text("trigger = 'scheduled'"),
        ),
        Index(
            "schedule_runs_one_at_once", "tenant_id", "schedule_id",
            unique=True, postgresql_where=text("state = 'enqueued'"),
        ),
        Index(
            "schedule_runs_waiting", "tenant_id", "schedule_id", "planned_at",
            postgresql_where=text("state = 'waiting'"),
        ),
        Index(
            "schedule_runs_missed", "tenant_id", "schedule_id", "planned_at",
            postgresql_where=text("state = 'missed' AND made_up_by IS NULL"),
        ),
        Index("schedule_runs_history", "tenant_id", "schedule_id", "planned_at", "id"),
        Index("schedule_runs_recorded", "recorded_at"),
    )  # fmt: skip

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    schedule_id: Mapped[UUID]
    planned_at: Mapped[datetime]
    trigger: Mapped[str]
    state: Mapped[str]
    is_late: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    job_id: Mapped[UUID | None]
    reason: Mapped[str | None]
    actor: Mapped[str]
    made_up_by: Mapped[UUID | None]
    recorded_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]
