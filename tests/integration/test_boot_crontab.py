"""`deployer enable` where there is no systemd, with Debian's cron: its spool and its /run are private to each test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app import App, alive, clean_environment, command, make_app, wait_until
from parts import need, need_root

SPOOL = "/var/spool/cron/crontabs"
THEIRS = "# mine, 100 %\n5 4 * * * /bin/true # deployer\n@reboot /bin/true # deployer: app other at /srv/other\n"
INSIDE = f'mount -t tmpfs tmpfs /run && mount --bind "$0" {SPOOL} && exec "$@"'


@dataclass
class CronApp(App):
    """An app whose commands see a crontab of its own, and no systemd."""

    spool: Path = field(default=Path("/nonexistent"))
    alone: bool = False
    """Its commands see no process but their own."""

    def inside(self, argv: list[str]) -> list[str]:
        pids = ["--pid", "--fork", "--mount-proc"] if self.alone else []
        return ["unshare", "--mount", *pids, "--propagation", "private", "sh", "-c", INSIDE, str(self.spool), *argv]

    def _popen(self, args: tuple[str, ...], env: dict[str, str], **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.inside(command(*args)), cwd=self.root, env={**clean_environment(), **self.env, **env}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more,
        )  # fmt: skip

    @property
    def crontab(self) -> str:
        return subprocess.run(self.inside(["crontab", "-l"]), capture_output=True, text=True, check=True).stdout

    @contextmanager
    def cron(self) -> Iterator[None]:
        """The daemon, freshly started: what is @reboot runs now."""
        daemon = subprocess.Popen(self.inside(["cron", "-f"]), start_new_session=True)
        try:
            wait_until(lambda: Path(f"/proc/{daemon.pid}/comm").read_text() == "cron\n", what="cron runs")
            yield
        finally:
            daemon.kill()
            daemon.wait()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[CronApp]:
    need_root()
    need("unshare", "crontab", "cron")
    spool = tmp_path / "spool"
    spool.mkdir()
    shutil.chown(spool, "root", "crontab")
    spool.chmod(0o1730)

    def kind(root: Path, port: int) -> CronApp:
        return CronApp(root, port, spool=spool)

    with make_app(tmp_path / "an app, 100%", kind) as made:
        assert isinstance(made, CronApp)
        subprocess.run(made.inside(["crontab", "-"]), input=THEIRS, text=True, check=True)
        yield made


def killed(app: App) -> None:
    """Nothing of the app lives any more, as after a power cut."""
    while left := app.processes():
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda left=left: not any(map(alive, left)), what="what was killed has gone")


def test_crontab_brings_the_service_back_and_other_lines_stay_as_they_were(app: CronApp) -> None:
    app.push()
    with app.cron():
        done = app.run("enable", "--json", check=0).event("enable")["hosts"][0]
        assert (done["way"], done["comes_up"], done["changed"]) == ("crontab", True, True)
        written = app.crontab
        assert app.run("enable", "--json", check=0).event("enable")["hosts"][0]["changed"] is False
        assert app.crontab == written and written.startswith(THEIRS) and written.count("@reboot") == 2
        assert "comes up again (@reboot in the crontab)" in app.run("status").out
    killed(app)
    with app.cron():
        wait_until(lambda: app.get()["status"] == "ok", what="the service is up again, and nobody asked for it")
        assert app.run("disable", "--json", check=0).event("disable")["hosts"][0]["changed"] is True
        assert app.run("disable", "--json", check=0).event("disable")["hosts"][0]["changed"] is False
    assert app.crontab == THEIRS
    assert app.get()["status"] == "ok"


@pytest.mark.full
def test_reboot_finds_an_engine_when_the_one_that_was_enabled_has_gone(app: CronApp) -> None:
    app.push()
    with app.cron():
        app.run("enable", check=0)
    engines = app.host / ".deployer" / "engine"
    [named] = engines.iterdir()
    killed(app)
    named.rename(engines / "0123456789abcdef")
    with app.cron():
        wait_until(lambda: app.get()["status"] == "ok", what="the service is up again with another engine")


def test_nothing_is_said_to_work_without_a_cron_daemon(app: CronApp) -> None:
    app.push()
    (app.spool / "root").unlink()
    app.alone = True  # another test may have a cron running
    refused = app.run("enable", check=6)
    assert "no cron daemon runs here" in refused.err and "is installed" in refused.err
    assert app.crontab.count("@reboot") == 1


@pytest.mark.full
def test_crontab_that_cannot_be_read_is_not_written_over(app: CronApp) -> None:
    app.push()
    bin_ = app.root / "bin"
    bin_.mkdir()
    (bin_ / "crontab").write_text(
        '#!/bin/sh\n[ "$1" = -l ] && { echo "you may not" >&2; exit 1; }\nexec /usr/bin/crontab "$@"\n'
    )
    (bin_ / "crontab").chmod(0o755)
    refused = app.run("enable", env={"PATH": f"{bin_}:{os.environ['PATH']}"}, check=6)
    assert "you may not" in refused.err
    assert app.crontab == THEIRS
