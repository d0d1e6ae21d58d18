"""
stage: a release of 5,000 files and 20 MB, sent for the first time, staged again unchanged, and with one file changed.

The same content becomes another release when a setting changes. That nothing was copied then is asserted: every file
is the same inode in both releases. `cp` does the same work with no record of it: a copy, and a tree of hard links.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from benchmarks import processes
from benchmarks.figures import Figure, Table
from benchmarks.processes import Run, progress
from benchmarks.project import Project, events, project

FILES, SIZE, DIRECTORIES = 5000, 4096, 100
GOAL = 1
KINDS = ("first time", "unchanged", "one file changed")


def run(scratch: Path, rounds: int) -> list[Table]:
    """Seconds on the host (what `stage.finished` says), of the whole push, and of cp."""
    _fill(scratch / "content")
    runs: list[dict[str, Run]] = []
    for number in range(rounds):
        progress(f"stage: round {number + 1} of {rounds}")
        runs.append({**_pushes(scratch / f"round{number}", scratch / "content"), **_copies(scratch)})
    return [_table(runs, rounds)]


def _fill(directory: Path) -> None:
    bytes_of = random.Random(1).randbytes  # the same content in every run
    for number in range(FILES):
        path = directory / f"d{number % DIRECTORIES}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes_of(SIZE))


def _pushes(root: Path, content: Path) -> dict[str, Run]:
    with project(root) as app:
        shutil.copytree(content, app.dist)
        first = _push(app, "1")
        unchanged = _push(app, "2")
        _require_shared(app, changed=0)
        (app.dist / "d0" / "f0").write_text("changed")
        changed = _push(app, "2")
        _require_shared(app, changed=1)
    shutil.rmtree(root)
    return dict(zip(KINDS, (first, unchanged, changed), strict=True))


def _push(app: Project, setting: str) -> Run:
    app.write(["sleep", "1000000"], {"SETTING": setting}, 'alive_for = "0s"')
    return app.deployer("push", "--json")


def _require_shared(app: Project, changed: int) -> None:
    """Fail unless the two newest releases share every file's inode but those of *changed* files."""
    releases = sorted((app.host / "releases").iterdir(), key=lambda path: path.stat().st_ctime_ns)
    before, after = (_inodes(release) for release in releases[-2:])
    shared = [path for path in after if before.get(path) == after[path]]
    if len(after) != FILES or len(shared) != FILES - changed:
        raise SystemExit(f"bench: {len(after) - len(shared)} of {len(after)} files were copied, not {changed}")


def _inodes(release: Path) -> dict[str, int]:
    return {str(path.relative_to(release)): path.stat().st_ino for path in release.rglob("f*") if path.is_file()}


def _copies(scratch: Path) -> dict[str, Run]:
    copies = {"cp -r": ["cp", "-r"], "cp -al": ["cp", "-al"]}
    done = {}
    for name, command in copies.items():
        done[name] = processes.run([*command, scratch / "content", scratch / "copy"])
        shutil.rmtree(scratch / "copy")
    return done


def _table(runs: list[dict[str, Run]], rounds: int) -> Table:
    def seconds(name: str) -> list[float]:
        return [one[name].wall / 1000 for one in runs]

    def staged(kind: str) -> list[float]:
        return [float(events(one[kind].out)["stage.finished"]["took_s"]) for one in runs]

    table = Table(f"stage · {FILES:,} files, {FILES * SIZE / 1e6:.0f} MB, {rounds} rounds")
    goals = {"unchanged": GOAL}
    table.figures += [Figure(f"stage, {kind}", staged(kind), "s", goals.get(kind)) for kind in KINDS]
    table.figures += [Figure(f"whole push, {kind}", seconds(kind), "s") for kind in KINDS]
    table.figures += [Figure(f"{name} of the same files", seconds(name), "s") for name in ("cp -r", "cp -al")]
    return table
