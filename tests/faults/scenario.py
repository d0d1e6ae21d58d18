"""One push with a task in flight, somebody killed in the middle of it, and what must be true in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from points import Point
from sharing import Sharing

from app import App, alive, wait_until
from victims import agents, keepers, kill, opened, parent, power_cut, rows, signals_to_mains, unfinished

ENDS_WITHIN = 40.0
VICTIMS = (
    "runner",
    "runner+resumed",
    "runner+client",
    "keeper",
    "agent",
    "client",
    "all",
    "power",
    "abort",
    "abort+runner",
)
"""
Who dies. `resumed`: the runner that goes on from the journal, too. `agent`: the client's end on the host. `all`: at once, but for
the app. `power`: the app as well, and what was never synced is lost. `abort`: nobody, but a person wants the old release back;
`abort+runner`: and the runner that was asked for it dies as soon as it has answered.
"""
WITH_CLIENT = ("runner+client", "client", "all", "power")


@dataclass
class Run:
    """What one run found. `reached` is False when the push was over before the point came."""

    victims: str
    broken: bool
    write: int | str
    where: str = ""
    reached: bool = False
    code: int | None = None
    status: str | None = None
    serves: str = ""
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    service_lost: bool = False
    tasks_lost: int = 0
    requests_lost: int = 0
    second_signals: int = 0
    dead: list[int] = field(default_factory=list)
    aborted: int | None = None
    cut_at: float = 0.0


def prepare(app: App, engine: Path) -> None:
    """Run version 1 of *app* with the instrumented *engine*, with every step that a push can have."""
    app.env["PYTHONPATH"] = str(engine)
    _configure(app, [])
    app.push()


def run(app: App, victims: str, write: int | str, broken: bool, task: float = 1.0) -> Run:
    """
    Push another release and kill *victims* after that *write* of the first of them.

    An app that overlaps is asked all the while: at no point is nobody listening, unless it dies itself.
    """
    if not isinstance(app, Sharing) or victims == "power":
        return _run(app, victims, write, broken, task)
    with app.under_load() as lost:
        made = _run(app, victims, write, broken, task)
    made.problems += lost
    made.requests_lost = len(lost)
    return made


def _run(app: App, victims: str, write: int | str, broken: bool, task: float) -> Run:
    made, started = Run(victims, broken, write), time.monotonic()
    before = app.get()
    known = len(app.lines("STARTS_FILE"))
    client = app.task(task)
    app.release(f"v-{time.monotonic()}")
    _configure(app, ["--exit-at-once", "3"] if broken else [])
    point = Point(app, "keeper" if victims == "keeper" else "runner", write)
    pushing = app.start("push", "--json")
    wait_until(lambda: point.reached or pushing.poll() is not None, within=ENDS_WITHIN, what="the point, or the end")
    if point.reached:
        made.reached, made.where = True, point.where
        if victims == "power":
            made.cut_at, made.dead = time.time(), power_cut(app, pushing.pid, point.pid)
        elif victims.startswith("abort"):
            made.aborted = _abort(app, victims, point)
        else:
            _kill(app, victims, point, pushing)
    point.disarm()
    out, err = _end(app, pushing, made)
    try:
        _judge(app, made, before, client, known)
    except AssertionError as error:
        made.problems.append(str(error))
    if made.problems:
        made.problems.append(f"client: {out[-1500:]}{err[-1500:]}\nengine: {app.engine_log()[-3000:]}")
    made.seconds = time.monotonic() - started
    _configure(app, [])
    return made


def _configure(app: App, args: list[str]) -> None:
    app.configure(
        args=args,
        install='command = "touch installed"',
        check='command = "test -e installed"',
        drain='ceiling = "30s"',
    )


def _kill(app: App, victims: str, point: Point, pushing: subprocess.Popen[str]) -> None:
    doomed = [pushing.pid] if victims in WITH_CLIENT else []
    if victims == "all":
        doomed += keepers(app)
    if victims in ("agent", "all"):
        doomed += agents(app)
    for pid in doomed:
        kill_quietly(pid)
    if victims in ("agent", "client"):
        point.go_on()
    if victims == "runner+resumed":
        second = Point(app, "resume", 1 + len(point.where) % 23)
        point.kill()
        wait_until(lambda: second.reached or not unfinished(app), within=ENDS_WITHIN, what="the second one stops")
        second.disarm()
        if second.passed:  # it may have come to its point just after the deploy was ended
            wait_until(lambda: second.reached, what="the second one stands still")
            second.kill()
    if victims not in ("agent", "client"):
        point.kill()


def _abort(app: App, victims: str, point: Point) -> int | None:
    """
    Abort the push that stands still at *point*; the exit code of `deployer abort`.

    None where it came to ask only when the deploy had ended: on a busy machine it looks for longer than we wait.
    """
    runner = point.pid
    died = Point(app, "runner", "abort asked") if victims == "abort+runner" else None
    aborting = app.start("abort", "--json", *(["--detach"] if died else []))
    wait_until(
        lambda: _waits_for_an_answer(app, aborting.pid) or aborting.poll() is not None,
        within=ENDS_WITHIN,
        what="it asked",
    )
    os.kill(runner, signal.SIGCONT)
    if died:
        wait_until(
            lambda: died.reached or aborting.poll() is not None, within=ENDS_WITHIN, what="the abort is on record"
        )
        if died.reached:
            died.kill()
        died.disarm()
    out, err = aborting.communicate(timeout=ENDS_WITHIN)
    assert aborting.returncode in (0, 1), f"{out}{err}"
    return None if '"status": "nothing"' in out else aborting.returncode


def _waits_for_an_answer(app: App, client: int) -> bool:
    """Whether the engine of *client* has had a socket open for a while: it has asked the runner, which stands still."""
    for _ in range(5):
        mine = [pid for pid in agents(app) if parent(pid) == client]
        if not mine or not any(name.startswith("socket:") for name in opened(mine[0])):
            return False
        time.sleep(0.04)
    return True


def kill_quietly(pid: int) -> None:
    """Kill *pid*, which may have gone by itself meanwhile."""
    try:
        kill(pid)
    except ProcessLookupError:
        pass


def _end(app: App, pushing: subprocess.Popen[str], made: Run) -> tuple[str, str]:
    """Wait for the end of the push, and of the deploy where nobody is left to tell it."""
    try:
        out, err = pushing.communicate(timeout=ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        pushing.kill()
        out, err = pushing.communicate()
        made.problems.append("the client did not end")
    made.code = pushing.returncode
    if made.reached and made.victims in WITH_CLIENT:
        made.code = None
        if made.victims in ("all", "power"):
            _look(app, made)
    return out, err


def _look(app: App, made: Run) -> None:
    """Nobody is left: the next `status` picks it up, and says truly what runs and what was under way."""
    cut_off = [row["id"] for row in unfinished(app)]
    found = app.status()
    said = (found["under_way"] or {}).get("deploy")
    if cut_off and said != cut_off[0] and unfinished(app):
        made.problems.append(f"status says {said} is under way, not {cut_off[0]}")
    running = found["instance"]
    if running and (not alive(running["pid"]) and not unfinished(app)):
        made.problems.append(f"status says that {running['pid']} runs")
    if found["problems"]:
        made.problems.append(f"status has problems: {found['problems']}")


def _judge(app: App, made: Run, before: dict[str, object], client: subprocess.Popen[str], known: int) -> None:
    try:
        wait_until(lambda: not unfinished(app), within=ENDS_WITHIN, what="every deploy is ended")
    except AssertionError:
        made.problems.append(f"never ended: {unfinished(app)}")
    answer = client.communicate(timeout=ENDS_WITHIN)[0]
    if '"done"' not in answer and not made.dead:  # no power, no work
        made.tasks_lost = 1
        made.problems.append(f"the task was lost: {answer}")
    last = rows(app, "SELECT * FROM deploys ORDER BY started_at DESC, rowid DESC LIMIT 1")[0]
    made.status = last["status"]
    try:
        health = wait_until(app.get, what="the service serves")
    except AssertionError:
        made.service_lost = True
        made.problems.append("the service is down")
        return
    made.serves = "old" if health["release"] == before["release"] else "new"
    made.second_signals = sum(count - 1 for count in signals_to_mains(app).values())
    for problem, found in _checks(app, made, health, before, known, last).items():
        if found:
            made.problems.append(problem)


def _checks(
    app: App, made: Run, health: dict[str, object], before: dict[str, object], known: int, last: dict[str, object]
) -> dict[str, object]:
    """What must not be: a text → whether it is."""
    mains = [int(line[2]) for line in app.lines("STARTS_FILE")]
    living = [pid for pid in mains if alive(pid)]
    ended = rows(app, "SELECT * FROM events WHERE deploy=? AND event LIKE '%host.finished%'", last["id"])
    expected = {"done": "new", "reverted": "old", "failed": "old"}.get(str(made.status))
    if last["release"] == before["release"]:  # killed before anything was on record
        expected = "old"
    signalled = signals_to_mains(app).get(str(before["pid"]), 0)
    after_death = [
        row
        for row in rows(app, "SELECT pid, signal FROM signals WHERE intended_at>?", made.cut_at)
        if row["pid"] in made.dead
    ]
    codes = {"new": (0,), "old": (1, 6, 7, 130)}[made.serves]
    return {
        f"{made.status}, but the {made.serves} release serves": made.serves != expected,
        f"a broken release serves: {health}": made.broken and made.serves == "new",
        f"current is {app.current()}, {health['release']} serves": app.current() != health["release"],
        f"more than one runs: {living}": len(living) != 1 or living != [health["pid"]],
        f"a second SIGTERM: {signals_to_mains(app)}": made.second_signals,
        f"old process gone without one SIGTERM: {signalled}": (
            health["pid"] != before["pid"] and signalled != 1 and not made.dead
        ),
        f"a signal to a process of the dead boot: {after_death}": after_death,
        f"old process signalled, and it still serves: {signalled}": health["pid"] == before["pid"] and signalled,
        f"the client said {made.code}": made.code is not None and made.code not in codes,
        f"abort said {made.aborted}, and the {made.serves} release serves": (
            made.aborted is not None and "+" not in made.victims and (made.aborted == 0) != (made.serves == "old")
        ),
        f"told as ended {len(ended)} times": len(ended) != 1,
        f"more keepers than one: {keepers(app)}": len(keepers(app)) > 1,
        f"exit code on record: {last['exit_code']}": made.code not in (None, last["exit_code"]),
    }


def describe(made: Run) -> str:
    """One line for a person, more where something is wrong."""
    what = "broken" if made.broken else "good"
    line = (
        f"{made.victims:14} {what:7} write {made.write!s:3}  ends {made.status!s:9} exit {made.code!s:5} "
        f"{made.serves or 'DOWN':4} serves  {made.seconds:4.1f} s  after {made.where[:60]}"
    )
    return "\n    ".join([line, *made.problems])


def dumps(runs: list[Run]) -> str:
    return json.dumps([vars(one) for one in runs], indent=1)


def ends(app: App, victims: str, writes: list[tuple[str, bool]]) -> list[str]:
    """
    Push once for each of *writes* (and whether the release is broken), and kill *victims* there: the status of each, on record.

    "not reached" where the push was over before; where a promise was broken, all that is known of that run.
    """
    runs = [run(app, victims, write, broken, task=0.7) for write, broken in writes]
    print("\n".join(map(describe, runs)))  # pytest shows it when the test fails
    return ["not reached" if not one.reached else describe(one) if one.problems else str(one.status) for one in runs]
