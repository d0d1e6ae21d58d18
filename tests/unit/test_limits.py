"""The limits of other programs, as their command lines, environments and config files say them."""

from __future__ import annotations

import plistlib
from pathlib import Path
from typing import Any

import pytest

from deployer.host.limits import launchd, servers, units
from deployer.host.limits.files import Texts
from deployer.host.limits.programs import has_title, programs
from deployer.host.limits.table import KNOWN
from deployer.host.limits.units import Unit


def limits(argv: list[str], env: dict[str, str] | None = None, directory: Path | None = None) -> dict[str, Any]:
    texts = Texts(str(directory) if directory else None)
    found = [one for name, args in programs(argv, KNOWN) for one in servers.found(name, args, env or {}, texts)]
    return {one["name"]: one["seconds"] for one in found}


def shell(line: str) -> list[str]:
    return ["sh", "-c", line]


GRACEFUL, SYNC = "gunicorn --graceful-timeout", "gunicorn --timeout"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["gunicorn", "app:app"], {GRACEFUL: 30.0, SYNC: 30.0}),
        (["gunicorn", "--graceful-timeout", "660", "-t600", "app:app"], {GRACEFUL: 660.0, SYNC: 600.0}),
        (["gunicorn", "--graceful-timeout=660", "--timeout=0", "app:app"], {GRACEFUL: 660.0, SYNC: None}),
        (["gunicorn", "-k", "uvicorn.workers.UvicornWorker", "app:app"], {GRACEFUL: 30.0}),
        (["gunicorn", "--threads", "8", "app:app"], {GRACEFUL: 30.0}),
        (["uvicorn", "app:app"], {"uvicorn --timeout-graceful-shutdown": None}),
        (["uvicorn", "--timeout-graceful-shutdown", "20", "app:app"], {"uvicorn --timeout-graceful-shutdown": 20.0}),
        (["hypercorn", "app:app"], {"hypercorn --graceful-timeout": 3.0}),
        (["hypercorn", "--graceful-timeout", "1.5", "app:app"], {"hypercorn --graceful-timeout": 1.5}),
        (["granian", "--workers-kill-timeout", "45s", "a:b"], {"granian --workers-kill-timeout": 45.0}),
        (["puma"], {}),
        (["bundle", "exec", "puma", "-w", "2"], {"puma worker_shutdown_timeout": 30.0}),
        (["sidekiq", "-t", "40"], {"sidekiq --timeout": 40.0}),
        (["php-fpm8.2", "-F"], {"php-fpm process_control_timeout": 0.0}),
        (["pm2-runtime", "app.js"], {"pm2 kill_timeout": 1.6}),
        (["node", "/usr/bin/pm2-runtime", "--kill-timeout", "5000", "a.js"], {"pm2 kill_timeout": 5.0}),
        (["docker", "run", "--stop-timeout=700", "image"], {"docker --stop-timeout": 700.0}),
        (["docker", "run", "image"], {"docker --stop-timeout": 10.0}),
        (["docker", "compose", "up", "-t", "30"], {"compose stop_grace_period": 30.0}),
        (["docker-compose", "up"], {"compose stop_grace_period": 10.0}),
        (["supervisord", "-n"], {"supervisord stopwaitsecs": 10.0}),
        (["timeout", "30", "node", "api.js"], {"timeout": 30.0}),
        (["timeout", "-k", "5", "2m", "node", "api.js"], {"timeout": 120.0, "timeout -k": 5.0}),
        (["timeout", "-s", "INT", "--kill-after=9", "1h", "x"], {"timeout": 3600.0, "timeout -k": 9.0}),
        (shell("exec hypercorn app:app"), {"hypercorn --graceful-timeout": 3.0}),
        (shell("cd app && A=1 exec uv run hypercorn app:app 2>&1"), {"hypercorn --graceful-timeout": 3.0}),
        (["python3.11", "-X", "utf8", "-m", "hypercorn", "app:app"], {"hypercorn --graceful-timeout": 3.0}),
        (["/v/bin/python", "/v/bin/hypercorn", "app:app"], {"hypercorn --graceful-timeout": 3.0}),
        (["timeout", "60", "sh", "-c", "hypercorn a:b"], {"timeout": 60.0, "hypercorn --graceful-timeout": 3.0}),
        (["node", "gunicorn.js"], {}),
        (["python", "manage.py", "gunicorn"], {}),
        (["python", "-c", "import gunicorn"], {}),
        (shell("echo 'an open quote"), {}),
        ([], {}),
        (["sh"], {}),
        (["gunicorn", "--graceful-timeout"], {GRACEFUL: 30.0, SYNC: 30.0}),
        (["gunicorn", "--graceful-timeout", "soon"], {GRACEFUL: 30.0, SYNC: 30.0}),
    ],
)
def test_limit_of_a_program_is_read_from_its_command_line(argv: list[str], expected: dict[str, float | None]) -> None:
    assert limits(argv) == expected


def test_environment_is_believed_where_no_option_says_otherwise() -> None:
    env = {"GUNICORN_CMD_ARGS": "--graceful-timeout=700 -k gthread", "UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN": "40"}
    assert limits(["gunicorn", "app:app"], env) == {GRACEFUL: 700.0}
    assert limits(["gunicorn", "--graceful-timeout", "5", "app:app"], env) == {GRACEFUL: 5.0}
    assert limits(["uvicorn", "app:app"], env) == {"uvicorn --timeout-graceful-shutdown": 40.0}


@pytest.mark.parametrize(
    ("argv", "file", "text", "expected"),
    [
        (["gunicorn", "a"], "gunicorn.conf.py", "threads = 4\ngraceful_timeout = 660  # ceiling\n", {GRACEFUL: 660.0}),
        (["gunicorn", "-c", "c.py", "a"], "c.py", "worker_class = 'gthread'\ngraceful_timeout=9", {GRACEFUL: 9.0}),
        (["gunicorn", "-k", "gevent", "a"], "gunicorn.conf.py", "# graceful_timeout = 9\n", {GRACEFUL: 30.0}),
        (["gunicorn", "-k", "gevent", "a"], "gunicorn.conf.py", "graceful_timeout = int(x)\n", {GRACEFUL: 30.0}),
        (["hypercorn", "-c", "h.toml", "a"], "h.toml", "graceful_timeout = 12.5\n", {"hypercorn --graceful-timeout": 12.5}),
        (["puma"], "config/puma.rb", "workers 2\nworker_shutdown_timeout 90\n", {"puma worker_shutdown_timeout": 90.0}),
        (["sidekiq"], "config/sidekiq.yml", ":concurrency: 5\n:timeout: 50\n", {"sidekiq --timeout": 50.0}),
        (["pm2-runtime", "my.config.js"], "my.config.js", "  kill_timeout: 9000,", {"pm2 kill_timeout": 9.0}),
        (["pm2-runtime", "a.json"], "a.json", '{"apps": [{\n "kill_timeout": 4000}]}', {"pm2 kill_timeout": 4.0}),
        (
            ["docker", "compose", "up"], "compose.yaml",
            "services:\n  a:\n    stop_grace_period: 12m\n  b:\n    stop_grace_period: 1m30s\n",
            {"compose stop_grace_period": 90.0},
        ),
        (["supervisord", "-c", "s.conf"], "s.conf", "[program:a]\nstopwaitsecs=75\n", {"supervisord stopwaitsecs": 75.0}),
        (["php-fpm", "-y", "f.conf"], "f.conf", "process_control_timeout = 20s\n", {"php-fpm process_control_timeout": 20.0}),
    ],
)  # fmt: skip
def test_limit_in_a_config_file_is_read(
    tmp_path: Path, argv: list[str], file: str, text: str, expected: dict[str, float]
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / file).write_text(text)
    assert limits(argv, directory=tmp_path) == expected


def test_default_is_not_certain_and_names_a_file_that_may_set_it() -> None:
    [limit] = servers.found("hypercorn", ["-c", "elsewhere.toml", "a:b"], {}, Texts(None))
    assert not limit["certain"] and "unless elsewhere.toml says otherwise" in limit["from"]
    [limit] = servers.found("hypercorn", ["--graceful-timeout", "9", "a:b"], {}, Texts(None))
    assert limit["certain"] and limit["from"] == "its option"


def test_hostile_files_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_bytes(b"\xff\x00graceful_timeout = 5\n" * 20000)
    assert limits(["gunicorn", "-k", "gevent", "a"], directory=tmp_path) == {GRACEFUL: 30.0}
    (tmp_path / "gunicorn.conf.py").unlink()
    (tmp_path / "gunicorn.conf.py").mkdir()
    assert limits(["gunicorn", "-k", "gevent", "a"], directory=tmp_path) == {GRACEFUL: 30.0}


def test_title_of_a_process_is_no_command_line() -> None:
    assert programs(["gunicorn: master [app]"], KNOWN) == [("gunicorn", [])]
    assert programs(["PM2 v5.3.0: God Daemon (/root/.pm2)"], KNOWN) == [("pm2", [])]
    assert has_title(["gunicorn: master [app]"]) and not has_title(["gunicorn", "app"])


@pytest.mark.parametrize(
    ("line", "unit"),
    [
        ("0::/system.slice/agent.service", Unit("agent.service", "system")),
        ("1:name=systemd:/system.slice/agent.service/child", Unit("agent.service", "system")),
        ("0::/user.slice/user-7.slice/user@7.service/app.slice/a@b.service", Unit("a@b.service", "user")),
        ("0::/user.slice/user-7.slice/user@7.service/init.scope", None),
        ("0::/user.slice/user-0.slice/session-3.scope", None),
        ("4:memory:/system.slice/agent.service", None),
        ("0::/", None),
        ("nonsense", None),
    ],
)
def test_unit_of_a_process_is_read_from_its_control_group(tmp_path: Path, line: str, unit: Unit | None) -> None:
    (tmp_path / "12").mkdir()
    (tmp_path / "12" / "cgroup").write_text(f"{line}\n")
    assert units.of_process(12, str(tmp_path)) == unit
    assert units.of_process(13, str(tmp_path)) is None


@pytest.mark.parametrize(
    ("job", "expected"),
    [({"ExitTimeOut": 700}, (700.0, True)), ({}, (20.0, False)), ({"ExitTimeOut": 0}, (None, True))],
)
def test_exit_timeout_of_a_launchd_job_is_found_by_its_label(
    tmp_path: Path, job: dict[str, int], expected: tuple[float | None, bool]
) -> None:
    (tmp_path / "a.plist").write_bytes(b"not a plist")
    (tmp_path / "other.plist").write_bytes(plistlib.dumps({"Label": "com.other", "ExitTimeOut": 1}))
    (tmp_path / "any name.plist").write_bytes(plistlib.dumps({"Label": "com.agent", **job}, fmt=plistlib.FMT_BINARY))
    found = launchd.exit_timeout("com.agent", (str(tmp_path), "/nonexistent"))
    assert found == (expected[0], str(tmp_path / "any name.plist"), expected[1])
    assert launchd.exit_timeout("com.nobody", (str(tmp_path),)) is None
