"""The HTTP side of the Twilio-shaped sandbox: messages posted and listed, the account, and the bench's own addresses.

POST /2010-04-01/Accounts/{sid}/Messages.json     GET the same, /Messages/{sid}.json, /Accounts/{sid}.json
PUT  /sandbox/rules     GET /sandbox/ledger, /sandbox/stats     POST /sandbox/inbound {from, to, body, url}
"""

from __future__ import annotations

import asyncio
import base64
import fnmatch
import hmac
import random
import re
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

import msgspec
from aiohttp import web

from outrider.base.errors import Misconfigured
from outrider.data.gsm import size_of
from outrider.interfaces.sandbox.leaflet import leaflet
from outrider.interfaces.sandbox.lines import Lines
from outrider.interfaces.sandbox.twilio.callbacks import Caller, status_form
from outrider.interfaces.sandbox.twilio.ledger import TAKEN, Entry, Outcome
from outrider.interfaces.sandbox.twilio.options import Rule, TwilioOptions, read_rules

_SAYS = (
    "This answers programs as Twilio does and sends nothing to anybody. Give a connection its address as base_url; "
    "PUT /sandbox/rules says what goes wrong, outrider sandbox phone lets somebody write back."
)
_LOOKS = (("/sandbox/ledger", "everything that was taken or refused"), ("/sandbox/stats", "how many"))
_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
_MAGIC = {
    "+15005550001": 21211,
    "+15005550002": 21612,
    "+15005550003": 21408,
    "+15005550004": 21610,
    "+15005550009": 21614,
}
"""Twilio's own test numbers: what a message to them is refused with."""
_LONGEST = 1600
_EXPIRED = 30036
_PRICE_PER_PART = 0.0079
_REPLIED = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)


class TwilioSandbox:
    """One account. `messages` by id, as the API shows them."""

    def __init__(self, options: TwilioOptions) -> None:
        self.options = options
        self.ledger = Lines(options.ledger_path, Entry)
        self.messages: dict[str, dict[str, Any]] = {}
        self.leads: dict[str, str] = {}
        """Where what people answer goes: by number, and by the id of a messaging service."""
        self._prices: dict[str, tuple[int, str, str]] = {}
        """When each was taken, what it costs and in which currency."""
        self.rules: list[Rule] = []
        self._struck: dict[int, int] = {}
        self._caller = Caller(options.auth_token, tries=options.callback_tries)
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._closing = asyncio.Event()
        self.request_count = 0
        self.refuses_everybody = False
        """Answer 401, and say the credentials back: whoever shows answers to people must leave that out."""
        self.url = ""
        for entry in self.ledger.entries:
            if entry.outcome in TAKEN:
                self._keep(entry, None)

    async def start(self) -> str:
        """Listen; gives the base address.

        Raises:  Misconfigured(cannot_listen).
        """
        app = web.Application(client_max_size=1 << 20)
        account = f"/2010-04-01/Accounts/{self.options.account_sid}"
        app.router.add_get("/", leaflet("Outrider sandbox of texts", _SAYS, *_LOOKS))
        app.router.add_post(f"{account}/Messages.json", self._signed_in(self._post))
        app.router.add_get(f"{account}/Messages.json", self._signed_in(self._list))
        app.router.add_get(f"{account}/Messages/{{sid}}.json", self._signed_in(self._get))
        app.router.add_get(f"{account}.json", self._signed_in(self._account))
        app.router.add_get(f"{account}/IncomingPhoneNumbers.json", self._signed_in(self._list_numbers))
        app.router.add_get("/v1/Services/{sid}", self._signed_in(self._service))
        app.router.add_put("/sandbox/numbers", self._put_numbers)
        app.router.add_put("/sandbox/rules", self._put_rules)
        app.router.add_get("/sandbox/ledger", self._get_ledger)
        app.router.add_get("/sandbox/stats", self._get_stats)
        app.router.add_post("/sandbox/inbound", self._inbound)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.options.host, self.options.port).start()
        except OSError as error:
            raise Misconfigured("cannot_listen", f"port {self.options.port}: {error.strerror}", field="port") from error
        address = self._runner.addresses[0]
        self.url = f"http://{address[0]}:{address[1]}"
        return self.url

    async def close(self) -> None:
        """Stop listening and calling; hang up on who is kept waiting for an answer."""
        self._closing.set()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        await self._caller.close()
        self.ledger.close()

    async def settled(self) -> None:
        """Wait until every callback that is due was sent or given up."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def write(self, sender: str, to: str, text: str, url: str, **more: str) -> tuple[int, list[str]]:
        """A phone writes: the callback's status, and what it was answered."""
        sid = more.pop("MessageSid", "") or f"SM{random.getrandbits(128):032x}"
        form = {
            "AccountSid": self.options.account_sid, "ApiVersion": "2010-04-01", "Body": text, "From": sender,
            "MessageSid": sid, "NumMedia": "0", "NumSegments": str(size_of(text).segments), "SmsMessageSid": sid,
            "SmsSid": sid, "SmsStatus": "received", "To": to, **more,
        }  # fmt: skip
        status, answer = await self._caller.post(url, form, tries=1)
        replies = _REPLIED.findall(answer)
        for reply in replies:
            self._write_down("reply", sender, to, reply, sid=sid, status=status)
        return status, replies

    def _signed_in(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        expected = base64.b64encode(f"{self.options.account_sid}:{self.options.auth_token}".encode()).decode()

        async def checked(request: web.Request) -> web.StreamResponse:
            self.request_count += 1
            given = request.headers.get("Authorization", "").removeprefix("Basic ")
            if self.refuses_everybody:
                return _error(401, 20003, f"Authenticate: not {self.options.auth_token}")
            if not hmac.compare_digest(given.encode(), expected.encode()):
                return _error(401, 20003, "Authenticate")
            answer: web.StreamResponse = await handler(request)
            return answer

        return checked

    async def _post(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        to, text = form.get("To", ""), form.get("Body", "")
        sender = form.get("From", "") or form.get("MessagingServiceSid", "")
        rule = self._rule(to)
        if rule is not None and rule.delay_s:
            await asyncio.sleep(rule.delay_s)
        if rule is not None and rule.cut == "before":
            self._write_down("cut", to, sender, text)
            return self._hang_up(request)
        refusal = _refusal(form, rule, checks_numbers=self.options.checks_numbers)
        if refusal is not None:
            status, code, message = refusal
            self._write_down("refused", to, sender, text, status=status, code=code)
            return _error(status, code, message, None if rule is None else rule.retry_after_s)
        is_cut = rule is not None and rule.cut == "after"
        sid = (rule.same_sid if rule else None) or f"SM{random.getrandbits(128):032x}"
        entry = self._write_down(
            "accepted_cut" if is_cut else "accepted", to, sender, text, sid=sid, status=201,
            messaging_service_sid=form.get("MessagingServiceSid", ""), status_callback=form.get("StatusCallback", ""),
            validity_period=int(form["ValidityPeriod"]) if "ValidityPeriod" in form else None,
        )  # fmt: skip
        shown = self._keep(entry, rule)
        if rule is not None and rule.delivered_s is not None:
            self._begin(self._deliver(shown, entry, rule.delivered_s))
        else:
            self._report(shown, entry.status_callback, rule)
        if rule is not None and rule.hang_s:
            await self._hang(rule.hang_s)
        if is_cut or self._closing.is_set():
            return self._hang_up(request)
        if rule is not None and rule.body is not None:
            return web.Response(status=201, text=rule.body, content_type="text/html")
        return web.json_response(shown, status=201)

    async def _hang(self, longest_s: float) -> None:
        """Let a caller wait, but not for longer than this server runs."""
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._closing.wait()

    def _hang_up(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    def _rule(self, to: str) -> Rule | None:
        """The first rule that strikes."""
        for at, rule in enumerate(self.rules):
            if not fnmatch.fnmatchcase(to, rule.to):
                continue
            count = self._struck[at] = self._struck.get(at, 0) + 1
            if count > rule.skip and (rule.times is None or count <= rule.skip + rule.times):
                return rule
        return None

    def _write_down(self, outcome: Outcome, to: str, sender: str, text: str, **more: Any) -> Entry:
        entry = Entry(seq=0, at_ns=time.time_ns(), outcome=outcome, to=to, from_=sender, text=text, **more)
        self.ledger.add([entry])
        return entry

    def _keep(self, entry: Entry, rule: Rule | None) -> dict[str, Any]:
        parts = size_of(entry.text).segments
        price = f"{parts * _PRICE_PER_PART:.4f}" if rule is None or rule.price is None else rule.price
        self._prices[entry.sid] = (entry.at_ns, price, "USD" if rule is None else rule.currency)
        at = format_datetime(datetime.fromtimestamp(entry.at_ns / 1e9, UTC))
        self.messages[entry.sid] = shown = {
            "sid": entry.sid, "account_sid": self.options.account_sid, "to": entry.to, "from": entry.from_,
            "body": entry.text, "status": "queued", "num_segments": str(parts), "direction": "outbound-api",
            "price": None, "price_unit": "USD", "error_code": None, "error_message": None, "date_created": at,
            "date_sent": at, "messaging_service_sid": entry.messaging_service_sid or None,
        }  # fmt: skip
        return shown

    def _priced(self, shown: dict[str, Any]) -> dict[str, Any]:
        """A message as it is shown now: what it costs is known after a while only, as a negative number."""
        at_ns, price, unit = self._prices.get(shown["sid"], (0, "", "USD"))
        is_known = price != "" and time.time_ns() - at_ns >= self.options.price_after_s * 1e9
        return {**shown, "price": f"-{price}" if is_known else None, "price_unit": unit}

    def _report(self, shown: dict[str, Any], url: str, rule: Rule | None) -> None:
        chosen = rule.statuses if rule is not None else None
        statuses = list(self.options.statuses if chosen is None else chosen)
        error_code = rule.error_code if rule else None
        shown["status"], shown["error_code"] = (statuses or ["queued"])[-1], error_code
        forms = [
            status_form(shown, self.options.account_sid, status, error_code if status == statuses[-1] else None)
            for status in statuses
            for _ in range(rule.copies if rule else 1)
        ]
        if rule is not None and rule.order != "as sent":
            forms.reverse()
        if rule is not None and rule.order == "shuffled":
            random.shuffle(forms)
        if url:
            self._begin(self._call(url, forms))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, shown: dict[str, Any], entry: Entry, after_s: float) -> None:
        """Let a message wait for its phone; what is not valid for so long never gets there."""
        valid_s = after_s if entry.validity_period is None else entry.validity_period
        is_late = after_s > valid_s
        await asyncio.sleep(min(after_s, valid_s))
        self._write_down("given_up" if is_late else "delivered", entry.to, entry.from_, entry.text, sid=entry.sid)
        last = Rule(statuses=["undelivered"], error_code=_EXPIRED) if is_late else Rule(statuses=["delivered"])
        self._report(shown, entry.status_callback, last)

    async def _call(self, url: str, forms: list[dict[str, str]]) -> None:
        for form in forms:
            if self.options.callback_pause_s:
                await asyncio.sleep(self.options.callback_pause_s)
            await self._caller.post(url, form)

    async def _list(self, request: web.Request) -> web.Response:
        wanted = {name: request.query.get(name) for name in ("To", "From")}
        since, until = _moment(request.query.get("DateSent>")), _moment(request.query.get("DateSent<"))
        found = [
            self._priced(shown)
            for shown in reversed(self.messages.values())
            if all(value is None or shown[name.lower()] == value for name, value in wanted.items())
            and _is_sent_between(shown["date_sent"], since, until)
        ]
        size, page = int(request.query.get("PageSize", "50")), int(request.query.get("Page", "0"))
        more = None
        if len(found) > (page + 1) * size:
            more = str(request.rel_url.update_query({"Page": str(page + 1)}))
        shown = found[page * size : (page + 1) * size]
        return web.json_response({"messages": shown, "next_page_uri": more, "page_size": size})

    async def _get(self, request: web.Request) -> web.Response:
        shown = self.messages.get(request.match_info["sid"])
        return (
            web.json_response(self._priced(shown))
            if shown
            else _error(404, 20404, "The requested resource was not found")
        )

    async def _account(self, _request: web.Request) -> web.Response:
        return web.json_response({"sid": self.options.account_sid, "status": "active", "friendly_name": "sandbox"})

    async def _list_numbers(self, _request: web.Request) -> web.Response:
        numbers = [{"phone_number": number, "sms_url": url, "sms_method": "POST"} for number, url in self.leads.items()]
        return web.json_response({"incoming_phone_numbers": numbers, "next_page_uri": None})

    async def _service(self, request: web.Request) -> web.Response:
        sid = request.match_info["sid"]
        if sid not in self.leads:
            return _error(404, 20404, "The requested resource was not found")
        return web.json_response(
            {"sid": sid, "inbound_request_url": self.leads[sid], "use_inbound_webhook_on_number": False}
        )

    async def _put_numbers(self, request: web.Request) -> web.Response:
        try:
            self.leads = msgspec.json.decode(await request.read(), type=dict[str, str])
        except msgspec.DecodeError as error:
            return web.json_response({"message": str(error)}, status=400)
        return web.json_response({"numbers": len(self.leads)})

    async def _put_rules(self, request: web.Request) -> web.Response:
        try:
            self.rules, self._struck = read_rules(await request.read()), {}
        except Misconfigured as error:
            return web.json_response({"message": str(error)}, status=400)
        return web.json_response({"rules": len(self.rules)})

    async def _get_ledger(self, _request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self.ledger.entries), content_type="application/json")

    async def _get_stats(self, _request: web.Request) -> web.Response:
        outcomes = [entry.outcome for entry in self.ledger.entries]
        counts = {name: outcomes.count(name) for name in ("accepted", "accepted_cut", "refused", "cut", "reply")}
        calls = {"callbacks": self._caller.sent_count, "callbacks_failed": self._caller.failed_count}
        return web.json_response({**counts, **calls, "requests": self.request_count})

    async def _inbound(self, request: web.Request) -> web.Response:
        said = await request.json()
        status, replies = await self.write(said["from"], said["to"], said["body"], said["url"])
        return web.json_response({"status": status, "replies": replies})


def _refusal(form: dict[str, str], rule: Rule | None, *, checks_numbers: bool) -> tuple[int, int, str] | None:
    """Status, code and message, or None when the message is taken."""
    if rule is not None and rule.status is not None:
        return rule.status, rule.code or 20500, "as the rules say"
    to, text = form.get("To", ""), form.get("Body", "")
    if to in _MAGIC:
        return 400, _MAGIC[to], "one of the test numbers"
    if checks_numbers and not _NUMBER.fullmatch(to):
        return 400, 21211, f"The 'To' number {to} is not a valid phone number"
    if not form.get("From") and not form.get("MessagingServiceSid"):
        return 400, 21603, "A 'From' phone number is required"
    if not text:
        return 400, 21602, "Message body is required"
    if len(text) > _LONGEST:
        return 400, 21617, "The concatenated message body exceeds the 1600 character limit"
    return None


def _error(status: int, code: int, message: str, retry_after_s: float | None = None) -> web.Response:
    more_info = f"https://www.twilio.com/docs/errors/{code}"
    headers = {} if retry_after_s is None else {"Retry-After": f"{retry_after_s:g}"}
    body = {"code": code, "message": message, "more_info": more_info, "status": status}
    return web.json_response(body, status=status, headers=headers)


async def serve(options: TwilioOptions, *, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve until `stop`; `ready` is told the base address."""
    sandbox = TwilioSandbox(options)
    try:
        ready(await sandbox.start())
        await stop.wait()
    finally:
        await sandbox.close()


def _moment(text: str | None) -> datetime | None:
    """A day or an instant of a filter."""
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _is_sent_between(sent: str | None, since: datetime | None, until: datetime | None) -> bool:
    """What still waits was never sent."""
    if since is None and until is None:
        return True
    moment = None if sent is None else parsedate_to_datetime(sent)
    return moment is not None and (since is None or moment >= since) and (until is None or moment <= until)
