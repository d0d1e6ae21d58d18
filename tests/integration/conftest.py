"""Fixtures of the integration tests: real servers, this process in the client's HOME, and both SSH clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployer.errors import DeployerError
from deployer.link.address import Address
from deployer.link.dial import Ssh, dial
from deployer.link.session import Session
from sshd import Bed, Host, make_bed


@pytest.fixture
def bed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    """No hosts yet; HOME of this process is the client's, and there is no agent."""
    with make_bed() as made:
        monkeypatch.setenv("HOME", str(made.home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        yield made


class Client:
    """One of the two SSH clients, as the rest of deployer calls it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def session(self, host: Host | str, become: str | None = None, path: str = "~/app", **ssh: Any) -> Session:
        """A session with *host*, which is open; *ssh* are keys of [target.X.ssh]."""
        written = host if isinstance(host, str) else host.written
        settings = Ssh(client=self.name, **ssh)
        session = Session(written, dial(Address.parse(written), path, settings, become))
        session.hello(path)
        return session

    def hello(self, host: Host | str, **more: Any) -> dict[str, Any]:
        """What the engine there says of itself."""
        with self.session(host, **more) as session:
            return session.hello(more.get("path", "~/app"))

    def refusal(self, host: Host | str, **more: Any) -> DeployerError:
        """The error of a session that does not come about: complete, with the exit code of a preflight, and nothing changed."""
        with pytest.raises(DeployerError) as caught:
            self.session(host, **more).__exit__()
        error = caught.value
        assert (error.code, error.state) == (6, "nothing was changed")
        assert error.cause and error.hint, vars(error)
        if isinstance(host, Host):
            assert not host.path.exists()
        return error


@pytest.fixture(params=["paramiko", "openssh"])
def client(request: pytest.FixtureRequest) -> Client:
    return Client(request.param)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that must never come to be."""
    return tmp_path / "executed"
