"""Values that a shell, an option parser or a terminal would misread reach a host verbatim, or are refused; nothing runs them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet import Fleet, make_fleet

HOSTILE = {
    "spaces": "a  b ",
    "quote": "it's",
    "double": 'say "x"',
    "dollar": "$(touch ~/PWNED)",
    "backtick": "`touch ~/PWNED`",
    "semicolon": "; touch ~/PWNED;",
    "pipe": "| touch ~/PWNED",
    "and": "&& touch ~/PWNED",
    "newline": "a\ntouch ~/PWNED\n",
    "option": "-oProxyCommand=touch ~/PWNED",
    "long_option": "--rsh=touch ~/PWNED",
    "backslash": "\\",
    "glob": "*",
    "home": "${HOME}",
    "tab": "a\tb",
    "escape": "\x1b[2Jx",
    "unicode": "é 東",
}
WORST = ("quote", "dollar", "semicolon", "newline", "option", "escape")
"""For the keys that are many."""
ECHO = (
    "import json, os, sys; from pathlib import Path; "
    "Path(os.path.expanduser('~/' + sys.argv[1])).write_text(json.dumps([sys.argv[2:], os.environ.get('ODD')]))"
)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with make_fleet(tmp_path_factory.mktemp("hostile"), 1) as made:
        yield made


@pytest.fixture(params=HOSTILE, autouse=True)
def value(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[str]:
    fleet.release(str(request.node.name))
    yield HOSTILE[str(request.param)]
    homes = [fleet.hosts[0].home, fleet.bed.home, fleet.root, fleet.dist, Path("~").expanduser(), Path.cwd()]
    assert [home for home in homes if (home / "PWNED").exists()] == []


def told(fleet: Fleet, name: str) -> list[object]:
    found: list[object] = json.loads((fleet.hosts[0].home / name).read_text())
    return found


def echo(name: str, value: str) -> str:
    return json.dumps([sys.executable, "-S", "-c", ECHO, name, value])


def toml(text: str) -> str:
    """*text* as a basic string of TOML."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def pushed(fleet: Fleet) -> bool:
    """Whether the push went through; else the value was refused, and nothing was changed."""
    before = fleet.hosts[0].current()
    result = fleet.run("push", "--json")
    assert result.code in (0, 2), result.out + result.err
    if result.code == 2:
        assert fleet.hosts[0].current() == before
        assert "Traceback" not in result.err and "\x1b" not in result.err
    return result.code == 0


@pytest.mark.parametrize("step", ["install", "check"])
def test_gate_commands_are_given_words_verbatim(fleet: Fleet, value: str, step: str) -> None:
    fleet.configure(**{step: f"command = {echo('gate', value)}"})
    assert pushed(fleet)
    assert told(fleet, "gate")[0] == [value]


def test_environment_reaches_the_app_verbatim(fleet: Fleet, value: str) -> None:
    fleet.configure(run=f"env = {{ ODD = {toml(value)} }}", check=f"command = {echo('env', 'x')}")
    if pushed(fleet):
        assert told(fleet, "env")[1] == value


def test_secrets_reach_the_app_verbatim_and_nobody_else(fleet: Fleet, value: str) -> None:
    secret = f"{value}-s3cr3t"
    fleet.env["ODD"] = secret
    try:
        fleet.configure(run='secrets = ["ODD"]', check=f"command = {echo('secret', 'x')}")
        result = fleet.run("push", "--json")
    finally:
        del fleet.env["ODD"]
    assert result.code in (0, 2), result.err
    if result.code == 0:
        assert told(fleet, "secret")[1] == secret
    assert secret not in result.out + result.err


@pytest.mark.parametrize(
    "place",
    [
        lambda value: {"run": f"env_file = {toml(value)}"},
        lambda value: {"run": f'env_file = "app.env"\nlinked = [{toml(value)}]'},
        lambda value: {"health": f"url = {toml('http://127.0.0.1:1/' + value)}"},
        lambda value: {"health": f"busy = {toml('/' + value)}"},
        lambda value: {"drain": f"signal = {toml(value)}"},
        lambda value: {"drain": f"quiet = {toml(value)}"},
        lambda value: {"adopt": f"pidfile = {toml('/nonexistent/' + value)}"},
        lambda value: {"adopt": f"match = {toml(value)}"},
        lambda value: {"adopt": f"unit = {toml(value)}"},
        lambda value: {"become": f"become = {toml(value)}"},
        lambda value: {"ssh": f"client = {toml(value)}"},
    ],
    ids=["env_file", "linked", "url", "busy", "signal", "quiet", "pidfile", "match", "unit", "become", "client"],
)
def test_other_keys_are_taken_as_they_are_or_refused(
    fleet: Fleet, value: str, place: Callable[[str], dict[str, str]]
) -> None:
    if value not in [HOSTILE[name] for name in WORST]:
        return
    fleet.configure(**place(value))  # type: ignore[arg-type]
    result = fleet.run("plan", "--json")
    assert "Traceback" not in result.err
    assert "\x1b" not in result.err


def test_path_of_the_host_is_one_directory(fleet: Fleet, value: str) -> None:
    fleet.configure()
    file = fleet.root / "deploy.toml"
    file.write_text(file.read_text().replace('path = "~/app"', f"path = {toml('~/odd/' + value)}"))
    shared = fleet.hosts[0].home / "odd" / value / "shared"
    plan = fleet.run("plan", "--json")
    assert plan.code in (0, 2, 6) and "Traceback" not in plan.err
    if plan.code == 0:
        shared.mkdir(parents=True, exist_ok=True)
        (shared / "app.env").write_text("SERVICE_PORT=1\n")
        status = fleet.run("status", "--json", check=0).events[0]["hosts"][0]
        assert status["facts"]["path"] == str(fleet.hosts[0].home / "odd" / value)


def test_names_of_releases_and_hosts_on_the_command_line(fleet: Fleet, value: str) -> None:
    fleet.configure()
    for words in (["push", f"--release={value}"], ["rollback", "fleet", value], ["push", f"--host={value}"],
                  ["explain", "fleet", value], ["status", value]):  # fmt: skip
        result = fleet.run(*words, "--json")
        assert result.code in (1, 2, 6), (words, result.out, result.err)
        assert "Traceback" not in result.err and "\x1b" not in result.err


def test_files_of_the_artifact_keep_their_names(fleet: Fleet, value: str) -> None:
    fleet.configure()
    name = value.replace("/", "_")
    odd = fleet.dist / name
    odd.write_text("content")
    try:
        result = fleet.run("push", "--json")
        assert result.code in (0, 7), result.out + result.err
        if result.code == 0:
            assert (fleet.hosts[0].path / "current" / name).read_text() == "content"
    finally:
        odd.unlink()
