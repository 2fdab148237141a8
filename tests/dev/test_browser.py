"""A browser for the tests: found where there is one, installed where that is allowed, and else the command is named."""

import os
from pathlib import Path

import pytest

from dev import apt, browser
from dev.apt import AptFailed


def program(path: Path, says: str, code: int = 0) -> Path:
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the path; empty."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    return tmp_path


def test_a_note_that_points_to_a_snap_is_no_browser(nowhere: Path) -> None:
    program(nowhere / "chromium-browser", "requires the chromium snap to be installed", 1)
    assert browser.find_chromium() is None
    chrome = program(nowhere / "google-chrome", "Google Chrome 156.0.1")
    assert browser.find_chromium() == chrome


def test_the_one_that_is_chosen_is_taken_or_refused(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(nowhere / "chromium", "Chromium 156.0.1")
    chosen = program(nowhere / "mine", "Chromium 150.0.1")
    monkeypatch.setenv("CHROMIUM", str(chosen))
    assert browser.find_chromium() == chosen
    monkeypatch.setenv("CHROMIUM", "/nowhere/chromium")
    assert browser.find_chromium() is None
    assert browser.why_not() == "CHROMIUM names /nowhere/chromium, which is no Chromium that runs"


@pytest.mark.parametrize(("ubuntu", "says"), [(False, "apt-get install"), (True, "sudo snap install chromium")])
def test_without_rights_the_command_is_named(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, ubuntu: bool, says: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(apt, "available", lambda: True)
    monkeypatch.setattr(browser, "is_ubuntu", lambda: ubuntu)
    assert browser.ensure_chromium() is None
    assert says in browser.why_not()
    assert browser.main() == 0


def test_root_gets_it_from_the_system_which_is_said_first(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def install(packages: list[str]) -> None:
        assert packages == ["chromium"]
        said.append(capsys.readouterr().err)
        program(nowhere / "chromium", "Chromium 156.0.1")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(apt, "available", lambda: True)
    monkeypatch.setattr(apt, "update", lambda: None)
    monkeypatch.setattr(apt, "candidate", lambda _: "156.0.1")
    monkeypatch.setattr(apt, "install", install)
    assert browser.ensure_chromium() == nowhere / "chromium"
    assert "Installing with apt-get: chromium" in said[0]


@pytest.mark.parametrize("candidate", [None, "156.0.1"])
def test_a_system_without_it_is_no_failure(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, candidate: str | None
) -> None:
    def fail(_: object) -> None:
        raise AptFailed("no such package")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(apt, "available", lambda: True)
    monkeypatch.setattr(apt, "update", lambda: None)
    monkeypatch.setattr(apt, "candidate", lambda _: candidate)
    monkeypatch.setattr(apt, "install", fail)
    assert browser.main() == 0
