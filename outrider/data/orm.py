"""The declarative base of control-plane tables and the column types they share."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
from sqlalchemy import DateTime, Dialect, Text, TypeDecorator, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column

TenantId = Annotated[UUID, mapped_column(primary_key=True)]
Id = Annotated[UUID, mapped_column(primary_key=True, server_default=text("outrider_id()"))]
Moment = Annotated[datetime, mapped_column(DateTime(timezone=True))]
CreatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]


class Json(TypeDecorator[Any]):
    """A jsonb column: Python values in models, while raw connections of the same pool give its text."""

    impl = JSONB
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Parse what the driver gave as text."""
        del dialect
        return orjson.loads(value) if isinstance(value, str) else value


class Base(DeclarativeBase):
    """Base of every control-plane model. The schema itself is made by the migrations; a test compares the two."""

    type_annotation_map = {str: Text, dict[str, Any]: Json, list[Any]: Json, datetime: DateTime(timezone=True)}  # noqa: RUF012 - SQLAlchemy's declared form
