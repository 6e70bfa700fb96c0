from __future__ import annotations

import pytest

from outrider.base.errors import Refused
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason


@pytest.mark.parametrize("text", [None, "", "   "])
def test_no_reason_is_said_so(text: str | None) -> None:
    assert clean_reason(text) == NOT_GIVEN


def test_a_reason_is_kept_without_what_is_around_it() -> None:
    assert clean_reason("  complaints à gogo ") == "complaints à gogo"


@pytest.mark.parametrize("text", ["two\nlines", "bell\a", "x" * 501, "\u202ereversed"])
def test_a_reason_that_could_forge_a_line_is_refused(text: str) -> None:
    with pytest.raises(Refused) as caught:
        clean_reason(text)
    assert caught.value.field == "/reason"
