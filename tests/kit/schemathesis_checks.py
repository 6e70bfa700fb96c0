"""Checks of ours for schemathesis, loaded by it through SCHEMATHESIS_HOOKS.

API
    only_the_meaning_is_refused     a request that the description allows may be refused for what it means, never for
                                    its form: unknown fields, parameters that cannot be read
"""

from __future__ import annotations

from typing import Any

import schemathesis

FORM = {"unknown_field", "unknown_parameter", "malformed_json", "nested_too_deeply", "invalid_parameter"}


@schemathesis.check
def only_the_meaning_is_refused(ctx: Any, response: Any, case: Any) -> None:
    """Fail for a well-formed request that was refused for its form."""
    del ctx
    if case.meta is None or case.meta.generation.mode.is_negative or response.status_code not in {400, 422}:
        return
    problem = response.json()
    codes = {problem["code"], *(error["code"] for error in problem.get("errors", ()))}
    assert not codes & FORM, f"{problem}"
