"""Proofs of consent: everything that was said, chained, audited and signed; whatever is changed in one shows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from outrider.base.documents import DocumentSigner
from outrider.base.errors import Refused
from outrider.domain.people import proof as proofs
from outrider.domain.people.proof_page import as_page, document_of
from tests.kit.api import Api, Caller, api_of
from tests.kit.command import Command, migrated_command

SAID = {"channel": "email", "purpose": "news", "source": "form", "ip": "192.0.2.7", "form_version": "3"}


@pytest.fixture
async def api(new_database: Callable[..., str]) -> AsyncIterator[Api]:
    async with api_of(new_database("migrated")) as made:
        yield made


async def owner_of(api: Api) -> Caller:
    await api.user("owner@example.org")
    return await api.signed_in("owner@example.org")


async def person(owner: Caller) -> str:
    """A contact who agreed, withdrew, and agreed again."""
    body = {"name": "Ann \u202eB", "addresses": [{"channel": "email", "address": "ann@example.org"}]}
    contact: str = (await owner.post("/api/v1/contacts", body)).json["id"]
    for status, text in (
        ("granted", "Yes, write me.\nEvery week."),
        ("withdrawn", None),
        ("granted", "Again, please."),
    ):
        said = {**SAID, "status": status, "text_shown": text}
        assert (await owner.post(f"/api/v1/contacts/{contact}/consents", said)).status == 200
    other = {**SAID, "purpose": "other", "status": "granted"}
    assert (await owner.post(f"/api/v1/contacts/{contact}/consents", other)).status == 200
    return contact


async def proved(owner: Caller, contact: str) -> dict[str, Any]:
    wanted = {"purpose": "news", "reason": "the authority asked"}
    answer = await owner.post(f"/api/v1/contacts/{contact}/consents/proof", wanted)
    assert answer.status == 200, answer.text
    made: dict[str, Any] = answer.json
    return made


async def test_a_proof_has_every_entry_and_stands_in_the_audit_log(api: Api) -> None:
    owner = await owner_of(api)
    proof = await proved(owner, await person(owner))
    assert [(each["number"], each["status"]) for each in proof["entries"]] == [
        (1, "granted"), (2, "withdrawn"), (3, "granted"),
    ]  # fmt: skip
    assert proof["entries"][0]["text_shown"] == "Yes, write me.\nEvery week."
    assert {each["ip"] for each in proof["entries"]} == {"192.0.2.7"}
    (audited,) = (await owner.get("/api/v1/audit?action=consent.export")).json["items"]
    assert (audited["seq"], audited["reason"]) == (proof["audit"]["seq"], "the authority asked")
    assert audited["details"]["head"] == proof["head"]
    found = (await owner.post("/api/v1/consents/verify", proof)).json
    assert (found["is_sound"], found["is_ours"], found["problems"]) == (True, True, [])
    assert (await owner.get("/api/v1/consents/key")).json == {"public_key": proof["public_key"]}
    text = proofs.as_text(msgspec.convert(proof, proofs.ConsentProof))
    assert "Yes, write me." in text
    assert "\u202e" not in text, "nothing of a stranger turns the text around"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("entries", 0, "at"), "2020-01-01T00:00:00.000000+00:00"), (("entries", 1, "status"), "granted"),
        (("entries", 2, "text_shown"), "Everything"), (("name",), "Bob"), (("exported_by",), "somebody else"),
        (("audit", "seq"), 1), (("status",), "withdrawn"), (("entries",), []), (("head",), "0" * 64),
    ],
)  # fmt: skip
async def test_whatever_is_changed_shows(api: Api, path: tuple[Any, ...], value: Any) -> None:
    owner = await owner_of(api)
    proof = await proved(owner, await person(owner))
    place: Any = proof
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    found = (await owner.post("/api/v1/consents/verify", proof)).json
    assert found["is_sound"] is False
    assert found["problems"]


async def test_an_entry_taken_out_and_signed_anew_by_another_key_is_not_ours(api: Api) -> None:
    owner = await owner_of(api)
    made = msgspec.convert(await proved(owner, await person(owner)), proofs.ConsentProof)
    forger = DocumentSigner(b"f" * 32)
    forged = msgspec.structs.replace(made, name="Bob", public_key=forger.public_key)
    forged = msgspec.structs.replace(forged, signature=forger.sign(proofs._signed(forged)))
    found = proofs.check(forged, {made.public_key})
    assert (found.is_sound, found.is_ours) == (True, False)
    assert proofs.check(forged, {forger.public_key}).is_ours, "whoever believes that key"


async def test_what_was_said_since_is_told_and_what_was_erased_as_well(api: Api) -> None:
    owner = await owner_of(api)
    contact = await person(owner)
    proof = await proved(owner, contact)
    said = {**SAID, "status": "withdrawn"}
    await owner.post(f"/api/v1/contacts/{contact}/consents", said)
    found = (await owner.post("/api/v1/consents/verify", proof)).json
    assert (found["is_sound"], found["notes"]) == (True, ["1 entries were added since; the last: withdrawn"])
    async with api.engine() as uow:
        await uow.raw.execute("UPDATE consent_events SET text_shown = 'Everything' WHERE status = 'granted'")
    found = (await owner.post("/api/v1/consents/verify", proof)).json
    assert found["problems"] == ["the ledger says something else"]
    async with api.engine() as uow:
        await uow.raw.execute("DELETE FROM consent_events")
    found = (await owner.post("/api/v1/consents/verify", proof)).json
    assert (found["is_sound"], len(found["notes"])) == (True, 1), "the document still proves what was said"


async def test_a_contact_that_was_merged_into_another_takes_nothing_from_its_proof(api: Api) -> None:
    owner = await owner_of(api)
    early = (await owner.post("/api/v1/contacts", {"name": "Ann too"})).json["id"]
    said = {**SAID, "status": "granted"}
    assert (await owner.post(f"/api/v1/contacts/{early}/consents", said)).status == 200
    contact = await person(owner)
    proof = await proved(owner, contact)
    merged = await owner.post(f"/api/v1/contacts/{contact}/merge", {"contact_id": early})
    assert merged.status == 200, merged.text
    found = (await owner.post("/api/v1/consents/verify", proof)).json
    assert (found["is_sound"], found["problems"]) == (True, [])
    assert found["notes"][0].startswith("2 more entries stand there: another contact was merged into this one")
    async with api.engine() as uow:
        await uow.raw.execute("UPDATE consent_events SET source = 'another' WHERE status = 'withdrawn'")
    found = (await owner.post("/api/v1/consents/verify", proof)).json
    assert found["problems"] == ["the ledger says something else"]


async def test_an_entry_put_before_the_others_without_a_merge_shows(api: Api) -> None:
    owner = await owner_of(api)
    early = (await owner.post("/api/v1/contacts", {"name": "Ann too"})).json["id"]
    assert (await owner.post(f"/api/v1/contacts/{early}/consents", {**SAID, "status": "granted"})).status == 200
    contact = await person(owner)
    proof = await proved(owner, contact)
    async with api.engine() as uow:
        await uow.raw.execute("UPDATE consent_events SET contact_id = $1 WHERE contact_id = $2", contact, early)
    found = (await owner.post("/api/v1/consents/verify", proof)).json
    assert found["problems"] == ["the ledger says something else"]


async def test_a_proof_as_a_page_says_what_its_document_says_and_runs_nothing(api: Api) -> None:
    owner = await owner_of(api)
    contact = await person(owner)
    odd = "</pre><script>alert(1)</script> \u202e & 'more'"
    await owner.post(f"/api/v1/contacts/{contact}/consents", {**SAID, "status": "granted", "text_shown": odd})
    path = f"/api/v1/contacts/{contact}/consents/proof.html"
    answer = await owner.post(path, {"purpose": "news", "reason": "the authority asked"})
    assert answer.status == 200, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = answer.text
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "\u202e" not in page
    proof = document_of(page)
    for fact in (
        "Yes, write me.\nEvery week.",
        "Again, please.",
        "the authority asked",
        "ann@example.org",
        "192.0.2.7",
    ):
        assert fact in page
    assert all(entry.hash in page for entry in proof.entries)
    assert proofs.digest_of(proof) in page
    assert as_page(proof) == page
    assert document_of(page.replace("\n", "\r\n")) == proof, "a page that came by mail"
    found = (await owner.post("/api/v1/consents/verify", msgspec.to_builtins(proof))).json
    assert (found["is_sound"], found["digest"]) == (True, proofs.digest_of(proof))
    (audited,) = (await owner.get("/api/v1/audit?action=consent.export")).json["items"]
    assert audited["seq"] == proof.audit.seq
    with pytest.raises(Refused, match="something else"):
        document_of(page.replace("Again, please.</blockquote>", "Never again.</blockquote>"))
    with pytest.raises(Refused, match="no signed document"):
        document_of("<!doctype html><p>nothing")


async def test_nothing_said_is_no_proof(api: Api) -> None:
    owner = await owner_of(api)
    contact = await person(owner)
    path = f"/api/v1/contacts/{contact}/consents/proof"
    assert (await owner.post(path, {"purpose": "never"})).status == 404
    assert (await owner.post(path, {"channel": "fax"})).status == 422


def test_the_command_line_proves_and_verifies_without_a_database(
    new_database: Callable[..., str], tmp_path: Path
) -> None:
    outrider: Command = migrated_command(new_database, tmp_path)
    people = tmp_path / "people.csv"
    people.write_text("email,consent\nann@example.org,granted\n")
    assert outrider.run("contacts", "import", str(people), "--consent-source", "paper").code == 0
    file = tmp_path / "proof.json"
    tried = outrider.run("consents", "prove", "ann@example.org", "--to", str(file), "--dry-run")
    assert (tried.code, file.exists()) == (0, False)
    for how in ((), ("--text",), ("--html",), ("--json",)):
        tried = outrider.run("consents", "prove", "ann@example.org", "--dry-run", *how)
        assert tried.code == 0, tried
        assert "signature" not in tried.out, "nothing that was signed leaves without its entry in the audit log"
        assert "Ed25519" not in tried.out
    done = outrider.run("consents", "prove", "ann@example.org", "--to", str(file), "--reason", "asked for")
    assert done.code == 0, done
    assert file.stat().st_mode & 0o777 == 0o600
    assert outrider.run("consents", "verify", str(file)).code == 0
    assert outrider.run("consents", "verify", str(file), "--ledger").code == 0
    page = tmp_path / "proof.html"
    assert outrider.run("consents", "prove", "ann@example.org", "--html", "--to", str(page)).code == 0
    assert outrider.run("consents", "prove", "ann@example.org", "--html", "--text").code == 2
    checked = outrider.run("consents", "verify", str(page))
    assert checked.code == 0
    assert checked.out.split("digest ")[1].strip() in page.read_text()
    page.write_text(page.read_text().replace("paper</bdi>", "web form</bdi>"))
    told = outrider.run("consents", "verify", str(page))
    assert (told.code, told.err.count("\n")) == (2, 1)
    assert "something else" in told.err
    public = outrider.run("consents", "key").out.strip()
    proof = json.loads(file.read_text())
    assert proof["public_key"] == public
    elsewhere = dict(outrider.environment)
    elsewhere["OUTRIDER_SECRET_KEY"] = "A" * 43
    elsewhere["OUTRIDER_DATABASE_URL"] = "postgresql://127.0.0.1:1/nowhere"
    stranger = Command(elsewhere)
    assert stranger.run("consents", "verify", str(file)).code == 1, "nobody there knows the key"
    assert stranger.run("consents", "verify", str(file), "--key", public).code == 0
    proof["entries"][0]["source"] = "a better one"
    file.write_text(json.dumps(proof))
    told = stranger.run("consents", "verify", str(file), "--key", public)
    assert (told.code, told.out.startswith("CHANGED")) == (1, True)
    file.write_text("{}")
    assert stranger.run("consents", "verify", str(file)).code == 2
