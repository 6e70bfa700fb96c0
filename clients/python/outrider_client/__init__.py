"""A typed client of the Outrider API, synchronous (`Outrider`) and asynchronous (`AsyncOutrider`)."""

from outrider_client.aio import AsyncOutrider
from outrider_client.campaigns import (
    AbTest,
    Approval,
    Campaign,
    Canary,
    Delivery,
    DeliveryState,
    Exclusions,
    Finding,
    LocalTime,
    NewCampaign,
    Pacing,
    Preflight,
    Progress,
    Results,
    RetryDue,
    Variant,
    VariantResult,
)
from outrider_client.errors import ApiError, Mistake, NotNow
from outrider_client.shapes import Attachment, Cause, Event, EventPage, Message, MessageEvent, MessageInfo
from outrider_client.sync import Outrider

__all__ = [
    "AbTest",
    "ApiError",
    "Approval",
    "AsyncOutrider",
    "Attachment",
    "Campaign",
    "Canary",
    "Cause",
    "Delivery",
    "DeliveryState",
    "Event",
    "EventPage",
    "Exclusions",
    "Finding",
    "LocalTime",
    "Message",
    "MessageEvent",
    "MessageInfo",
    "Mistake",
    "NewCampaign",
    "NotNow",
    "Outrider",
    "Pacing",
    "Preflight",
    "Progress",
    "Results",
    "RetryDue",
    "Variant",
    "VariantResult",
]
