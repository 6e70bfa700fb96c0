from __future__ import annotations

import os
from pathlib import Path

import pytest

from outrider.app.processes import HARD_AFTER_S
from outrider.base.errors import Misconfigured
from outrider.base.settings import Settings, load


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OUTRIDER_")]:
        monkeypatch.delenv(name)


def test_the_defaults_are_a_working_configuration_whose_parts_fit_together() -> None:
    settings = load()
    assert settings.sweep_s < settings.lease_s
    assert settings.retry_first_s < settings.retry_most_s
    assert settings.database_url is None


def test_links_lead_to_the_port_of_the_api_unless_somebody_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().public_url == "http://localhost:3000"
    monkeypatch.setenv("OUTRIDER_API_PORT", "0")
    assert load().public_url == "http://localhost:3000", "any free one is not known before"
    monkeypatch.setenv("OUTRIDER_API_PORT", "8025")
    assert load().public_url == "http://localhost:8025"
    monkeypatch.setenv("OUTRIDER_PUBLIC_URL", "https://mail.example.org/")
    assert load().public_url == "https://mail.example.org"


@pytest.mark.parametrize("wrong", ["many", "70000", "-1", ""])
def test_a_port_that_is_none_is_the_one_thing_that_is_named(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_API_PORT", wrong)
    with pytest.raises(Misconfigured, match="OUTRIDER_API_PORT") as refused:
        load()
    assert "PUBLIC_URL" not in str(refused.value)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "outrider.toml"
    file.write_text('claim_batch = 7\nlease_s = 11.0\negress_allow = ["10.0.0.0/8"]\n')
    monkeypatch.setenv("OUTRIDER_CONFIG", str(file))
    monkeypatch.setenv("OUTRIDER_CLAIM_BATCH", "9")
    settings = load()
    assert (settings.claim_batch, settings.lease_s, settings.egress_allow) == (9, 11.0, ["10.0.0.0/8"])


@pytest.mark.parametrize("wrong", ["127.0.0.0/8", "[127.0.0.0/8]", "{"])
def test_a_list_that_is_none_is_named_with_how_to_write_one(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_EGRESS_ALLOW", wrong)
    with pytest.raises(Misconfigured, match=r'OUTRIDER_EGRESS_ALLOW: must be a JSON list such as \["127.0.0.0/8"\]'):
        load()


def test_the_file_may_name_variables_and_a_missing_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "outrider.toml"
    file.write_text('environment = "${STAGE}-eu"\negress_allow = ["${NET}"]\n')
    monkeypatch.setenv("OUTRIDER_CONFIG", str(file))
    monkeypatch.setenv("STAGE", "prod")
    with pytest.raises(Misconfigured, match="the environment variable NET is not set"):
        load()
    monkeypatch.setenv("NET", "10.0.0.0/8")
    assert load().environment == "prod-eu"


@pytest.mark.parametrize(
    ("content", "said"),
    [("claim_batch = ", "cannot be read"), ("claim_bach = 1", "CLAIM_BACH"), ("claim_batch = 0", "CLAIM_BATCH")],
)
def test_a_file_that_is_wrong_is_one_error_for_the_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, said: str
) -> None:
    file = tmp_path / "outrider.toml"
    file.write_text(content)
    monkeypatch.setenv("OUTRIDER_CONFIG", str(file))
    with pytest.raises(Misconfigured, match=said):
        load()


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_CONFIG", "/nowhere/outrider.toml")
    with pytest.raises(Misconfigured, match=r"/nowhere/outrider\.toml is not a file"):
        load()


def test_every_wrong_setting_is_named_and_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_LEASE_S", "soon")
    monkeypatch.setenv("OUTRIDER_API_PORT", "70000")
    monkeypatch.setenv("OUTRIDER_SECRET_KEY", "hunter2-hunter2")
    with pytest.raises(Misconfigured) as refused:
        load()
    assert "OUTRIDER_LEASE_S" in refused.value.message
    assert "OUTRIDER_API_PORT" in refused.value.message
    assert "hunter2" not in refused.value.message
    assert "hunter2" not in repr(load(lease_s=30.0, api_port=1))


def test_a_variable_that_is_no_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_LEASES", "30")
    with pytest.raises(Misconfigured, match="no such setting: OUTRIDER_LEASES"):
        load()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"retry_first_s": 10.0, "retry_most_s": 5.0}, "could not back off"),
        ({"session_idle_s": 100, "session_absolute_s": 60}, "the idle limit would never apply"),
        ({"sweep_s": 20.0, "lease_s": 10.0}, "would wait too long"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_with_the_consequence(
    changes: dict[str, float], said: str
) -> None:
    with pytest.raises(Misconfigured, match=said):
        load(**changes)


@pytest.mark.parametrize(
    "url",
    ["ftp://x", "https://", "https://u:p@host", "https://h/?q=1", "https://h/#f", "host", "", "https://u@host"],
)
def test_a_public_url_that_is_no_base_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured, match="PUBLIC_URL"):
        load(public_url=url)


@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        ("http://localhost:3000", True), ("http://127.9.9.9", True), ("http://[::1]:80/x/", True),
        ("http://LOCALHOST./", True), ("http://app.localhost", True), ("http://0.0.0.0", True),
        ("https://mail.example.org", False), ("https://localhost.example.org", False), ("https://10.0.0.1", False),
    ],
)  # fmt: skip
def test_links_that_lead_only_to_this_machine_are_recognised(url: str, is_local: bool) -> None:  # noqa: FBT001 - parametrized
    assert load(public_url=url).public_host_is_local is is_local


@pytest.mark.parametrize("name", ["trusted_proxies", "metrics_networks", "egress_allow"])
@pytest.mark.parametrize("network", ["10.0.0.0/33", "x", "10.0.0.1/8", ""])
def test_a_network_that_is_none_is_refused(name: str, network: str) -> None:
    with pytest.raises(Misconfigured, match=name.upper()):
        load(**{name: [network]})


def test_paths_follow_the_data_directory_unless_they_are_given(tmp_path: Path) -> None:
    settings = load(data_dir=tmp_path)
    assert settings.emergency_path == tmp_path / "EMERGENCY_STOP"
    assert settings.key_path == tmp_path / "secret.key"
    assert settings.journal_dir == tmp_path / "journals"
    given = load(data_dir=tmp_path, emergency_file=tmp_path / "STOP", secret_key_file=tmp_path / "k")
    assert (given.emergency_path, given.key_path) == (tmp_path / "STOP", tmp_path / "k")


def test_every_setting_says_what_it_is_for() -> None:
    assert not [name for name, field in Settings.model_fields.items() if not (field.description or "").endswith(".")]


def test_as_it_is_installed_a_worker_that_is_told_to_stop_is_gone_in_half_a_minute() -> None:
    assert Settings.model_fields["grace_s"].default + HARD_AFTER_S <= 30
