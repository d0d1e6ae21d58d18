"""Hostile values in every key that has to do with a host: taken to the letter or refused, never run, here or there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import Client
from deployer.config.load import load
from deployer.errors import DeployerError
from deployer.host import engine
from deployer.host.paths import HostPaths
from deployer.link import bundle
from deployer.link.address import Address
from deployer.link.dial import Ssh, dial
from deployer.link.session import Session
from sshd import PORT, Bed, give

SHAPES = (
    "$(touch {m})", "`touch {m}`", "; touch {m}", "a b' ; touch {m} ; '", 'a" ; touch {m} ; "', "x\ntouch {m}\n", "| touch {m}",
    "-oProxyCommand=touch {m}", "-oLocalCommand=touch {m}", "-F{m}", "${{IFS}}touch${{IFS}}{m}", "&& touch {m}",
    "%h$(touch {m})", "*?[a]~",
)  # fmt: skip


def load_with(tmp_path: Path, **target: object) -> object:
    """The config with these keys in its target."""
    ssh = target.pop("ssh", {})
    lines = [f"{key} = {json.dumps(value)}" for key, value in target.items()]
    lines += ["[target.fleet.ssh]", *(f"{key} = {json.dumps(value)}" for key, value in dict(ssh).items())]  # type: ignore[call-overload]
    file = tmp_path / "deploy.toml"
    file.write_text('app = "t-app"\n[run]\ncommand = ["true"]\n[target.fleet]\n' + "\n".join(lines) + "\n")
    return load(file, None)


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_in_deploy_toml_is_run(bed: Bed, client: Client, tmp_path: Path, shape: str) -> None:
    host = bed.host()
    marker = host.home / "executed"
    evil = shape.format(m=marker)
    tries = [
        {"hosts": [evil]}, {"hosts": [f"{evil}@{host.address}:{PORT}"]}, {"hosts": [f"{host.address}:{evil}"]}, {"path": evil},
        {"path": f"~/{evil}"}, {"path": f"/{host.home}/{evil}"}, {"become": evil}, {"ssh": {"config": evil}},
        {"ssh": {"client": evil}}, {"ssh": {"host_keys": evil}}, {"ssh": {"connect_timeout": evil}},
    ]  # fmt: skip
    reached = []
    for keys in tries:
        settings: dict[str, object] = {"hosts": [host.written], "path": "~/app", **keys}
        settings["ssh"] = {"client": client.name, "connect_timeout": "2s", **dict(settings.get("ssh") or {})}  # type: ignore[call-overload]
        try:
            config = load_with(tmp_path, **settings)
            ssh = Ssh(**config.target_table["ssh"])  # type: ignore[attr-defined]
            written = config.hosts[0]  # type: ignore[attr-defined]
            path = config.path  # type: ignore[attr-defined]
            with Session(written, dial(Address.parse(written), path, ssh, config.target_table["become"])) as session:  # type: ignore[attr-defined]
                reached.append(session.hello(path)["path"])
        except DeployerError as error:
            assert error.code in (2, 6), vars(error)
    assert not marker.exists()
    # As a path it is a name like any other.
    assert "\n" in evil or f"{host.home}/{evil}" in reached


NAMING = (
    "HostName",
    "User",
    "HostKeyAlias",
    "ProxyJump",
    "Port",
    "IdentityFile",
    "CertificateFile",
    "UserKnownHostsFile",
)


@pytest.mark.parametrize("option", NAMING)
def test_nothing_in_an_ssh_config_gets_into_a_shell_that_its_writer_did_not_put_there(bed: Bed, option: str) -> None:
    client = Client("paramiko")  # ssh has cared for this since 9.6
    marker = bed.root / "executed"
    for shape in SHAPES:
        evil = shape.format(m=marker).replace('"', '\\"').replace("\n", " ")
        command = "ProxyCommand false %h %p %r" if option in ("HostName", "User") else ""
        bed.config(
            f'Host web\n  {option} "{evil}"\n  {command}\n  ConnectTimeout 1\nHost *\n  HostName 127.0.0.1\n  Port 9\n'
        )
        with pytest.raises(DeployerError) as caught:
            client.session("web")
        assert caught.value.code == 6, vars(caught.value)
        assert not marker.exists(), shape


def test_a_host_name_from_the_config_is_no_option(bed: Bed, client: Client) -> None:
    with pytest.raises(DeployerError) as caught:
        load_with(bed.root, hosts=["-oProxyCommand=x"], path="~/app")
    assert caught.value.code == 2


def test_an_engine_that_others_could_have_written_to_is_not_run(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    host, client = bed.host(), Client("paramiko")
    paths = HostPaths(host.path)
    paths.prepare_private()
    copy = engine.install(paths)
    give(host.home, host.user)
    sent: list[bundle.Bundle] = []
    packed = bundle.Bundle.packed
    monkeypatch.setattr(bundle.Bundle, "packed", lambda self: (sent.append(self), packed(self))[1])
    assert client.hello(host) and client.hello(host) and not sent
    (copy / "host" / "__pycache__").chmod(0o777)
    assert client.hello(host) and sent
