"""Uploads to the real engine, over its two kinds of link: how few bytes, and what a break or a full disk leaves."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app import wait_until
from artifacts import noise, opened, write
from deployer.config.load import load
from deployer.errors import DeployerError, LinkError, PreflightError
from deployer.link.address import Address
from deployer.link.channel import Channel
from deployer.link.dial import Ssh, dial
from deployer.link.local import LocalChannel
from deployer.link.session import Session
from deployer.rollout.events import Stream
from deployer.rollout.part import Part
from deployer.rollout.upload import upload
from sshd import Bed, Host

MEGABYTE = 1 << 20
CONFIG = """\
app = "t-upload"
[run]
command = ["sleep", "100000"]
[health]
alive_for = "0s"
[target.there]
path = "{path}"
"""


class Pushing:
    """Pushes *artifact* to *path* over channels that *connect* makes, word by word."""

    def __init__(self, root: Path, path: Path, connect: Callable[[], Any]) -> None:
        self.artifact, self.path, self.connect = root / "artifact", path, connect
        self.artifact.mkdir()
        (root / "deploy.toml").write_text(CONFIG.format(path=path))
        self.config = load(root / "deploy.toml", "there")
        self.events: list[dict[str, Any]] = []
        self.count = 0

    @contextmanager
    def open(self) -> Iterator[tuple[Session, Any, dict[str, Any]]]:
        """The lock is held, nothing is sent."""
        self.count += 1
        channel = self.connect()
        session = Session("there", channel)
        words = {
            "deploy": f"d{self.count}", "kind": "push", "who": "me", "target": self.config.target(),
            "settings": self.config.settings(),
        }  # fmt: skip
        try:
            session.hello(str(self.path))
            session.call_telling(lambda event: None, "open", wait_lock=20, supersede=False, detach=False, **words)
            yield session, channel, words
        finally:
            channel.close()

    def upload(self, session: Session) -> str:
        """The digest of what was sent."""
        with opened(self.artifact) as content:
            upload(session, content, Part(session.host, Stream("d", self.events.append)))
            return content.manifest.digest

    def push(self) -> Any:
        """A whole push; the channel that it used."""
        with self.open() as (session, channel, words):
            digest = self.upload(session)
            session.call("commit", release=f"r{self.count:03}", manifest=digest, secrets={}, **words)
            told = list(session.follow(words["deploy"]))
            assert told[-1]["event"] == "host.finished" and told[-1]["status"] == "done", told
            self.events += told
            return channel


@pytest.fixture
def ssh(bed: Bed, tmp_path: Path) -> Iterator[tuple[Host, Pushing]]:
    host = bed.host()
    yield host, Pushing(tmp_path, host.path, lambda: dial(Address.parse(host.written), str(host.path), Ssh(), None))


def many() -> dict[str, bytes]:
    return {f"lib/p{number % 211}/module_{number}.js": b"export default %d" % number for number in range(5000)}


def test_one_of_5000_files_costs_less_than_a_tenth_of_rsync(ssh: tuple[Host, Pushing]) -> None:
    _, pushing = ssh
    write(pushing.artifact, many())
    first = pushing.push()
    write(pushing.artifact, {"lib/p0/module_0.js": b"changed"})
    second = pushing.push()
    assert first.sent > 200_000
    assert second.sent + second.received < 9_600, "of rsync's 96,000"
    staged = [event for event in pushing.events if event["event"] == "stage.finished"]
    assert staged[1]["bytes_sent"] < 100 and staged[1]["files"] == 5000


def test_link_cut_in_the_middle_of_a_file_costs_only_the_rest(ssh: tuple[Host, Pushing]) -> None:
    host, pushing = ssh
    data = noise(64 * MEGABYTE)
    write(pushing.artifact, {"big": data})
    incoming = host.path / ".deployer" / "store" / "incoming"

    def arrived() -> int:
        return sum(path.stat().st_size for path in incoming.iterdir()) if incoming.is_dir() else 0

    with pytest.raises(LinkError), pushing.open() as (session, _, _):
        watcher = threading.Thread(target=lambda: (wait_until(lambda: arrived() > 8 * MEGABYTE), host.kill_sessions()))
        watcher.start()
        try:
            pushing.upload(session)
        finally:
            watcher.join()
    wait_until(lambda: not host.processes(), what="the engine has gone")
    left = arrived()
    assert left > 8 * MEGABYTE
    channel = pushing.push()
    assert channel.sent < len(data) - left + 100_000
    assert (host.path / "current" / "big").read_bytes() == data
    assert arrived() == 0


@contextmanager
def small(path: Path, megabytes: int) -> Iterator[None]:
    path.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize("link", ["local", "ssh"])
def test_disk_that_fills_up_is_told_at_once_and_the_conversation_goes_on(
    link: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if link == "ssh":
        host, pushing = request.getfixturevalue("ssh")
        path = host.path
    else:
        path, pushing = tmp_path / "host", None
    with small(path, 160):
        channels: list[Channel] = []
        if pushing is None:
            pushing = Pushing(tmp_path, path, LocalChannel)
        write(pushing.artifact, {"a": noise(120 * MEGABYTE), "z": b"small"})
        with pushing.open() as (session, channel, _):
            channels.append(channel)
            (path / "filler").write_bytes(bytes(120 * MEGABYTE))
            with pytest.raises(PreflightError, match="could not store") as caught:
                pushing.upload(session)
            assert "free" in str(caught.value.cause)
            assert session.call("history") == [], "the next request is understood"
            (path / "filler").unlink()
            pushing.upload(session)
        if link == "ssh":
            assert channel.sent < 220 * MEGABYTE, "what nobody can store is not sent to its end"


def test_release_without_room_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with small(tmp_path / "host", 64):
        pushing = Pushing(tmp_path, tmp_path / "host", LocalChannel)
        write(pushing.artifact, {"a": noise(60 * MEGABYTE)})
        with pushing.open() as (session, _, _), pytest.raises(PreflightError, match="not enough space"):
            pushing.upload(session)


def test_engine_that_is_killed_leaves_what_arrived(tmp_path: Path) -> None:
    pushing = Pushing(tmp_path, tmp_path / "host", LocalChannel)
    write(pushing.artifact, {"big": noise(64 * MEGABYTE)})
    incoming = tmp_path / "host" / ".deployer" / "store" / "incoming"
    with pytest.raises(DeployerError), pushing.open() as (session, channel, _):

        def kill() -> None:
            wait_until(lambda: incoming.is_dir() and any(one.stat().st_size > MEGABYTE for one in incoming.iterdir()))
            channel._process.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            pushing.upload(session)
        finally:
            killer.join()
    with pushing.open() as (session, _, _):
        pushing.upload(session)
    assert pushing.events[-1]["bytes_sent"] < 63 * MEGABYTE
