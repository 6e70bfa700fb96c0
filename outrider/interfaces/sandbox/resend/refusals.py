"""What the Resend-shaped sandbox does not take, and as what it refuses it."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

from outrider.interfaces.sandbox.resend.options import Rule

Email = dict[str, Any]
Error = tuple[int, str, str]
"""Status, name, message."""
_LONGEST_KEY = 256


def refusal_of(
    emails: Sequence[Email], key: str, domains: Mapping[str, str], rule: Rule | None, *, is_batch: bool
) -> Error | None:
    """Why a request is refused as a whole; None: it is not."""
    if rule is not None and rule.status is not None:
        return rule.status, rule.name or "application_error", "as the rules say"
    if len(key) > _LONGEST_KEY:
        return 400, "invalid_idempotency_key", "The key must be between 1-256 chars"
    for email in emails:
        domain = str(email.get("from", "")).rpartition("@")[2].strip("> ").lower()
        if domains and domains.get(domain) != "verified":
            return 403, "validation_error", f"The {domain} domain is not verified"
        if is_batch and email.get("attachments"):
            return 422, "invalid_attachment", "The attachments field is not supported yet"
    return None


def why_invalid(email: Email, rule: Rule | None, *, is_batch: bool) -> Error | None:
    """Why one email is refused; None: it is taken."""
    to = email.get("to")
    recipients = [to] if isinstance(to, str) else to if isinstance(to, list) else []
    if rule is not None and rule.invalid and any(fnmatch.fnmatchcase(str(each), rule.to) for each in recipients):
        return 422, "validation_error", "as the rules say"
    if not recipients or not all(isinstance(each, str) and "@" in each for each in recipients):
        return 422, "validation_error", "Invalid `to` field"
    if not email.get("from") or not email.get("subject"):
        return 422, "missing_required_field", "Missing `from` or `subject` field"
    if not email.get("html") and not email.get("text"):
        return 422, "validation_error", "Missing `html` or `text` field"
    if is_batch and email.get("scheduled_at"):
        return 422, "validation_error", "The `scheduled_at` field is not supported yet"
    return None
