"""The worker's journal on a real file system: what a dead worker's file proves, and what it must never seem to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.base.errors import Misconfigured
from outrider.contracts.outcome import Accepted, Deferred, Outcome, Rejected, Uncertain, Unsent
from outrider.engine.dispatch import journal as journals
from outrider.engine.dispatch.journal import DeadClaim, DeadJournal, Journal, abandoned

TENANT, A, B, C = UUID(int=1), UUID(int=11), UUID(int=12), UUID(int=13)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Accepted, st.none() | TEXT, TEXT),
    st.builds(Deferred, TEXT, TEXT, st.none() | st.floats(0, 1e6)),
    st.builds(Rejected, TEXT, TEXT),
    st.builds(Uncertain, TEXT, TEXT),
    st.builds(Unsent, TEXT),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journals"


def dead(folder: Path) -> Iterator[DeadJournal]:
    """The journals whose writer is gone; their locks are let go when the test has looked."""
    for found in abandoned(folder):
        found.release()
        yield found


def only(folder: Path) -> DeadJournal:
    (found,) = dead(folder)
    return found


def die(journal: Journal) -> None:
    """What kill -9 leaves: what was handed to the kernel, and no lock."""
    journal._pending.clear()
    journal.close(is_settled=False)


def test_everything_that_was_written_is_read_back(folder: Path) -> None:
    journal = Journal(folder, uuid4())
    journal.claim(7, TENANT)
    journal.claim(8, TENANT)
    journal.rendering(8, TENANT, is_over=False)
    journal.rendering(7, TENANT, is_over=False)
    journal.rendering(7, TENANT, is_over=True)
    for message in (A, B):
        journal.begun(7, message)
    journal.outcome(7, A, Accepted("p1", "250 ok"))
    journal.flush()
    die(journal)
    found = only(folder)
    assert found.is_proof
    assert found.claims == [
        DeadClaim(7, TENANT, is_rendering=False, begun={A, B}, outcomes={A: Accepted("p1", "250 ok")}),
        DeadClaim(8, TENANT, is_rendering=True),
    ]


def test_leave_to_write_reaches_the_kernel_before_it_is_given_but_outcomes_may_wait(folder: Path) -> None:
    journal = Journal(folder, uuid4())
    journal.claim(7, TENANT)
    journal.begun(7, A)
    journal.outcome(7, A, Accepted("p1"))
    die(journal)
    (claim,) = only(folder).claims
    assert (claim.begun, claim.outcomes) == ({A}, {})


def test_a_claim_that_is_done_is_forgotten(folder: Path) -> None:
    journal = Journal(folder, uuid4())
    journal.claim(7, TENANT)
    journal.claim(8, TENANT)
    journal.begun(7, A)
    journal.done(7)
    journal.flush()
    die(journal)
    assert [claim.token for claim in only(folder).claims] == [8]


@given(OUTCOMES)
def test_outcomes_of_any_length_are_kept_or_read_as_something_that_never_sends_twice(
    tmp_path_factory: pytest.TempPathFactory, outcome: Outcome
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder, uuid4())
    journal.claim(7, TENANT)
    journal.begun(7, A)
    journal.outcome(7, A, outcome)
    journal.flush()
    die(journal)
    read = only(folder).claims[0].outcomes[A]
    assert only(folder).is_proof
    if type(read) is type(outcome):
        for name in outcome.__slots__:
            was, kept = getattr(outcome, name), getattr(read, name)
            assert kept == was or (isinstance(was, str) and kept is not None and was.startswith(kept)) or kept is None
    else:
        assert read == Uncertain("answer_lost", "detail was cut")


def test_a_long_detail_never_costs_the_providers_id(folder: Path) -> None:
    journal = Journal(folder, uuid4())
    journal.claim(7, TENANT)
    provider_id = "i" * 150
    journal.outcome(7, A, Accepted(provider_id, "ä" * 500))
    journal.flush()
    die(journal)
    read = only(folder).claims[0].outcomes[A]
    assert isinstance(read, Accepted)
    assert read.provider_id == provider_id


def sample(folder: Path) -> tuple[Path, bytes]:
    """A journal with one of everything."""
    journal = Journal(folder, uuid4())
    journal.claim(7, TENANT)
    journal.rendering(7, TENANT, is_over=False)
    journal.rendering(7, TENANT, is_over=True)
    journal.begun(7, A)
    journal.outcome(7, A, Accepted("p1", "250 ok"))
    journal.begun(7, B)
    journal.outcome(7, B, Rejected("mailbox_unavailable", "550 no"))
    journal.begun(7, C)
    journal.flush()
    die(journal)
    return journal.path, journal.path.read_bytes()


def test_a_file_cut_anywhere_is_proof_of_what_is_before_the_cut(folder: Path) -> None:
    path, content = sample(folder)
    whole = only(folder).claims[0]
    begun_counts = []
    for length in range(len(content)):
        path.write_bytes(content[:length])
        found = only(folder)
        if not found.claims:
            continue
        assert found.is_proof
        assert found.claims[0].begun <= whole.begun
        assert found.claims[0].outcomes.items() <= whole.outcomes.items()
        begun_counts.append(len(found.claims[0].begun))
    assert begun_counts == sorted(begun_counts)
    assert set(begun_counts) == {0, 1, 2}


def test_a_file_with_one_byte_changed_anywhere_never_proves_that_a_begun_message_was_not(folder: Path) -> None:
    path, content = sample(folder)
    for at in range(len(content)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(content)
            damaged[at] ^= flip
            path.write_bytes(damaged)
            found = only(folder)
            if found.is_proof and found.claims:
                assert found.claims[0].begun == {A, B, C}, f"byte {at} flipped by {flip:#x}"


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"O", b"not a journal\n", os.urandom(500)])
def test_a_file_that_is_no_journal_proves_nothing(folder: Path, content: bytes) -> None:
    path, _ = sample(folder)
    path.write_bytes(content)
    found = only(folder)
    assert (found.is_proof, found.claims) == (False, [])


def test_a_journal_of_another_start_of_the_machine_proves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample(folder)
    assert only(folder).is_proof
    monkeypatch.setattr(journals, "boot_id", lambda: "another boot")
    assert not only(folder).is_proof


def test_the_journal_of_the_living_is_left_alone(folder: Path) -> None:
    journal = Journal(folder, uuid4())
    journal.claim(7, TENANT)
    assert list(dead(folder)) == []
    die(journal)
    assert len(list(dead(folder))) == 1


def test_two_that_recover_take_a_journal_in_turn(folder: Path) -> None:
    sample(folder)
    first = next(abandoned(folder))
    assert list(abandoned(folder)) == []
    first.release()
    second = next(abandoned(folder))
    second.discard()
    assert list(folder.iterdir()) == []


def test_closing_with_nothing_open_leaves_nothing_behind(folder: Path) -> None:
    journal = Journal(folder, uuid4())
    journal.claim(7, TENANT)
    journal.done(7)
    journal.close(is_settled=True)
    assert list(folder.iterdir()) == []


def test_closing_with_something_open_leaves_it_for_others(folder: Path) -> None:
    journal = Journal(folder, uuid4())
    journal.claim(7, TENANT)
    journal.close(is_settled=True)
    assert [claim.token for claim in only(folder).claims] == [7]


def test_a_long_journal_is_begun_anew_with_what_is_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "_ROTATE_BYTES", 10_000)
    journal = Journal(folder, uuid4())
    journal.claim(1, TENANT)
    journal.begun(1, A)
    journal.outcome(1, A, Accepted("kept"))
    for token in range(2, 500):
        journal.claim(token, TENANT)
        journal.begun(token, B)
        journal.done(token)
    journal.begun(1, C)
    assert journal.path.stat().st_size < 15_000
    die(journal)
    found = only(folder)
    assert found.is_proof
    assert [(claim.token, claim.begun, claim.outcomes) for claim in found.claims] == [
        (1, {A, C}, {A: Accepted("kept")}),
    ]


def test_a_rotation_that_fails_keeps_the_old_file_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "_ROTATE_BYTES", 200)
    journal = Journal(folder, uuid4())
    journal.claim(1, TENANT)
    (folder / f"{journal.path.stem}.next").mkdir()  # a full disk refuses the new file likewise
    for token in range(2, 20):
        journal.claim(token, TENANT)
        journal.done(token)
    journal.begun(1, A)
    die(journal)
    found = only(folder)
    assert found.is_proof
    assert [(claim.token, claim.begun) for claim in found.claims] == [(1, {A})]


def test_what_does_not_fit_on_the_disk_is_an_error_and_the_file_proves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(folder, uuid4())
    journal.claim(7, TENANT)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, block: write(fd, block[:9]))
    with pytest.raises(OSError, match="cut short"):
        journal.begun(7, A)
    monkeypatch.undo()
    journal.begun(7, B)
    die(journal)
    assert not only(folder).is_proof


def test_a_folder_that_cannot_be_had_is_the_operators_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="cannot write the journal"):
        Journal(tmp_path / "file" / "journals", uuid4())


def test_a_worker_id_is_taken_once(folder: Path) -> None:
    worker = uuid4()
    journal = Journal(folder, worker)
    with pytest.raises(Misconfigured):
        Journal(folder, worker)
    journal.close(is_settled=True)
