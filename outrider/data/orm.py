"""The declarative base of control-plane tables and the column types they share."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import DateTime, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column

TenantId = Annotated[UUID, mapped_column(primary_key=True)]
Id = Annotated[UUID, mapped_column(primary_key=True, server_default=text("outrider_id()"))]
Moment = Annotated[datetime, mapped_column(DateTime(timezone=True))]
CreatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]


class Base(DeclarativeBase):
    """Base of every control-plane model. The schema itself is made by the migrations; a test compares the two."""

    type_annotation_map = {str: Text, dict[str, Any]: JSONB, list[Any]: JSONB, datetime: DateTime(timezone=True)}  # noqa: RUF012 - SQLAlchemy's declared form
