"""The ssh config reader says what `ssh -G` says."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest

from deployer.errors import PreflightError
from deployer.link.address import Address
from deployer.link.ssh_options import resolve
from deployer.link.ssh_words import BadWord, expand, matches, split

CONFIGS = {
    "the first value wins": "Host web\n User first\nHost *\n User second\n Port 99\n",
    "patterns and negation": "Host w?b !web *.x\n User a\nHost *b\n User b\n",
    "equals signs, case and comments": "hOsT=web\n pOrT = 2022 # why\n USER=\tme\n# User other\n",
    "quotes": 'Host "web" "other one"\n User "a b"\n IdentityFile "/k/a b"\n IdentityFile /k/c\\ d\n',
    "tokens": "Host web\n HostName %h.example.com\n IdentityFile /k/%h-%n-%p-%r-%%\n User u\n Port 22022\n",
    "keys collect": "Host web\n IdentityFile /k/a\nHost *\n IdentityFile /k/b\n IdentityFile /k/a\n",
    "match host": "Host web\n HostName real.example\nMatch host real.example\n User matched\nMatch host web\n User wrong\n",
    "match original host and all": "Match originalhost web\n Port 23\nMatch all\n User everyone\n Port 24\n",
    "match user": "Host web\n User x\nMatch user x,y\n Port 25\nMatch !user x\n Port 26\n",
    "match exec": 'Match exec "test %n = web"\n Port 27\nMatch exec false\n User no\nMatch !exec false\n User yes\n',
    "match final": "Match final host *.example\n Port 28\nHost web\n HostName a.example\n",
    "a jump": "Host web\n ProxyJump a,b\n ProxyCommand no\n",
    "a command": "Host web\n ProxyCommand nc %h %p\n ProxyJump a\n",
    "an include": "Host web\n Include {directory}/more\nHost *\n User last\n",
    "an include in a block that is not ours": "Host other\n Include {directory}/more\nHost *\n User last\n",
    "known hosts": 'Host *\n UserKnownHostsFile /a/b "/c d/e"\n GlobalKnownHostsFile none\n HostKeyAlias alias\n',
    "timeouts": "Host *\n ConnectTimeout 7\n IdentitiesOnly yes\n AddressFamily inet6\n",
}


@pytest.mark.parametrize("text", CONFIGS.values(), ids=CONFIGS.keys())
def test_it_reads_what_ssh_reads(text: str, tmp_path: Path) -> None:
    if shutil.which("ssh") is None or Path(os.path.expanduser("~")) != Path(pwd.getpwuid(os.getuid()).pw_dir):
        pytest.skip("ssh -G would look elsewhere")
    (tmp_path / "more").write_text("Port 2323\nHost nobody\n User x\nHost web\n User included\n")
    file = tmp_path / "config"
    file.write_text(text.replace("{directory}", str(tmp_path)))
    told = subprocess.run(["ssh", "-G", "-F", str(file), "web"], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    said: dict[str, list[str]] = {}
    for line in told.stdout.splitlines():
        name, _, value = line.partition(" ")
        said.setdefault(name, []).append(value)
    options = resolve(Address.parse("web"), file)
    assert [options.host, options.user, str(options.port)] == [said[name][0] for name in ("hostname", "user", "port")]
    if "IdentityFile" in text:
        wanted = [expand(name, options._tokens()) for name in said["identityfile"]]
        assert [str(path) for path in options.key_files] == wanted
    assert [address.written for address in options.jumps] == "".join(said.get("proxyjump", [])).split(",") * bool(
        said.get("proxyjump")
    )
    assert options.proxy_command == (
        expand(said["proxycommand"][0], options._tokens()) if "proxycommand" in said else None
    )
    assert options.identities_only == (said["identitiesonly"] == ["yes"])
    if "KnownHosts" in text:
        assert [str(path) for path in options.known_hosts] == ["/a/b", "/c d/e"] and options.known_as == ["alias"]


def test_the_command_line_comes_first(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("Match user given\n HostName matched\nHost *\n User other\n Port 1\n")
    options = resolve(Address.parse("given@web:2222"), file)
    assert (options.user, options.port, options.host) == ("given", 2222, "matched")


def test_an_include_of_itself_ends(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(f"Include {file}\n")
    with pytest.raises(PreflightError, match="deeply"):
        resolve(Address.parse("web"), file)


@pytest.mark.parametrize(
    "text, words",
    [("a b", ["a", "b"]), ('"a b" c', ["a b", "c"]), ("a\\ b", ["a b"]), ('"a\\"b"', ['a"b']), ("a # b", ["a"]), ("'#'", ["#"]),
     ('x"y z"', ["xy z"])],
)  # fmt: skip
def test_words(text: str, words: list[str]) -> None:
    assert split(text) == words


def test_a_quote_without_an_end() -> None:
    with pytest.raises(BadWord):
        split('"a')


def test_a_bracket_in_a_pattern_is_a_bracket() -> None:
    assert matches(["[a]"], "[a]") and not matches(["[a]"], "a") and not matches(["*", "!a"], "a")
