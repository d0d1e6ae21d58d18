"""The stories that are told again and again with other faults: what serves at first, and what a person then asks for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial

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


@dataclass(frozen=True)
class Story:
    """*serves* is the program of the release that serves at first, None where nothing does."""

    name: str
    serves: str | None
    commands: tuple[Command, ...]


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


def begin(world: World, story: Story) -> Host:
    """The host before the story: a service that has run for an hour, its keeper, two strangers."""
    world.kernel.stranger()
    if story.serves is not None:
        _serve(world, story.serves)
    world.time += 3600.0
    world.kernel.happen()
    world.lines.clear()
    return Host(world)


def tell(host: Host, story: Story) -> None:
    """Everything that the story's person asks for, then what it takes until nothing is under way."""
    for command in story.commands:
        host.command(
            command.kind,
            settings(command.program, "SIGUSR1" if command.quiet else None, command.check),
            command.release,
        )
        if host.world.dice.random() < 0.5:
            host.settle()
        else:
            host.pause()
    host.settle()


def _serve(world: World, program: str) -> None:
    keeper = SimKeeper(world)
    state = SimState(world.disk, lambda what, values: None, lambda: None, lambda what, values: None)
    for at, release in ((100.0, OLDER), (200.0, OLD)):
        state.insert("releases", id=release, hash=release, state="good", created_at=at, settings=settings(program))
        world.disk.releases.add(release)
    state.insert(
        "deploys", id="d0", kind="push", started_at=200.0, ended_at=201.0, status="done", release=OLD, previous=OLDER
    )
    spec = spec_of(PATHS, OLD, settings(program), "i0")
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
