"""The synchronous client's calls about campaigns: campaigns_aio.py drawn by `make docs`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Unpack

from outrider_client.calls import CAMPAIGNS, Call, campaign_path
from outrider_client.campaigns import (
    Approval,
    Campaign,
    CampaignChange,
    Delivery,
    DeliveryState,
    NewCampaign,
    Pacing,
    Preflight,
    Progress,
    Results,
    RetryDue,
    VariantResult,
)
from outrider_client.letters import Preview, TestSend, WebVersion
from outrider_client.reading import body, read


class Campaigns:
    """Campaigns of one installation: `outrider.campaigns`.

    A change whose answer was lost is not repeated by itself, it raises NotNow: ask `progress` what became of it. Doing
    it again does no harm: a campaign is launched, undone and cancelled once (409 says what state it is in).
    """

    def __init__(self, call: Callable[[Call], Any]) -> None:
        self._call = call

    def create(self, new: NewCampaign) -> Campaign:
        """Make a draft."""
        return read(Campaign, self._call(Call("POST", CAMPAIGNS, json=body(new))))

    def get(self, campaign_id: str) -> Campaign:
        """One campaign as it stands."""
        return read(Campaign, self._call(Call("GET", campaign_path(campaign_id))))

    def all(self, *, state: str | None = None, page_size: int = 100) -> Iterator[Campaign]:
        """Campaigns, newest first, read page after page."""
        wanted: dict[str, Any] = {"limit": page_size} | ({"state": state} if state else {})
        cursor = ""
        while True:
            params = {**wanted, **({"cursor": cursor} if cursor else {})}
            answer = self._call(Call("GET", CAMPAIGNS, params=params))
            for one in answer["items"]:
                yield read(Campaign, one)
            cursor = answer["next_cursor"] or ""
            if not cursor:
                return

    def change(self, campaign_id: str, **changes: Unpack[CampaignChange]) -> Campaign:
        """Change a draft; what is not named stays."""
        wanted = {name: body(value) for name, value in changes.items()}
        return read(Campaign, self._call(Call("PATCH", campaign_path(campaign_id), json=wanted)))

    def delete(self, campaign_id: str) -> None:
        """Delete a draft; launched campaigns stay."""
        self._call(Call("DELETE", campaign_path(campaign_id)))

    # how it goes out

    def delivery(self, campaign_id: str) -> DeliveryState:
        """How a campaign goes out, and how far its waves are."""
        return read(DeliveryState, self._call(Call("GET", campaign_path(campaign_id, "delivery"))))

    def set_delivery(self, campaign_id: str, delivery: Delivery) -> DeliveryState:
        """Say of a draft how it goes out, in place of what was said before."""
        wanted = body(delivery)
        return read(DeliveryState, self._call(Call("PUT", campaign_path(campaign_id, "delivery"), json=wanted)))

    def set_pace(self, campaign_id: str, pacing: Pacing | None, *, reason: str = "") -> DeliveryState:
        """Change the pace of a launched campaign; None: as fast as sender and tenant allow."""
        wanted = {"pacing": body(pacing), "reason": reason}
        return read(DeliveryState, self._call(Call("PUT", campaign_path(campaign_id, "pace"), json=wanted)))

    def go_on(self, campaign_id: str, *, reason: str = "") -> DeliveryState:
        """Let the next wave go, before anybody looked or although the canary stopped it."""
        return read(DeliveryState, self._do(campaign_id, "go-on", reason))

    def stop(self, campaign_id: str, *, reason: str = "") -> DeliveryState:
        """Stop it before its next wave; when this returns nothing more of it is claimed."""
        return read(DeliveryState, self._do(campaign_id, "stop", reason))

    def choose_winner(self, campaign_id: str, variant: str, *, reason: str = "") -> DeliveryState:
        """Choose, by its name, the variant that the rest gets; once chosen it stays."""
        return read(DeliveryState, self._do(campaign_id, "winner", reason, variant=variant))

    # before it is sent

    def preview(
        self,
        campaign_id: str,
        *,
        variant: str | None = None,
        contact_id: str | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> Preview:
        """Show what a recipient would get; nothing is sent.

        Takes:   variant     its name; None: the winner, else the first, where it compares some
                 contact_id  for this contact (the key needs the scope `contacts:read`), with `variables` on top
        """
        wanted = {"variant": variant, "contact_id": contact_id, "variables": dict(variables or {})}
        return read(Preview, self._call(Call("POST", campaign_path(campaign_id, "preview"), json=wanted)))

    def test_send(
        self,
        campaign_id: str,
        to: Sequence[str],
        *,
        variant: str | None = None,
        contact_id: str | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> TestSend:
        """Send what it says to users of the tenant, or to what the operator allows, marked as a test."""
        wanted = {"variant": variant, "contact_id": contact_id, "variables": dict(variables or {}), "to": list(to)}
        return read(TestSend, self._call(Call("POST", campaign_path(campaign_id, "test"), json=wanted)))

    # launching

    def preflight(
        self,
        campaign_id: str,
        *,
        examine_connection: bool = False,
        dial_links: bool = False,
    ) -> Preflight:
        """Say whom it would reach and what stands in its way; nothing is sent.

        Takes:   examine_connection, dial_links: try its sender's server, and those of its links, too (up to 30 s)
        """
        wanted = {"examine_connection": examine_connection, "dial_links": dial_links}
        return read(Preflight, self._call(Call("POST", campaign_path(campaign_id, "preflight"), json=wanted)))

    def launch(
        self, campaign_id: str, *, reason: str = "", undo_s: int | None = None, acknowledge: Sequence[str] = ()
    ) -> Campaign:
        """Start sending.

        Takes:   undo_s       for how long the launch can be taken back; None: as the tenant's setting says
                 acknowledge  codes of findings of the preflight that are meant
        Raises:  ApiError with everything that blocks it (`errors`), or 409 not_draft when it was launched before.
        """
        undo = {} if undo_s is None else {"undo_s": undo_s}
        return read(Campaign, self._do(campaign_id, "launch", reason, acknowledge=list(acknowledge), **undo))

    def undo(self, campaign_id: str, *, reason: str = "") -> Campaign:
        """Take a launch back before anything was queued: it is a draft again."""
        return read(Campaign, self._do(campaign_id, "undo", reason))

    def schedule(
        self, campaign_id: str, launch_at: datetime, *, reason: str = "", acknowledge: Sequence[str] = ()
    ) -> Campaign:
        """Launch it by itself at a moment, which needs its offset from UTC."""
        wanted = {"launch_at": launch_at.isoformat(), "acknowledge": list(acknowledge)}
        return read(Campaign, self._do(campaign_id, "schedule", reason, **wanted))

    def unschedule(self, campaign_id: str, *, reason: str = "") -> Campaign:
        """Make a scheduled campaign a draft again."""
        return read(Campaign, self._do(campaign_id, "unschedule", reason))

    def request_approval(
        self,
        campaign_id: str,
        *,
        reason: str = "",
        acknowledge: Sequence[str] = (),
    ) -> Approval:
        """Ask a second person to approve a draft as it is now. Only people answer: no key can."""
        return read(Approval, self._do(campaign_id, "approval/request", reason, acknowledge=list(acknowledge)))

    def withdraw_approval(self, campaign_id: str, *, reason: str = "") -> Approval:
        """Take a request back, or an approval that is not wanted any more."""
        return read(Approval, self._do(campaign_id, "approval/withdraw", reason))

    def approvals(self, *, state: str | None = None, campaign_id: str | None = None) -> list[Approval]:
        """The newest 1,000 requests for approval and their answers; `waiting` is what waits for one."""
        wanted = {"state": state, "campaign_id": campaign_id}
        params = {"limit": 1000, **{name: value for name, value in wanted.items() if value is not None}}
        answer = self._call(Call("GET", "/api/v1/approvals", params=params))
        return [read(Approval, one) for one in answer["items"]]

    # while it is sent

    def pause(self, campaign_id: str, *, reason: str = "") -> Campaign:
        """Stop it where it is; when this returns, nothing more of it is claimed."""
        return read(Campaign, self._do(campaign_id, "pause", reason))

    def resume(self, campaign_id: str, *, reason: str = "") -> Campaign:
        """Let a paused campaign go on where it was."""
        return read(Campaign, self._do(campaign_id, "resume", reason))

    def cancel(self, campaign_id: str, *, reason: str = "") -> Progress:
        """End it: what waits is withdrawn, what is on the wire ends by itself."""
        return read(Progress, self._do(campaign_id, "cancel", reason))

    def progress(self, campaign_id: str) -> Progress:
        """How far it is, by state of its messages."""
        return read(Progress, self._call(Call("GET", campaign_path(campaign_id, "progress"))))

    # afterwards

    def results(self, campaign_id: str) -> Results:
        """What became of it: sent, opened, clicked; people counted once, machines apart."""
        return read(Results, self._call(Call("GET", campaign_path(campaign_id, "results"))))

    def variant_results(self, campaign_id: str) -> list[VariantResult]:
        """How each variant fared; empty when it compares nothing."""
        answer = self._call(Call("GET", campaign_path(campaign_id, "results/variants")))
        return [read(VariantResult, one) for one in answer["items"]]

    def sheet(self, campaign_id: str) -> dict[str, Any]:
        """What the preflight promised beside what happened, with every difference explained; as the API says it."""
        found: dict[str, Any] = self._call(Call("GET", campaign_path(campaign_id, "sheet")))
        return found

    def publish(self, campaign_id: str, variables: Mapping[str, Any] | None = None) -> WebVersion:
        """Give a launched campaign a public page, with values that stand for a recipient's; its address stays."""
        wanted = {"variables": dict(variables or {})}
        return read(WebVersion, self._call(Call("PUT", campaign_path(campaign_id, "web-version"), json=wanted)))

    def web_version(self, campaign_id: str) -> WebVersion:
        """Its public page; ApiError `not_published` when it has none."""
        return read(WebVersion, self._call(Call("GET", campaign_path(campaign_id, "web-version"))))

    def unpublish(self, campaign_id: str) -> None:
        """Take its public page away; the address never leads anywhere again."""
        self._call(Call("DELETE", campaign_path(campaign_id, "web-version")))

    def retry_due(self, campaign_id: str) -> RetryDue:
        """Count whom a retry would be sent to now."""
        return read(RetryDue, self._call(Call("GET", campaign_path(campaign_id, "retry"))))

    def retry(self, campaign_id: str, count: int, *, reason: str = "") -> Campaign:
        """Send again to those whose message failed by a passing cause.

        Takes:   count: how many they are, as `retry_due` says; another number is refused (409)
        Gives:   the retry, a campaign of its own.
        """
        return read(Campaign, self._do(campaign_id, "retry", reason, count=count))

    def _do(self, campaign_id: str, verb: str, reason: str, **more: Any) -> Any:
        why = {"reason": reason} if reason else {}
        return self._call(Call("POST", campaign_path(campaign_id, verb), json={**more, **why}))
