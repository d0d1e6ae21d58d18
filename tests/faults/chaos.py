"""
`scripts/faults --chaos N`: random stories with real processes: pushes with tasks in flight, good and broken ones, and meanwhile
people who abort, give more time, restart, roll back or detach, and parts of the engine that are killed.

Everything is drawn from a seed, which is told with a story that goes wrong; the machine's own timing is not, so a seed is a hint
and no replay (the simulation in tests/sim replays).
"""

from __future__ import annotations

import random
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from scenario import kill_quietly

from app import App, alive, make_app, wait_until
from victims import agents, keepers, rows, runners, signals_to_mains, unfinished

ENDS_WITHIN = 60.0
TASK = 1.5
DRAIN = 'ceiling = "60s"\nrevert_ceiling = "5s"'
KINDS = (
    "abort",
    "abort --detach",
    "drain --extend 5s",
    "status",
    "restart --wait-lock 30s",
    "rollback --wait-lock 30s",
)


@dataclass
class Story:
    """What happened, and what was wrong in the end."""

    seed: int
    told: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    tasks: int = 0
    lost: int = 0
    second_signals: int = 0


def play(app: App, seed: int) -> Story:
    """One push of *app*, whose release serves, with whatever *seed* says happens meanwhile."""
    chance, story = random.Random(seed), Story(seed)
    client = app.task(TASK)
    story.tasks = 1
    app.release(f"{seed}-{time.monotonic()}")
    broken = chance.random() < 0.3
    app.configure(args=["--exit-at-once", "3"] if broken else [], drain=DRAIN)
    story.told.append(f"push {'broken' if broken else 'good'}")
    people = [app.start("push", "--json")]
    for _ in range(chance.randint(1, 4)):
        time.sleep(0.15 + chance.random() * 0.8)
        what = chance.choice([*KINDS, "kill runner", "kill keeper", "kill client", "kill agent", "interrupt client"])
        story.told.append(what)
        if what.startswith(("kill", "interrupt")):
            _end_some(app, what, people[0])
        else:
            people.append(app.start(*what.split(), "--json"))
    _judge(app, story, people, client)
    return story


def _end_some(app: App, what: str, pushing: subprocess.Popen[str]) -> None:
    found: dict[str, Callable[[], list[int]]] = {
        "runner": lambda: runners(app), "keeper": lambda: keepers(app), "agent": lambda: agents(app)[:1],
        "client": lambda: [pushing.pid] if pushing.poll() is None else [],
    }  # fmt: skip
    if what == "interrupt client":
        if pushing.poll() is None:
            pushing.send_signal(signal.SIGINT)
        return
    for pid in found[what.split()[1]]():
        kill_quietly(pid)


def _judge(app: App, story: Story, people: list[subprocess.Popen[str]], client: subprocess.Popen[str]) -> None:
    said = []
    for person in people:
        try:
            out, err = person.communicate(timeout=ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            person.kill()
            out, err = person.communicate()
            story.problems.append(f"did not end: {person.args}")
        said.append(f"{person.args[3:]} exit {person.returncode}: {err.strip()[:300]}")  # type: ignore[index]
        if person.returncode not in (0, 1, 2, 3, 6, 7, 130, -9):
            story.problems.append(f"{person.args} exit {person.returncode}: {out[-500:]}{err}")
        if "Traceback" in err or "this is a bug" in err:
            story.problems.append(f"a bug: {err}")
    app.status()  # the next command: it takes up what nobody does
    try:
        wait_until(lambda: not unfinished(app), within=ENDS_WITHIN, what="every deploy is ended")
        health = wait_until(app.get, what="the service serves")
        wait_until(lambda: _mains(app) == [health["pid"]], what="one runs, the one that answers")
        if app.current() != health["release"]:
            story.problems.append(f"current is {app.current()}, {health['release']} serves")
    except AssertionError as error:
        story.problems.append(f"{error}; running: {_mains(app)}; unfinished: {unfinished(app)}")
    if '"done"' not in client.communicate(timeout=ENDS_WITHIN)[0]:
        story.lost = 1
        story.problems.append("the task was lost")
    story.second_signals = sum(count - 1 for count in signals_to_mains(app).values())
    if story.second_signals:
        story.problems.append(f"second signals: {signals_to_mains(app)}")
    ends = rows(app, "SELECT deploy, count(*) AS n FROM events WHERE event LIKE '%\"host.finished\"%' GROUP BY deploy")
    story.problems += [f"{row['deploy']} was told as ended {row['n']} times" for row in ends if row["n"] != 1]
    if story.problems:
        story.problems += [*said, app.engine_log()[-2500:]]


def _mains(app: App) -> list[int]:
    return [int(line[2]) for line in app.lines("STARTS_FILE") if alive(int(line[2]))]


def describe(story: Story) -> str:
    """One line for a person, more where something is wrong."""
    return "\n    ".join([f"seed {story.seed:6}  {', '.join(story.told)}", *story.problems])


def chaos(count: int, seed: int, jobs: int) -> list[Story]:
    """*count* stories, the first with *seed*, told as they end."""
    stories: list[Story] = []
    lock = threading.Lock()

    def some(first: int) -> None:
        with tempfile.TemporaryDirectory(prefix="deployer-chaos-") as place, make_app(Path(place) / "app") as app:
            app.configure(drain=DRAIN)
            app.push()
            for number in range(first, count, jobs):
                story = play(app, seed + number)
                with lock:
                    stories.append(story)
                    print(describe(story), flush=True)
                if story.problems:
                    return  # what comes after would be judged by what this one left

    workers = [threading.Thread(target=some, args=(first,)) for first in range(jobs)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return stories
