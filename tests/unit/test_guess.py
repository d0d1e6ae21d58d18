"""Whether the target that is meant has hosts, guessed from the raw text of the config."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployer.guess import over_ssh

MIXED = """\
app = "a"
default_target = "local"  # this machine
[run]
hosts = ["not a target's"]
[target.local]
path = "~/a"
[target.production]
hosts = ["web-1"]
[target.production.ssh]
client = "openssh"
"""


@pytest.mark.parametrize(
    ("text", "line", "guess"),
    [
        (MIXED, "status", False),
        (MIXED, "push production", True),
        (MIXED, "--json push -v local", False),
        (MIXED.replace("default_target", "#"), "status", False),
        (MIXED.replace('"local"', '"production"'), "status", True),
        ('[target."x"]\n  hosts=[\n"a"]', "status", True),
        ("[target.x]\n# hosts = []", "status", False),
        ("hosts = []", "status", False),
        ("[[[", "status", False),
        ("", "", False),
    ],
)
def test_guess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: str, guess: bool) -> None:
    monkeypatch.chdir(tmp_path)
    Path("deploy.toml").write_text(text)
    assert (over_ssh(line.split()) is not None) is guess


@pytest.mark.parametrize("words", ["-c other.toml status", "status --config=other.toml", "status -cother.toml"])
def test_the_config_that_is_named_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("deploy.toml").write_text("[target.x]\n")
    Path("other.toml").write_text("[target.x]\nhosts = ['a']\n")
    assert over_ssh(words.split()) == ("other.toml", "x")


@pytest.mark.parametrize("words", ["status", "status -c", "-c /nonexistent/x status", "-c . status"])
def test_config_that_cannot_be_read_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not over_ssh(words.split())
