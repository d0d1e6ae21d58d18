"""
The commands of a person on the simulated host: commit a deploy, run it, resume one that was interrupted.

The runner, its steps from the switch on, the planner and the record are the real code; what the gates do to files is one
simulated effect each.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from sim_disk import PATHS, SimReleases, SimState
from sim_processes import SimProcesses
from sim_settings import TARGET
from sim_supervisor import SimSupervisor, connect
from sim_world import Died, Life, World

from deployer.errors import DeployerError, GateError
from deployer.host import deploy as deploys
from deployer.host.claim import RESUMED_AT_MOST
from deployer.host.control import Control
from deployer.host.deploy import Deploy, Request
from deployer.host.heed import Attentive
from deployer.host.journal import Journal
from deployer.host.planner import Planner
from deployer.host.runner import STEPS, Runner, StepFunction, take_up

LOOKS_AGAIN = (0.4, 4.0, 70.0, 3600.0)
"""Seconds until somebody calls the next command."""
COMMANDS_AT_MOST = 12


class Host:
    """The machine as its users see it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.deploys = 0
        world.resumes = self._resume_drains
        # Asks the record for no effect of its own.
        self._record = SimState(world.disk, lambda what, values: None, lambda: None, lambda what, values: None)

    # Commands --------------------------------------------------------------------------------------------------------

    def command(self, kind: str, settings: dict[str, Any], release: str | None) -> None:
        """`deployer push` and the like: up to the end of the deploy, or of whatever was in its way."""
        world = self.world
        if not self._finish_interrupted():
            return
        life = world.born("agent")
        world.engine = life
        self._as(life, partial(self._commit, life, kind, settings, release), settings["strategy"] == "overlap")

    def _as(self, life: Life, act: Callable[[], None], apart: bool) -> None:
        """Let *life* do *act*; *apart* where it may go on beside others."""
        if apart:
            self.world.apart(life, partial(self._to_its_end, life, act))
        else:
            self._to_its_end(life, act)

    def _to_its_end(self, life: Life, act: Callable[[], None]) -> None:
        world = self.world
        try:
            act()
        except Died:
            world.note(life.name, "died")
        except DeployerError as error:
            world.note(life.name, f"gives up: {error}")
        finally:
            if life.alive:
                world.end(life)

    def _finish_interrupted(self) -> bool:
        """As the agent does it, which cannot be run here: it starts processes. Whether nothing is under way any more."""
        world = self.world
        for _ in range(RESUMED_AT_MOST):
            unfinished = self._unfinished()
            if unfinished is None:
                return True
            world.disk.refuses = 0
            self.resume(unfinished)
        return self._unfinished() is None

    def _unfinished(self) -> str | None:
        row = deploys.unfinished(self._record)
        return str(row["id"]) if row else None

    def _in_drain(self) -> list[str]:
        return [str(row["id"]) for row in deploys.in_drain(self._record)]

    def _resume_drains(self) -> bool:
        """Start the runners that the keeper wants and that need no deploy lock; whether there was one."""
        keeper = self.world.keeper
        draining = self._in_drain() if keeper is not None and keeper.life.alive and keeper.wants_runner else []
        wanted = next((name for name in keeper.wants_runner if name in draining), None) if keeper else None
        if wanted is None or keeper is None:
            return False
        keeper.wants_runner.remove(wanted)
        self.resume(wanted)
        return True

    def look(self) -> None:
        """`deployer status`, as Agent._wake: whoever comes next brings the service back, and has what was interrupted finished."""
        world = self.world
        world.disk.refuses = 0
        unfinished, draining = self._unfinished(), self._in_drain()
        life = world.born("agent")
        try:
            if unfinished or world.disk.rows("SELECT 1 FROM meta WHERE key='desired'"):
                connect(world, life)
                world.pass_time(world.time + 3.0, lambda: not life.alive)
        except (Died, DeployerError) as error:
            world.note(life.name, f"status: {error}")
        finally:
            if life.alive:
                world.end(life)
        if unfinished is not None and world.engine is None:
            self.resume(unfinished)
        for name in draining:
            if not world.is_waited_for(name):
                self.resume(name)

    def resume(self, deploy: str) -> None:
        """`resume PATH DEPLOY`: what runner_process.main does once it has the lock that the deploy's step needs."""
        world, alone = self.world, deploy in self._in_drain()
        if alone and world.is_waited_for(deploy):
            return
        life = world.born("runner")
        if alone:
            world.drain_locks[deploy] = life
        else:
            world.engine = life
        row = self._record.row(
            "SELECT settings FROM releases WHERE id=(SELECT release FROM deploys WHERE id=?)", deploy
        )
        overlaps = alone or row is None or '"strategy": "overlap"' in str(row["settings"])
        self._as(life, partial(self._take_up, life, deploy, alone), overlaps)

    def _take_up(self, life: Life, deploy: str, alone: bool) -> None:
        row = self._state(life).row("SELECT * FROM deploys WHERE id=? AND ended_at IS NULL", deploy)
        if row is None:
            return
        made = self._build(life, Request.from_json(json.loads(row["request"])))
        made.alone = alone
        if take_up(made):
            Runner(made, True, HOW).run()
            made.supervisor.close()

    def pause(self) -> None:
        """Until the next command of an impatient person."""
        self._keeper_goes_on(self.world.dice.choice((0.1, 1.5, 20.0)))

    def settle(self) -> None:
        """Let a keeper resume what it can; then somebody looks, now and then, until nothing is under way."""
        world = self.world
        for _ in range(COMMANDS_AT_MOST):
            self._keeper_goes_on(world.dice.choice(LOOKS_AGAIN))
            self.look()
            self._keeper_goes_on(700.0)
            if self._settled():
                return

    def _keeper_goes_on(self, seconds: float) -> None:
        world, until = self.world, self.world.time + seconds
        while world.time < until:
            world.pass_time(until, lambda: bool(self._wanted()))
            wanted = self._wanted()
            if wanted:
                self.resume(wanted.pop(0))

    def _wanted(self) -> list[str]:
        keeper = self.world.keeper
        return keeper.wants_runner if keeper is not None and keeper.life.alive else []

    def _settled(self) -> bool:
        rows = self.world.disk.rows
        under_way = (
            "SELECT 1 FROM deploys WHERE ended_at IS NULL",
            "SELECT 1 FROM drains WHERE verdict IS NULL",
            "SELECT 1 FROM instances WHERE state='promised' AND id=(SELECT value FROM meta WHERE key='desired')",
        )
        keeper = self.world.keeper
        kept = (keeper is not None and keeper.life.alive) or not rows("SELECT 1 FROM meta WHERE key='desired'")
        return kept and not self.world.disk.refuses and not any(rows(sql) for sql in under_way)

    # One deploy ------------------------------------------------------------------------------------------------------

    def _commit(self, life: Life, kind: str, settings: dict[str, Any], release: str | None) -> None:
        world, state = self.world, self._state(life)
        self.deploys += 1
        name = f"d{self.deploys}"
        who = {"kind": kind, "deploy": name, "who": "me", "target": TARGET, "settings": settings, "release": release}
        request = Planner(PATHS, who, self._facts(), None, state, 0).request()
        world.effect(life, f"commit {kind}", (name,))
        deploys.record(state, request, world.clock.wall())
        world.effect(life, "fork the runner")
        life.role, life.name = "runner", life.name.replace("agent", "runner")
        made = self._build(life, request)
        Runner(made, False, HOW).run()
        made.supervisor.close()

    def _state(self, life: Life) -> SimState:
        world = self.world
        return SimState(
            world.disk, partial(world.effect, life), partial(world.must_live, life), partial(world.detail, life)
        )

    def _build(self, life: Life, request: Request) -> Deploy:
        world, state = self.world, self._state(life)
        journal = Journal(state, request.deploy, request.host, lambda data: data, world.clock)
        if request.release and (request.kind != "push" or journal.has("stage", "done")):
            journal.common["release"] = request.release
        releases = SimReleases(world.disk, partial(world.effect, life))
        if any(name == request.deploy for name, _ in world.controls.values()):
            world.crowded.append(f"{life.name} begins {request.deploy}, which has a runner")
        control = Control()
        world.controls[life] = (request.deploy, control)
        supervisor = SimSupervisor(world, life, control, request.deploy)
        made = Deploy(
            request, PATHS, state, journal, supervisor, world.clock, SimProcesses(world, life), releases, control
        )
        made.let_go = partial(world.lets_go, life)
        return made

    def _facts(self) -> dict[str, Any]:
        """What observe.Observer would see."""
        world, rows = self.world, self.world.disk.rows
        living = world.living()
        running = [
            row
            for row in rows("SELECT * FROM instances WHERE state='running' ORDER BY created_at")
            if living.get(row["id"])
        ]
        meta = {row["key"]: row["value"] for row in rows("SELECT * FROM meta")}
        serving = next((row for row in running if row["id"] == meta.get("desired")), running[-1] if running else None)
        draining = rows("SELECT i.id, i.pid FROM instances i JOIN drains d ON d.instance=i.id WHERE d.verdict IS NULL")
        releases = rows("SELECT id, hash, state, created_at FROM releases ORDER BY created_at DESC, id DESC")
        instance = serving and {"id": serving["id"], "release": serving["release"], "pid": serving["pid"]}
        if instance and serving:
            instance.update(confirmed=bool(serving["confirmed"]), adopted=False)
        return {
            "instance": instance, "adopt": None, "draining": draining, "current": world.disk.current,
            "last_good": meta.get("last_good"), "desired": meta.get("desired"), "health": {"tasks": []},
            "releases": releases,
        }  # fmt: skip


def _stage(deploy: Deploy) -> None:
    request, releases = deploy.request, deploy.releases
    assert isinstance(releases, SimReleases) and request.release is not None
    releases.lay_out(request.release)
    deploy.state.replace(
        "releases", id=request.release, hash=request.release, state="staged", created_at=deploy.clock.wall(),
        files=1, bytes=1, settings=request.settings,
    )  # fmt: skip
    deploy.journal.event("stage.finished")


def _check(deploy: Deploy) -> None:
    Attentive(deploy, deploy.supervisor).wait(deploy.clock.now() + 0.5)
    if "bad" in str(deploy.request.release):
        raise GateError("check failed")
    deploy.journal.event("check.finished")


def _prune(deploy: Deploy) -> None:
    deploy.journal.event("prune.finished", removed=[])


HOW: dict[str, StepFunction] = {**STEPS, "stage": _stage, "check": _check, "prune": _prune}
