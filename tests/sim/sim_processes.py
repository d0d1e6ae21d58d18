"""The process table as a part of the engine sees it, and its handles: they refer to a process, never to a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from sim_kernel import Process
from sim_programs import PROGRAMS, run
from sim_world import Died, Life, World

from deployer.host.process import Handle, Processes, Stat
from deployer.host.restarting import BACKOFF_LONGEST
from deployer.host.spawn import StartError
from deployer.model import Identity, Spec

STALLED = 130.0
"""Seconds that its keeper may have had no processor for, all faults of a schedule together."""


class SimHandle(Handle):
    """A pidfd of the simulated kernel. `fileno` is the process' place in the kernel's book."""

    def __init__(self, world: World, life: Life, identity: Identity, process: Process) -> None:
        super().__init__(identity, -1)
        self._world = world
        self._life = life
        self.process = process

    def fileno(self) -> int:
        return self._world.kernel.everyone.index(self.process)

    def send(self, signum: int) -> bool:
        self._world.effect(self._life, f"signal {signum}", (self.process.pid, self.process.start))
        return self._world.kernel.deliver(self.process, signum)

    def exited(self, within: float = 0.0) -> bool:
        return not self.process.alive

    def close(self) -> None:
        pass


class SimProcesses(Processes):
    """What `/proc`, `waitid` and `fork` are to *life*. Identities and their comparison are the real code."""

    def __init__(self, world: World, life: Life) -> None:
        self._world = world
        self._life = life
        self._kernel = world.kernel
        self.boot = f"boot-{world.kernel.boot}"

    def stat(self, pid: int) -> Stat | None:
        found = self._kernel.table.get(pid)
        return None if found is None else found.stat

    def table(self, skip: AbstractSet[int] = frozenset()) -> dict[int, Stat]:
        return {pid: process.stat for pid, process in self._kernel.table.items() if pid not in skip}

    def open(self, identity: Identity) -> Handle | None:
        process = self._kernel.table.get(identity.pid)
        if process is None or not self.alive(identity):
            return None
        return SimHandle(self._world, self._life, identity, process)

    def environ(self, pid: int) -> bytes:
        found = self._kernel.table.get(pid)
        return b"" if found is None else found.environ

    def argv(self, pid: int) -> list[str]:
        found = self._kernel.table.get(pid)
        return [] if found is None else [found.name]

    def catches(self, pid: int, signum: int) -> bool | None:
        return True

    def last_pid(self) -> int | None:
        return self._kernel.last_pid

    def own_pid(self) -> int:
        return self._life.process.pid

    def exited_child(self) -> int | None:
        self._world.must_live(self._life)
        own = self._life.process.pid
        return next((p.pid for p in self._kernel.table.values() if p.ppid == own and not p.alive), None)

    def bury(self, pid: int) -> int | None:
        self._world.must_live(self._life)
        process = self._kernel.table.get(pid)
        if process is None or process.ppid != self._life.process.pid:
            raise ChildProcessError(10, "No child processes")
        if process.alive:
            return None
        self._kernel.bury(process)
        return process.code

    def start(
        self,
        spec: Spec,
        env: Mapping[str, str],
        log: Path,
        sockets: Sequence[tuple[str, int]],
        announce: Callable[[int, int], None],
    ) -> None:
        self._world.effect(self._life, "fork", (spec.id, spec.release))
        child = self._kernel.spawn(f"{spec.release}/{spec.id}", self._life.process)
        # It is nobody's instance yet: until it is let go, it ends when its parent does or says no.
        child.environ, child.main = self._life.process.environ, True
        self._announce(child, announce)
        self._let_go(child, spec)

    def _announce(self, child: Process, announce: Callable[[int, int], None]) -> None:
        try:
            announce(child.pid, 0)
            self._world.effect(self._life, "let go", (child.pid,))
        except Died:
            self._kernel.after(
                0.004, lambda: self._kernel.exit(child, 127)
            )  # it reads the end of its pipe, a moment later
            raise
        except Exception:
            self._kernel.exit(child, 127)
            self._kernel.bury(child)
            raise

    def _let_go(self, child: Process, spec: Spec) -> None:
        try:
            self._world.effect(self._life, "exec", (child.pid,))
        except Died:
            self._kernel.after(0.2, lambda: self._slowly(child, spec))  # whoever comes next finds it in between
            raise
        if not self._exec(child, spec):
            self._kernel.bury(child)
            raise StartError("run '/bin/sh': No such file or directory")

    def _slowly(self, child: Process, spec: Spec) -> None:
        if child.alive:  # no reboot came between
            self._exec(child, spec)

    def _exec(self, child: Process, spec: Spec) -> bool:
        program = PROGRAMS[spec.argv[2]]
        if not program.starts:
            self._kernel.exit(child, 127)
            return False
        others = [instance for instance in self._world.living() if instance != spec.id]
        unasked = [instance for instance in others if instance not in self._world.asked]
        if (others and not spec.beside) or len(unasked) > 1:
            self._world.born_broken.append(f"{spec.id} was started beside {others}")
        self._prompt(spec)
        if self._world.living().get(spec.id):
            self._world.born_broken.append(f"{spec.id} was started twice")
        child.environ = b"HOME=/" if program.scrubbed else f"DEPLOYER_INSTANCE={spec.id}".encode()
        child.instance = spec.id
        run(self._kernel, child, program)
        return True

    def _prompt(self, spec: Spec) -> None:
        """A service that overlaps and crashed is started again, whoever else still drains."""
        row = self._world.disk.rows("SELECT created_at, confirmed, crashes FROM instances WHERE id=?", spec.id)[0]
        waited = self._world.clock.wall() - row["created_at"]
        keeper = self._world.keeper
        held_up = self._world.disk.refused or keeper is None or self._world.time - keeper.born_at < waited
        if spec.overlap and row["confirmed"] and row["crashes"] and not held_up and waited > BACKOFF_LONGEST + STALLED:
            self._world.born_broken.append(f"{spec.id} was started again only after {waited:.0f} s")
