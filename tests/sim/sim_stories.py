"""The stories that are told again and again with other faults: what serves at first, and what a person then asks for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

from sim_disk import PATHS, SimState
from sim_host import Host
from sim_keeper import SimKeeper
from sim_programs import PROGRAMS, run
from sim_settings import settings
from sim_world import World

from deployer.host.deploy import spec_of

OLD, OLDER = "r1", "r0"


@dataclass(frozen=True)
class Command:
    """`deployer KIND`; *program* is what the release that a push brings does, *release* its name."""

    kind: str
    program: str = "idle"
    release: str | None = None
    quiet: bool = False
    check: bool = False
    strategy: str = "restart"
    max_draining: int = 3

    @property
    def settings(self) -> dict[str, Any]:
        quiet = "SIGUSR1" if self.quiet else None
        return settings(self.program, quiet, self.check, self.strategy, self.max_draining)


@dataclass(frozen=True)
class Story:
    """*serves* is the program of the release that serves at first, None where nothing does; *strategy* that release's."""

    name: str
    serves: str | None
    commands: tuple[Command, ...]
    strategy: str = "restart"


def _push(program: str = "idle", release: str = "r2", quiet: bool = False, check: bool = False) -> Command:
    return Command("push", program, release, quiet, check)


STORIES = (
    Story("push, idle", "idle", (_push(check=True),)),
    Story("push, uvicorn", "uvicorn", (_push("uvicorn"),)),
    Story("push, working", "working", (_push(),)),
    Story("push, working for minutes", "long", (_push(),)),
    Story("push, deaf", "deaf", (_push(),)),
    Story("push, wrapper", "wrapper", (_push("wrapper"),)),
    Story("push, deaf child of a wrapper", "wrapper-deaf", (_push(),)),
    Story("push, daemon", "daemon", (_push("daemon"),)),
    Story("push, ungraceful", "ungraceful", (_push(),)),
    Story("push, quiet", "working", (_push(quiet=True),)),
    Story("push, env -i", "scrubbed", (_push("scrubbed"),)),
    Story("push, check fails", "idle", (_push(release="r2-bad", check=True),)),
    Story("push, exits", "working", (_push("exits"),)),
    Story("push, never ready", "idle", (_push("never-ready"),)),
    Story("push, never ready and deaf", "wrapper", (_push("never-ready-deaf"),)),
    Story("push, no program", "idle", (_push("no-exec"),)),
    Story("first push", None, (_push(),)),
    Story("first push, exits", None, (_push("exits"),)),
    Story("restart", "working", (Command("restart"),)),
    Story("restart, daemon", "daemon", (Command("restart"),)),
    Story("stop", "working", (Command("stop"),)),
    Story("stop, deaf", "wrapper-deaf", (Command("stop"),)),
    Story("stop and start", "idle", (Command("stop"), Command("start"))),
    Story("rollback", "idle", (Command("rollback"),)),
    Story("push twice", "idle", (_push("working"), _push("idle", "r3"))),
    Story("push, fails, push", "idle", (_push("exits"), _push("idle", "r3"))),
    Story("push, roll back", "working", (_push("uvicorn"), Command("rollback"))),
)


def _over(program: str = "idle", release: str = "r2", check: bool = False, most: int = 3) -> Command:
    return Command("push", program, release, check=check, strategy="overlap", max_draining=most)


def _beside(name: str, serves: str | None, *commands: Command) -> Story:
    return Story(f"overlap, {name}", serves, commands, "overlap")


OVERLAPS = (
    _beside("idle", "idle", _over(check=True)),
    _beside("uvicorn", "uvicorn", _over("uvicorn")),
    _beside("working", "working", _over()),
    _beside("working for minutes", "long", _over()),
    _beside("deaf", "deaf", _over()),
    _beside("wrapper", "wrapper", _over("wrapper")),
    _beside("daemon", "daemon", _over("daemon")),
    _beside("ungraceful", "ungraceful", _over()),
    _beside("env -i", "scrubbed", _over("scrubbed")),
    _beside("check fails", "idle", _over(release="r2-bad", check=True)),
    _beside("exits", "working", _over("exits")),
    _beside("never ready", "idle", _over("never-ready")),
    _beside("never ready and deaf", "wrapper", _over("never-ready-deaf")),
    _beside("no program", "idle", _over("no-exec")),
    _beside("crashes once it is proven", "long", _over("crashes")),
    _beside("first push", None, _over()),
    _beside("first push, exits", None, _over("exits")),
    _beside("restart", "working", Command("restart", strategy="overlap")),
    _beside("rollback", "long", Command("rollback", strategy="overlap")),
    _beside("push twice", "long", _over("working"), _over("idle", "r3")),
    _beside("push, fails, push", "working", _over("exits"), _over("idle", "r3")),
    _beside("push, roll back", "long", _over("working"), Command("rollback", strategy="overlap")),
    _beside("four generations", "long", _over("deaf"), _over("long", "r3"), _over("working", "r4", most=2)),
    _beside("push, stop", "long", _over("working"), Command("stop", strategy="overlap")),
    _beside("push, restart", "deaf", _over("long"), Command("restart", strategy="overlap")),
    Story("overlap after restart, and back", "working", (_over("long"), _push("working", "r3"))),
)


def begin(world: World, story: Story) -> Host:
    """The host before the story: a service that has run for an hour, its keeper, two strangers."""
    world.kernel.stranger()
    if story.serves is not None:
        _serve(world, story.serves, story.strategy)
    world.time += 3600.0
    world.kernel.happen()
    world.lines.clear()
    return Host(world)


def tell(host: Host, story: Story) -> None:
    """Everything that the story's person asks for, then what it takes until nothing is under way."""
    for command in story.commands:
        host.command(command.kind, command.settings, command.release)
        if host.world.dice.random() < 0.5:
            host.settle()
        else:
            host.pause()
    host.settle()


def _serve(world: World, program: str, strategy: str) -> None:
    theirs = settings(program, strategy=strategy)
    keeper = SimKeeper(world)
    state = SimState(world.disk, lambda what, values: None, lambda: None, lambda what, values: None)
    for at, release in ((100.0, OLDER), (200.0, OLD)):
        state.insert("releases", id=release, hash=release, state="good", created_at=at, settings=theirs)
        world.disk.releases.add(release)
    state.insert(
        "deploys", id="d0", kind="push", started_at=200.0, ended_at=201.0, status="done", release=OLD, previous=OLDER
    )
    spec = spec_of(PATHS, OLD, theirs, "i0")
    process = world.kernel.spawn(f"{OLD}/i0", keeper.life.process)
    process.main, process.instance, process.environ = True, "i0", b"DEPLOYER_INSTANCE=i0"
    if PROGRAMS[program].scrubbed:
        process.environ = b"HOME=/"
    run(world.kernel, process, PROGRAMS[program])
    state.insert(
        "instances", id="i0", release=OLD, spec=json.dumps(spec.to_json()), pid=process.pid, start=process.start,
        boot=f"boot-{world.kernel.boot}", state="running", created_at=world.clock.wall(), started_at=world.clock.wall(),
        log_offset=0, confirmed=1, deploy="d0",
    )  # fmt: skip
    for key, value in (("app", "app"), ("desired", "i0"), ("last_good", OLD)):
        state.set_meta(key, value)
    world.disk.current = OLD
    world.keeper = keeper
    interleave, world.interleave = world.interleave, False
    effects = partial(setattr, world, "effects")
    keeper.come_up()
    world.pass_time(world.time + 30.0)
    world.interleave = interleave
    effects(0)
