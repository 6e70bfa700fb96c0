"""What reads the rows of a file, by what they are. Pure."""

from __future__ import annotations

from outrider.contracts.channel import Channel
from outrider.domain.contacts.imports.entries import EntryReader
from outrider.domain.contacts.imports.options import Column, Options
from outrider.domain.contacts.imports.people import RowReader

Reader = RowReader | EntryReader


def reader_of(columns: list[Column], options: Options, channel: Channel) -> Reader:
    """The reader for what the rows of an import are."""
    return (RowReader if options.kind == "contacts" else EntryReader)(columns, options, channel)
