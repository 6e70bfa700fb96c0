"""Words that people answer: in any case, spacing and punctuation; a sentence that holds one is flagged, not obeyed."""

from __future__ import annotations

import pytest

from outrider.domain.callbacks.words import Heard, heard

STOP = Heard("stop", is_flagged=False)


@pytest.mark.parametrize(
    "text",
    [
        "STOP", "stop", " Stop. ", "S T O P", "stop!!!", "«STOP»", "STOPALL", "stop all", "Unsubscribe", "CANCEL",
        "end", "Quit", "revoke", "OPTOUT", "opt-out", "Opt Out", "remove", "ARRET", "arrêt", "ARRÊT.", "\nstop\n",
        "\uff33\uff34\uff2f\uff30",
    ],
)  # fmt: skip
def test_a_word_to_stop_is_understood(text: str) -> None:
    assert heard(text) == STOP


@pytest.mark.parametrize(
    ("text", "word"), [("START", "start"), ("yes!", "start"), ("UnStop", "start"), ("help?", "help"), ("INFO", "help")]
)
def test_the_other_words_are_understood(text: str, word: str) -> None:
    assert heard(text).word == word


@pytest.mark.parametrize("text", ["Please stop by at 5", "STOP texting me", "I want to cancel my order"])
def test_a_sentence_is_for_people_to_read(text: str) -> None:
    assert heard(text) == Heard("", is_flagged=True)


@pytest.mark.parametrize("text", ["", "   ", "Hello", "stopped", "A" * 1600, "\0", "👍", "yesterday", "s" * 5000])
def test_anything_else_is_only_kept(text: str) -> None:
    assert heard(text) == Heard("", is_flagged=False)


def test_configured_words_count_too() -> None:
    assert heard("Baja", ["baja", "STOPP!"]) == STOP
    assert heard("stopp", ["baja", "STOPP!"]) == STOP
    assert heard("", ["", " "]) == Heard("", is_flagged=False)
