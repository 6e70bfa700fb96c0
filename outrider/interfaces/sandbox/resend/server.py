"""The HTTP side of the Resend-shaped sandbox: emails posted, listed and shown, domains, and the bench's own addresses.

POST /emails, /emails/batch     GET /emails, /emails/{id}, /domains, /domains/{id}
PUT  /sandbox/rules, /sandbox/webhook {url}     GET /sandbox/ledger, /sandbox/stats
"""

from __future__ import annotations

import asyncio
import fnmatch
import hashlib
import hmac
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
from aiohttp import web

from outrider.base.errors import Misconfigured
from outrider.interfaces.sandbox.leaflet import leaflet
from outrider.interfaces.sandbox.lines import Lines
from outrider.interfaces.sandbox.resend.keys import Keys
from outrider.interfaces.sandbox.resend.ledger import TAKEN, Entry, Outcome
from outrider.interfaces.sandbox.resend.options import ResendOptions, Rule, read_rules
from outrider.interfaces.sandbox.resend.refusals import Email, Error, refusal_of, why_invalid
from outrider.interfaces.sandbox.resend.webhooks import Webhook, event_of

_SAYS = (
    "This answers programs as Resend does and sends nothing to anybody. Give a connection its address as base_url; "
    "PUT /sandbox/rules says what goes wrong, PUT /sandbox/webhook where events are reported."
)
_LOOKS = (("/sandbox/ledger", "everything that was taken or refused"), ("/sandbox/stats", "how many"))
_MOST_IN_BATCH = 100
_PAGE, _LARGEST_PAGE = 20, 100
_RECORDS = (("SPF", "send", "MX"), ("SPF", "send", "TXT"), ("DKIM", "resend._domainkey", "TXT"))


class ResendSandbox:
    """One account. `emails` by id, as they were posted."""

    def __init__(self, options: ResendOptions) -> None:
        self.options = options
        self.ledger = Lines(options.ledger_path, Entry)
        self.emails: dict[str, Entry] = {}
        self.rules: list[Rule] = []
        self._struck: dict[int, int] = {}
        self.keys = Keys(options.remembers_s)
        self.webhook = Webhook(options.webhook_url, options.webhook_secret, tries=options.callback_tries)
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._closing = asyncio.Event()
        self._second: tuple[int, int] = (0, 0)
        self.request_count = 0
        self.posted_count = 0
        self.refuses_everybody = False
        """Answer 403, and say the key back: whoever shows answers to people must leave that out."""
        self.url = ""
        for entry in self.ledger.entries:
            if entry.outcome in TAKEN:
                self.emails[entry.id] = entry
        self.keys.restore(self.ledger.entries)

    async def start(self) -> str:
        """Listen; gives the base address.

        Raises:  Misconfigured(cannot_listen).
        """
        app = web.Application(client_max_size=40 << 20)
        app.router.add_get("/", leaflet("Outrider sandbox of Resend", _SAYS, *_LOOKS))
        app.router.add_post("/emails", self._signed_in(self._post_one))
        app.router.add_post("/emails/batch", self._signed_in(self._post_many))
        app.router.add_get("/emails", self._signed_in(self._list, is_look=True))
        app.router.add_get("/emails/{id}", self._signed_in(self._get, is_look=True))
        app.router.add_get("/domains", self._signed_in(self._domains, is_look=True))
        app.router.add_get("/domains/{id}", self._signed_in(self._domain, is_look=True))
        app.router.add_put("/sandbox/rules", self._put_rules)
        app.router.add_put("/sandbox/webhook", self._put_webhook)
        app.router.add_get("/sandbox/ledger", self._get_ledger)
        app.router.add_get("/sandbox/stats", self._get_stats)
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
        await self.webhook.close()
        self.ledger.close()

    async def settled(self) -> None:
        """Wait until every event that is due was sent or given up."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    @property
    def taken(self) -> list[Entry]:
        """Every email it took responsibility for."""
        return [entry for entry in self.ledger.entries if entry.outcome in TAKEN]

    def _signed_in(self, handler: Callable[..., Any], *, is_look: bool = False) -> Callable[..., Any]:
        expected = f"Bearer {self.options.api_key}"

        async def checked(request: web.Request) -> web.StreamResponse:
            self.request_count += 1
            if self.refuses_everybody:
                return _error((403, "invalid_api_key", f"API key is invalid: {self.options.api_key}"))
            given = request.headers.get("Authorization", "")
            if not given:
                return _error((401, "missing_api_key", "Missing API key in the authorization header"))
            if not hmac.compare_digest(given.encode(), expected.encode()):
                return _error((403, "invalid_api_key", "API key is invalid"))
            if is_look and self.options.may_only_send:
                return _error((401, "restricted_api_key", "This API key is restricted to only send emails"))
            limits = self._limits()
            if limits.get("ratelimit-remaining") == "-1":
                told = {**limits, "ratelimit-remaining": "0", "retry-after": "1"}
                return _error((429, "rate_limit_exceeded", "Too many requests"), told)
            answer: web.StreamResponse = await handler(request)
            if not answer.prepared:
                answer.headers.update(limits)
            return answer

        return checked

    def _limits(self) -> dict[str, str]:
        """Count a request of this second, and say how many are left; -1: it was one too many."""
        limit = self.options.requests_per_s
        if not limit:
            return {}
        second, count = int(time.monotonic()), self._second[1]
        count = count + 1 if second == self._second[0] else 1
        self._second = (second, count)
        left = max(-1, int(limit) - count)
        return {"ratelimit-limit": f"{limit:g}", "ratelimit-remaining": str(left), "ratelimit-reset": "1"}

    async def _post_one(self, request: web.Request) -> web.StreamResponse:
        email = await _json(request)
        if not isinstance(email, dict):
            return _error((422, "missing_required_field", "The request body is missing one or more required fields"))
        return await self._take(request, [email], is_batch=False)

    async def _post_many(self, request: web.Request) -> web.StreamResponse:
        emails = await _json(request)
        if not isinstance(emails, list) or not 1 <= len(emails) <= _MOST_IN_BATCH:
            return _error((422, "validation_error", f"must be an array of 1 to {_MOST_IN_BATCH} emails"))
        return await self._take(request, [each if isinstance(each, dict) else {} for each in emails], is_batch=True)

    async def _take(self, request: web.Request, emails: list[Email], *, is_batch: bool) -> web.StreamResponse:
        """A request with its key: known again, in conflict, or new."""
        key = request.headers.get("Idempotency-Key", "")
        digest = hashlib.sha256(await request.read()).hexdigest()
        rule = self._rule(emails)
        self.posted_count += 1
        if rule is not None and rule.delay_s:
            await asyncio.sleep(rule.delay_s)
        if rule is not None and rule.cut == "before":
            self._write_down("cut", emails, key=key, digest=digest)
            return _hang_up(request)
        refused = refusal_of(emails, key, self.options.domains, rule, is_batch=is_batch)
        if refused is None:
            conflict, answer = self.keys.look(key, digest)
            if conflict is not None:
                self._write_down("conflict", emails, key=key, digest=digest, status=409, name=conflict[1])
                return _error(conflict)
            if answer is not None:
                self._write_down("replayed", emails, key=key, digest=digest, status=200)
                return self._answered(request, rule, answer)
            is_permissive = request.headers.get("x-batch-validation") == "permissive"
            refused = None if is_batch and is_permissive else _first_error(emails, rule, is_batch=is_batch)
        if refused is not None:
            self._write_down("refused", emails, key=key, digest=digest, status=refused[0], name=refused[1])
            more = {} if rule is None or rule.retry_after_s is None else {"retry-after": f"{rule.retry_after_s:g}"}
            return _error(refused, more)
        with self.keys.under_way(key, digest):
            answer = self._accept(emails, rule, key, digest, is_batch=is_batch)
            if rule is not None and rule.hang_s:
                await self._hang(rule.hang_s)
            self.keys.remember(key, digest, answer)
        return _hang_up(request) if self._closing.is_set() else self._answered(request, rule, answer)

    async def _hang(self, longest_s: float) -> None:
        """Let a caller wait, but not for longer than this server runs."""
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._closing.wait()

    def _accept(
        self, emails: list[Email], rule: Rule | None, key: str, digest: str, *, is_batch: bool
    ) -> dict[str, Any]:
        """Write what is taken down, and report it; gives the answer."""
        invalid = {at: why for at, each in enumerate(emails) if (why := why_invalid(each, rule, is_batch=is_batch))}
        good = [each for at, each in enumerate(emails) if at not in invalid]
        ids = [(rule.same_id if rule else None) or str(uuid4()) for _ in good]
        outcome: Outcome = "accepted_cut" if rule is not None and rule.cut == "after" else "accepted"
        if good:
            for entry in self._write_down(outcome, good, ids, key=key, digest=digest, status=200):
                self.emails[entry.id] = entry
            self._report(list(zip(ids, good, strict=True)), rule)
        if not is_batch:
            return {"id": ids[0]}
        errors = [{"index": at, "message": why[2]} for at, why in invalid.items()]
        return {"data": [{"id": each} for each in ids], **({"errors": errors} if errors else {})}

    @staticmethod
    def _answered(request: web.Request, rule: Rule | None, answer: dict[str, Any]) -> web.StreamResponse:
        if rule is not None and rule.cut == "after":
            return _hang_up(request)
        if rule is not None and rule.body is not None:
            return web.Response(status=200, text=rule.body, content_type="text/html")
        return web.json_response(answer)

    def _rule(self, emails: Sequence[Email]) -> Rule | None:
        """The first rule that strikes."""
        recipients = [address for each in emails for address in _recipients(each)]
        for at, rule in enumerate(self.rules):
            if not any(fnmatch.fnmatchcase(address, rule.to) for address in recipients):
                continue
            count = self._struck[at] = self._struck.get(at, 0) + 1
            if count > rule.skip and (rule.times is None or count <= rule.skip + rule.times):
                return rule
        return None

    def _write_down(
        self, outcome: Outcome, emails: Sequence[Email], ids: Sequence[str] = (), **more: Any
    ) -> list[Entry]:
        entries = [
            Entry(
                seq=0, at_ns=time.time_ns(), outcome=outcome, to=(_recipients(email) or [""])[0],
                request=self.posted_count, id=ids[at] if ids else "", email=_kept(email), **more,
            )
            for at, email in enumerate(emails)
        ]  # fmt: skip
        self.ledger.add(entries)
        return entries

    def _report(self, emails: Sequence[tuple[str, Email]], rule: Rule | None) -> None:
        if not self.webhook.url:
            return
        chosen = rule.events if rule is not None else None
        words = list(self.options.events if chosen is None else chosen)
        calls = [
            (event_of(word, email_id, email, rule.bounce if rule else None), f"msg_{uuid4().hex}")
            for email_id, email in emails
            for word in words
        ]
        calls = [call for call in calls for _ in range(rule.copies if rule else 1)]
        if rule is not None and rule.order != "as sent":
            calls.reverse()
        if rule is not None and rule.order == "shuffled":
            random.shuffle(calls)
        task = asyncio.create_task(self._call(calls))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call(self, calls: Sequence[tuple[bytes, str]]) -> None:
        for body, named in calls:
            await self.webhook.post(body, named=named)

    async def _list(self, request: web.Request) -> web.Response:
        size = min(int(request.query.get("limit", _PAGE)), _LARGEST_PAGE)
        newest = list(reversed(self.emails.values()))
        after = request.query.get("after")
        start = next((at + 1 for at, each in enumerate(newest) if each.id == after), 0) if after else 0
        page = newest[start : start + size]
        shown = [_shown(entry, is_whole=False) for entry in page]
        return web.json_response({"object": "list", "has_more": start + size < len(newest), "data": shown})

    async def _get(self, request: web.Request) -> web.Response:
        entry = self.emails.get(request.match_info["id"])
        return (
            web.json_response(_shown(entry, is_whole=True)) if entry else _error((404, "not_found", "Email not found"))
        )

    async def _domains(self, _request: web.Request) -> web.Response:
        shown = [{"id": name, "name": name, "status": status} for name, status in self._known_domains().items()]
        return web.json_response({"object": "list", "has_more": False, "data": shown})

    async def _domain(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        status = self._known_domains().get(name)
        if status is None:
            return _error((404, "not_found", "Domain not found"))
        records = [
            {"record": record, "name": host, "type": kind, "status": status}
            for record, host, kind in (
                ("SPF", "send", "MX"),
                ("SPF", "send", "TXT"),
                ("DKIM", "resend._domainkey", "TXT"),
            )
        ]
        return web.json_response({"object": "domain", "id": name, "name": name, "status": status, "records": records})

    def _known_domains(self) -> dict[str, str]:
        return dict(self.options.domains) or {"example.org": "verified"}

    async def _put_rules(self, request: web.Request) -> web.Response:
        try:
            self.rules, self._struck = read_rules(await request.read()), {}
        except Misconfigured as error:
            return web.json_response({"message": str(error)}, status=400)
        return web.json_response({"rules": len(self.rules)})

    async def _put_webhook(self, request: web.Request) -> web.Response:
        self.webhook.url = str((await request.json())["url"])
        return web.json_response({"url": self.webhook.url})

    async def _get_ledger(self, _request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self.ledger.entries), content_type="application/json")

    async def _get_stats(self, _request: web.Request) -> web.Response:
        counts = Counter(entry.outcome for entry in self.ledger.entries)
        calls = {"events": self.webhook.sent_count, "events_failed": self.webhook.failed_count}
        return web.json_response({**counts, **calls, "requests": self.request_count, "posts": self.posted_count})


def _first_error(emails: Sequence[Email], rule: Rule | None, *, is_batch: bool) -> Error | None:
    return next(filter(None, (why_invalid(each, rule, is_batch=is_batch) for each in emails)), None)


def _recipients(email: Email) -> list[str]:
    to = email.get("to")
    return (
        [to] if isinstance(to, str) else [each for each in to if isinstance(each, str)] if isinstance(to, list) else []
    )


def _kept(email: Email) -> Email:
    """An email as it is written down."""
    files = email.get("attachments")
    if not isinstance(files, list):
        return email
    told = [{"filename": each.get("filename"), "size": len(each.get("content") or "")} for each in files]
    return {**email, "attachments": told}


def _shown(entry: Entry, *, is_whole: bool) -> dict[str, Any]:
    """An email as the API shows it; a list leaves its content out."""
    email = entry.email
    made = datetime.fromtimestamp(entry.at_ns / 1e9, UTC).isoformat(sep=" ")
    shown = {
        "object": "email", "id": entry.id, "to": email.get("to"), "from": email.get("from"), "created_at": made,
        "subject": email.get("subject"), "last_event": "sent", "reply_to": email.get("reply_to"), "scheduled_at": None,
    }  # fmt: skip
    whole = {"html": email.get("html"), "text": email.get("text"), "tags": email.get("tags")} if is_whole else {}
    return {**shown, **whole}


async def _json(request: web.Request) -> Any:
    try:
        return msgspec.json.decode(await request.read())
    except msgspec.DecodeError:
        return None


def _hang_up(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _error(error: Error, headers: dict[str, str] | None = None) -> web.Response:
    status, name, message = error
    body = {"statusCode": status, "name": name, "message": message}
    return web.json_response(body, status=status, headers=headers or {})


async def serve(options: ResendOptions, *, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve until `stop`; `ready` is told the base address."""
    sandbox = ResendSandbox(options)
    try:
        ready(await sandbox.start())
        await stop.wait()
    finally:
        await sandbox.close()
