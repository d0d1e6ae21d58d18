"""A release that cannot be made ready to switch: exit 7, the old process hears nothing, no half release is left."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from typing import Any

import pytest

from app import App, Result, alive, free_port, wait_until
from evidence import faults, files_with, running, untouched


def refused(app: App, *args: str, code: int = 7, **tables: str) -> Result:
    """Push a good release, then one with *tables* that must fail at a gate and leave the old process as it was."""
    app.push()
    before = running(app)
    app.release("v2")
    app.configure(**tables)
    result = app.push(*args, check=code)
    assert faults(result) == []
    finished = result.event("push.finished")
    assert (finished["status"], finished["exit_code"]) == ("failed", code)
    assert finished["hosts"] == [{"host": "local", "status": "failed", "release": before["release"]}]
    untouched(app, before)
    assert app.status()["under_way"] is None
    return result


def python(code: str) -> str:
    """`command = […]` that runs *code*."""
    return "command = " + json.dumps([sys.executable, "-S", "-c", code])


@pytest.mark.parametrize("step", ["install", "check"])
def test_failing_gate_leaves_the_old_process_untouched_and_shows_its_last_lines(app: App, step: str) -> None:
    result = refused(app, **{step: python("print('line one'); print('missing module qux'); raise SystemExit(4)")})
    assert f"{step} failed with exit code 4" in result.err
    assert "missing module qux" in result.err
    assert f"{step}.finished" not in result.names()
    app.configure()
    app.push()  # nothing stands in the way of the next one
    assert (app.host / "current" / "version.txt").read_text() == "v2"


def test_failing_build_leaves_the_old_process_untouched_and_shows_its_last_lines(app: App) -> None:
    result = refused(app, build=f'artifact = "dist"\n{python("print(chr(69) * 3, 17); raise SystemExit(2)")}')
    assert "the build failed" in result.err
    assert "EEE 17" in result.err
    assert "drain.started" not in result.names()


def test_missing_artifact_is_refused(app: App) -> None:
    result = refused(app, build='artifact = "build/output"')
    assert "build/output" in result.err


def test_gate_that_cannot_be_started_is_named(app: App) -> None:
    result = refused(app, install='command = ["no-such-program"]')
    assert "install could not be started" in result.err
    assert "no-such-program" in result.err


def test_gate_that_runs_too_long_is_ended_with_everything_it_started(app: App) -> None:
    started = app.root / "pids"
    fork = (
        "import os, time, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN) if {stubborn} else None\n"
        f"open({str(started)!r}, 'a').write(str(os.getpid()) + '\\n')\n"
        "time.sleep(100)"
    )
    away = (
        "import os, time\nprint('compiling', flush=True)\n"
        f"open({str(started)!r}, 'a').write(str(os.getpid()) + '\\n')\n"
        f"if os.fork() == 0:\n os.setsid()\n if os.fork(): os._exit(0)\n exec({fork.format(stubborn=False)!r})\n"
        "time.sleep(100)"
    )
    result = refused(app, install=f'timeout = "1s"\n{python(away)}')
    assert "install took longer than 1s and was ended" in result.err
    assert "compiling" in result.err
    pids = [int(line) for line in started.read_text().split()]
    assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)


def test_build_that_runs_too_long_is_ended(app: App) -> None:
    result = refused(app, build=f'artifact = "dist"\ntimeout = "500ms"\n{python("import time; time.sleep(100)")}')
    assert "did not finish within 0.5s" in result.err


def test_gates_run_in_the_release_with_the_environment_of_the_app(app: App) -> None:
    (app.host / "shared").mkdir(parents=True)
    (app.host / "shared" / "app.env").write_text("FROM_FILE=file\n")
    told = app.root / "told.json"
    names = ("FROM_ENV", "FROM_FILE", "TOKEN", "DEPLOYER_APP", "DEPLOYER_RELEASE")
    look = (
        "import json, os, sys; "
        f"open({str(told)!r}, 'a').write(json.dumps([os.getcwd(), [os.environ.get(n) for n in {names}]]) + '\\n')"
    )
    app.env["TOKEN"] = "s3cr3t-token"
    run = 'env = { FROM_ENV = "env" }\nenv_file = "app.env"\nsecrets = ["TOKEN"]'
    app.configure(run=run, install=python(look), check=python(look))
    result = app.push()
    assert result.names().index("install.finished") < result.names().index("check.finished")
    release = app.current()
    expected = [str(app.host / "releases" / str(release)), ["env", "file", "s3cr3t-token", "t-app", release]]
    assert [json.loads(line) for line in told.read_text().splitlines()] == [expected, expected]


def test_what_install_makes_is_there_when_the_release_runs(app: App) -> None:
    app.configure(install=python("open('installed.txt', 'w').write('yes')"))
    app.push()
    assert (app.host / "current" / "installed.txt").read_text() == "yes"


def test_secret_that_a_gate_prints_is_in_no_file_and_no_error(app: App) -> None:
    app.env["TOKEN"] = "s3cr3t-token"
    code = "import os; print('token is', os.environ['TOKEN'] * 2); raise SystemExit(1)"
    result = refused(app, run='secrets = ["TOKEN"]', install=python(code))
    assert "token is ******" in result.err
    assert "s3cr3t-token" not in result.out + result.err
    assert files_with(app.host, "s3cr3t-token") == []


def archive(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A .tar.gz of *members*."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as made:
        for member, content in members:
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, **fields: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


@pytest.mark.parametrize(
    "bad",
    [
        [(member("../escape.txt"), b"out")],
        [(member("way", type=tarfile.SYMTYPE, linkname="../../.."), b""), (member("way/escape.txt"), b"out")],
    ],
    ids=["dots", "through a link"],
)
def test_hostile_archive_is_refused_and_writes_nothing_outside(app: App, bad: Any) -> None:
    (app.root / "evil.tar.gz").write_bytes(archive([(member("service.py"), b"print()"), *bad]))
    result = refused(app, build='artifact = "evil.tar.gz"')
    assert "evil.tar.gz" in result.err
    assert not list(app.root.rglob("escape.txt"))


def test_runner_killed_in_a_gate_leaves_the_old_process_untouched_and_no_half_release(app: App) -> None:
    app.push()
    before = running(app)
    app.release("v2")
    pid = app.root / "pid"
    app.configure(install=python(f"import os, time; open({str(pid)!r}, 'w').write(str(os.getppid())); time.sleep(100)"))
    client = app.start("push", "--json")
    runner = int(wait_until(lambda: pid.read_text() if pid.exists() else "", what="the install runs"))
    os.kill(runner, 9)
    assert client.wait(60) == 7
    untouched(app, before)
    client.communicate()


def test_install_that_writes_into_shared_files_is_refused_and_named(app: App) -> None:
    app.push()
    before = app.get()["pid"]
    (app.dist / "new.txt").write_text("v2")
    app.configure(install='command = "echo x >> version.txt"')
    failed = app.push(check=7)
    error = failed.event("host.finished")["error"]
    assert "in place" in error["title"] and error["cause"] == "version.txt"
    assert app.get()["pid"] == before
    app.configure(install='command = "cp version.txt v && echo x >> v && mv v version.txt"')
    app.push(check=0)


def test_app_that_opens_its_own_port_is_told_of_the_socket_that_it_inherits(app: App) -> None:
    command = json.dumps([sys.executable, "-m", "http.server", str(app.port), "--bind", "127.0.0.1"])
    app.configure(
        run=f'command = {command}\nsocket = "127.0.0.1:{app.port}"\nrehearse = true',
        health='url = "http://127.0.0.1:{port}/"\ninterval = "50ms"\ntimeout = "300ms"\nready_within = "2s"',
    )
    said = app.run("push", check=7).err
    assert f"it listens on port {app.port} as well" in said
    assert "inherits as fd 3" in said


def test_app_without_a_health_url_that_leaves_its_socket_alone_does_not_replace_one_that_serves(app: App) -> None:
    socket = f'socket = "127.0.0.1:{app.port}"\nrehearse = true'
    app.configure(run=socket, health='ready_within = "3s"\nalive_for = "100ms"\ntimeout = "300ms"')
    app.push()
    served = app.get()["pid"]
    command = json.dumps([sys.executable, "-m", "http.server", str(free_port()), "--bind", "127.0.0.1"])
    app.configure(
        run=f"command = {command}\n{socket}", health='ready_within = "3s"\nalive_for = "100ms"\ntimeout = "300ms"'
    )
    assert "nobody accepts on the socket that it inherits" in app.run("push", check=7).err
    assert app.get()["pid"] == served
