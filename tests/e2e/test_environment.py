"""What an app finds in its environment (CONTRACT.md section 5), and whose PATH that is."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import App


def environment(app: App) -> dict[str, str]:
    raw = Path(f"/proc/{app.get()['pid']}/environ").read_bytes().decode()
    return dict(part.split("=", 1) for part in raw.split("\0") if "=" in part)


def test_app_is_told_who_it_is(app: App) -> None:
    app.push()
    env = environment(app)
    assert env["DEPLOYER_APP"] == "t-app"
    assert env["DEPLOYER_RELEASE"] == app.current()
    assert env["DEPLOYER_INSTANCE"] == app.status()["instance"]["id"]
    assert env["PYTHONUNBUFFERED"] == "1"
    assert "DEPLOYER_REHEARSAL" not in env and "DEPLOYER_ENGINE" not in env and "PORT" not in env


def test_port_of_the_config_is_told_and_asked(app: App) -> None:
    app.configure(run=f"ports = [{app.port}]", health='url = "http://127.0.0.1:{port}/health"\ninterval = "50ms"')
    app.push()
    assert environment(app)["PORT"] == str(app.port)


def test_a_rehearsal_is_told_that_it_is_one(app: App) -> None:
    check = "import os, sys; open(sys.argv[1], 'a').write(os.environ.get('DEPLOYER_REHEARSAL', 'real') + chr(10))"
    (app.dist / "noted.py").write_text(
        check + "\nimport runpy; sys.argv = sys.argv[2:]; runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    noted = app.root / "noted.txt"
    app.configure(
        run=f'command = ["python3", "noted.py", "{noted}", "service.py"]\nports = [{app.port}]\nrehearse = true',
        health='url = "http://127.0.0.1:{port}/health"\ninterval = "50ms"',
    )
    app.push()
    assert noted.read_text().split() == ["1", "real"]


def test_path_is_that_of_who_pushed_last_and_stays_over_a_crash(app: App) -> None:
    app.push()
    app.release("v2")
    app.env["PATH"] = f"/of/the/second/push:{environment(app)['PATH']}"
    app.push()
    assert environment(app)["PATH"].startswith("/of/the/second/push:")


@pytest.mark.parametrize("value", ["", "0"])
def test_config_has_the_last_word_on_buffering(app: App, value: str) -> None:
    app.configure(run=f'env = {{ PYTHONUNBUFFERED = "{value}" }}')
    app.push()
    assert environment(app)["PYTHONUNBUFFERED"] == value
