"""
`scripts/faults`: kill every part of the engine at every moment of a push, and count what was lost.

For each victim, for a good and for a broken release: the first run kills it after its first write to state.db, the next one
after its second, until the push is over first. Each push finds a task in flight.

With `overlap` among the victims: of pushes that overlap, under a small constant load that must lose nothing either.
With --chaos N: tell N random stories instead, of people and of faults.
With --disk: let every fsync and every rename of every part fail with EIO instead, one a push (strace injects it).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import traced
from chaos import Story, chaos
from points import instrumented
from scenario import VICTIMS, Run, describe, prepare, run
from sharing import make_sharing

from app import App, make_app

OVERLAP = "overlap"
Make = Callable[[Path], AbstractContextManager[App]]
lock = threading.Lock()


def main() -> int:
    options = parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="deployer-faults-") as place:
        engine = instrumented(Path(place))
        if options.disk:
            return disk(Path(place), engine, options)
        if options.chaos:
            return told(chaos(options.chaos, options.seed, options.jobs))
        make = make_sharing if OVERLAP in options.victims else make_app
        chosen = [victims for victims in options.victims if victims != OVERLAP] or VICTIMS
        jobs = [(victims, broken) for victims in chosen for broken in (False, True)]
        with ThreadPoolExecutor(options.jobs) as pool:
            found = list(pool.map(lambda job: list(sweep(make, Path(place), engine, *job, every=options.every)), jobs))
    runs = [one for some in found for one in some]
    print(table(jobs, found))
    print(total(runs))
    return 1 if any(one.problems for one in runs) else 0


def told(stories: list[Story]) -> int:
    """The table of random stories; 1 when any of them had a problem."""
    wrong = sum(bool(story.problems) for story in stories)
    tasks, lost = sum(story.tasks for story in stories), sum(story.lost for story in stories)
    twice = sum(story.second_signals for story in stories)
    print(f"{len(stories)} stories, {tasks} tasks, {lost} lost, {twice} second signals, {wrong} with problems")
    return 1 if wrong else 0


def disk(place: Path, engine: Path, options: argparse.Namespace) -> int:
    """Every call of every part fails once; the table of what that cost."""
    traced.require_strace()
    traced.traceable(engine)
    jobs = [(role, call) for role in traced.ROLES for call in traced.CALLS]
    with ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(lambda job: list(failing(place, engine, *job, every=options.every)), jobs))
    print(disk_table(jobs, found))
    return 1 if any(one.problems for some in found for one in some) else 0


def failing(place: Path, engine: Path, role: str, call: str, every: int) -> Iterator[traced.Made]:
    """Pushes in which the first *call* of *role* fails, then the next one, until it makes no more of them."""
    with make_app(place / f"{role}-{call}") as app:
        prepare(app, engine)
        number = 1
        while True:
            made = traced.run(app, role, call, number)
            told = [f"{role:7} {call:6} {number:3}  exit {made.code}  {made.serves} serves", *made.problems]
            with lock:
                print("\n    ".join(told), flush=True)
            if not made.reached:
                return
            yield made
            number += every


def disk_table(jobs: list[tuple[str, str]], found: list[list[traced.Made]]) -> str:
    lines = [("part", "call", "runs", "ended on", "exit codes", "problems")]
    for (role, call), runs in zip(jobs, found, strict=True):
        ends = ", ".join(f"{name} {count}" for name in ("old", "new") if (count := sum(r.serves == name for r in runs)))
        codes = ", ".join(
            f"{code}: {sum(r.code == code for r in runs)}" for code in sorted({r.code or 0 for r in runs})
        )
        lines.append((role, call, str(len(runs)), ends, codes, str(sum(bool(one.problems) for one in runs))))
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], ("---",) * len(lines[0]), *lines[1:]))


def sweep(make: Make, place: Path, engine: Path, victims: str, broken: bool, every: int) -> Iterator[Run]:
    """Runs, each killed a little later, until one is not killed any more."""
    with make(place / f"{victims}-{'broken' if broken else 'good'}".replace("+", "-")) as app:
        prepare(app, engine)
        write = 1
        while True:
            made = run(app, victims, write, broken)
            with lock:
                print(describe(made), flush=True)
            if not made.reached:
                return
            yield made
            write += every


def table(jobs: list[tuple[str, bool]], found: list[list[Run]]) -> str:
    head = (
        "who dies",
        "release",
        "runs",
        "ended on",
        "services lost",
        "tasks lost",
        "requests lost",
        "second signals",
        "problems",
    )
    lines = [head]
    for (victims, broken), runs in zip(jobs, found, strict=True):
        ends = ", ".join(f"{name} {count}" for name in ("old", "new") if (count := sum(r.serves == name for r in runs)))
        counts = (
            sum(one.service_lost for one in runs), sum(one.tasks_lost for one in runs),
            sum(one.requests_lost for one in runs), sum(one.second_signals for one in runs),
            sum(bool(one.problems) for one in runs),
        )  # fmt: skip
        lines.append((victims, "broken" if broken else "good", str(len(runs)), ends, *map(str, counts)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n" + "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def total(runs: list[Run]) -> str:
    return (
        f"\n{len(runs)} runs: {sum(one.service_lost for one in runs)} services lost, {sum(one.tasks_lost for one in runs)} "
        f"tasks lost, {sum(one.requests_lost for one in runs)} with requests lost, "
        f"{sum(one.second_signals for one in runs)} second signals, {sum(bool(one.problems) for one in runs)} with a problem"
    )


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    made.add_argument("--every", type=int, default=1, metavar="N", help="try only every N-th moment")
    made.add_argument("--jobs", type=int, default=2, help="apps at once (2)")
    made.add_argument("--disk", action="store_true", help="let fsyncs and renames fail, instead of killing anybody")
    made.add_argument("--chaos", type=int, default=0, metavar="N", help="N random stories instead (chaos.py)")
    made.add_argument("--seed", type=int, default=1, help="the first story's seed (1)")
    made.add_argument(
        "victims", nargs="*", default=VICTIMS, help=f"who dies: {', '.join(VICTIMS)}; {OVERLAP}: in an overlap"
    )
    return made


if __name__ == "__main__":
    sys.exit(main())
