"""A typed client of the Outrider API, synchronous (`Outrider`) and asynchronous (`AsyncOutrider`)."""

from outrider_client.aio import AsyncOutrider
from outrider_client.errors import ApiError, Mistake, NotNow
from outrider_client.shapes import Attachment, Event, EventPage, Message, MessageInfo
from outrider_client.sync import Outrider

__all__ = [
    "ApiError",
    "AsyncOutrider",
    "Attachment",
    "Event",
    "EventPage",
    "Message",
    "MessageInfo",
    "Mistake",
    "NotNow",
    "Outrider",
]
