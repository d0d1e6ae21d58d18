"""Ready is proven by the new process itself; one that is not ready makes room for the old release. (Issue case 6.)"""

from __future__ import annotations

import json
import re
import sys

import pytest

from app import App, Result, alive


def health(app: App, *more: str, within: str = "800ms") -> str:
    return "\n".join([f'url = "{app.url}/health"', 'interval = "50ms"', f'ready_within = "{within}"', *more])


def failed(app: App, *args: str) -> Result:
    """Push a release with *args* over a good one: exit 1, and the old release serves again."""
    app.configure(args=[], health=health(app, within="9s"))
    app.push()
    before = app.get()
    app.configure(args=list(args), health=health(app))
    result = app.push(check=1)
    after = app.get()
    assert after["release"] == before["release"] == app.current() and after["pid"] != before["pid"]
    assert result.event("push.finished")["status"] == "reverted"
    assert result.event("revert.finished")["ok"] is True
    return result


def reason(result: Result) -> str:
    text = result.event("revert.started")["reason"]
    assert text in result.err
    return str(text)


def test_release_that_is_never_ready_is_reverted_with_its_last_answer(app: App) -> None:
    assert re.search(r"503.*starting.*0\.8 s", reason(failed(app, "--health", "never-ready")))


def test_release_that_exits_at_once_is_reverted_with_its_code_and_last_words(app: App) -> None:
    result = failed(app, "--exit-at-once", "4")
    assert "exited with code 4" in reason(result)
    assert "cannot open the database" in json.dumps(result.event("revert.started")["log_tail"])


def test_wrong_port_is_named_in_the_reason(app: App) -> None:
    result = failed(app, "--wrong-port")
    [port] = re.findall(r"listens on port (\d+)", reason(result))
    assert int(port) != app.port


@pytest.mark.parametrize("mode", ["missing", "refuse", "hang", pytest.param("drip", marks=pytest.mark.full)])
def test_health_that_never_says_ok_is_not_ready(app: App, mode: str) -> None:
    app.configure(args=["--health", mode], health=health(app, 'timeout = "200ms"'))
    result = app.push(check=8)
    assert "ready" not in result.names() and "0.8 s" in result.err


def test_any_good_http_answer_of_the_process_itself_is_enough(app: App) -> None:
    for mode in ("garbage", "enormous", "silent", "always-ok", "impostor"):
        app.configure(args=["--health", mode], health=health(app, within="9s"))
        result = app.push()
        assert result.event("ready")["pid"] == result.event("start.finished")["pid"], mode


def test_release_that_is_starting_is_waited_for(app: App) -> None:
    app.configure(args=["--boot", "0.3", "--warmup", "0.8"], health=health(app, "streak = 4", within="9s"))
    result = app.push()
    assert result.event("ready")["took_s"] >= 0.8 and result.event("ready")["probes"] > 5
    assert app.get()["status"] == "ok"


def test_busy_is_read_where_the_pointer_says(app: App) -> None:
    app.configure(args=["--busy-key", "claudeBusy"], health=health(app, 'busy = "/claudeBusy"'))
    app.push()
    client = app.task(after=2.5)
    assert app.status()["health"]["busy"] == 1
    app.release("v2")
    told = app.push().event("drain.progress")
    client.communicate(timeout=60)
    assert told["busy"] == 1


def test_app_without_http_is_ready_when_it_lives_long_enough(app: App) -> None:
    app.configure(args=["--no-listen"], health='alive_for = "700ms"')
    assert app.push().event("ready")["took_s"] >= 0.7
    app.release("v2")
    assert app.push().event("drain.finished")["verdict"] == "clean"


def test_app_without_http_that_dies_young_is_reverted(app: App) -> None:
    app.configure(args=["--no-listen"], health='alive_for = "1s"')
    first = app.push()
    app.configure(args=["--no-listen", "--crash-after", "0.4"], health='alive_for = "1s"')
    result = app.push(check=1)
    assert "exited with code 3" in reason(result)
    assert app.status()["instance"]["release"] == first.event("ready")["release"]


def test_known_port_must_accept_even_without_a_url(app: App) -> None:
    run = f"ports = [{app.port}]"
    app.configure(run=run, args=["--boot", "0.8"], health='alive_for = "50ms"\nready_within = "9s"')
    assert app.push().event("ready")["took_s"] >= 0.7
    app.configure(run=run, args=["--wrong-port"], health='alive_for = "50ms"\nready_within = "1s"')
    assert f"does not listen on port {app.port}; it listens on port" in reason(app.push(check=1))


def test_nothing_of_a_failed_release_lives_on(app: App) -> None:
    result = failed(app, "--health", "never-ready", "--spawn", "setsid:0:obey,daemon:0:obey")
    assert result.event("revert.started")
    serving = app.get()["pid"]
    pids = [int(line[2]) for line in app.lines("STARTS_FILE")]
    assert [pid for pid in pids if alive(pid)] == [serving]


def test_wrapped_release_proves_itself_by_its_own_child(app: App) -> None:
    command = f"{sys.executable} -S service.py --port {app.port}; true"
    app.configure(run=f"command = {json.dumps(command)}", health=health(app, within="9s"))
    result = app.push()
    assert result.event("ready")["pid"] == result.event("start.finished")["pid"] != app.get()["pid"]
