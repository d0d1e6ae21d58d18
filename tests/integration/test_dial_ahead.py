"""The link that is dialled while the client imports: used where it is what was meant, and harmless where it is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app import App, wait_until
from deployer.config.load import load
from deployer.errors import LinkError
from deployer.rollout import ahead
from deployer.rollout.hosts import connect
from sshd import Bed, Host

CONFIG = """\
app = "t-app"
[run]
command = ["sleep", "1"]
[target.one]
hosts = ["{host}"]
path = "~/app"
{more}
"""


def write(root: Path, host: str, more: str = "") -> Path:
    file = root / "deploy.toml"
    file.write_text(CONFIG.format(host=host, more=more))
    return file


def logins(host: Host) -> int:
    return host.log().count("Accepted publickey")


@pytest.mark.parametrize("more", ["", '[target.one.ssh]\nclient = "openssh"'])
def test_what_was_dialled_ahead_is_the_one_login(bed: Bed, tmp_path: Path, more: str) -> None:
    host = bed.host()
    file = write(tmp_path, host.written, more)
    ahead.dial_ahead(str(file), "one")
    with connect(load(file, "one"), host.written) as session:
        assert session.call("releases", target={}, settings={}) == []
    assert logins(host) == 1


def test_other_path_than_the_one_dialled_ahead_gets_a_link_of_its_own(bed: Bed, tmp_path: Path) -> None:
    host = bed.host()
    file = write(tmp_path, host.written)
    ahead.dial_ahead(str(file), "one")
    file.write_text(file.read_text().replace("~/app", "~/other"))
    with connect(load(file, "one"), host.written) as session:
        assert session.hello("~/other")["path"] == str(host.home / "other")
    assert not os.path.exists(host.home / "app")


def test_host_that_refuses_is_told_once_it_is_asked(bed: Bed, tmp_path: Path) -> None:
    host = bed.host(start=False)
    file = write(tmp_path, host.written)
    ahead.dial_ahead(str(file), "one")
    with pytest.raises(LinkError):
        connect(load(file, "one"), host.written)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[[[",
        "[target.one]\nhosts = 3",
        '[target.one]\nhosts = ["-oProxyCommand=x"]\npath = "/x"',
        "[target]\none = 1",
    ],
)
def test_config_that_is_no_good_is_left_to_who_reads_it_in_earnest(tmp_path: Path, text: str) -> None:
    file = tmp_path / "deploy.toml"
    file.write_text(text)
    ahead.dial_ahead(str(file), "one")
    assert ahead._ahead.get() is None


def test_config_that_is_refused_leaves_nothing_on_the_host(bed: Bed, tmp_path: Path) -> None:
    host = bed.host()
    write(tmp_path, host.written, "[chek]")
    result = App(tmp_path, 1, env=dict(bed.env())).run("status", check=2)
    assert "chek" in result.err
    wait_until(lambda: not host.processes(), what="the engine has left with its client")
    assert sorted(path.name for path in host.home.iterdir()) == []
