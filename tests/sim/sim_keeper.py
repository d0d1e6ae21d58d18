"""
The simulated keeper: the real `Core` with the turns of keeper.Keeper around it (reap, advance, tell, resume a runner), and
none of its sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim_disk import PATHS, SimState
from sim_processes import SimProcesses
from sim_world import Died, Endless, World

from deployer.errors import DeployerError, PreflightError
from deployer.host.deploy import DRAIN
from deployer.host.keeper import ROTATE_EVERY, TRY_AGAIN
from deployer.host.notify import NotifySocket
from deployer.host.resuming import RESUME_AFTER, RESUMES
from deployer.host.supervise import Core

if TYPE_CHECKING:
    from sim_supervisor import SimSupervisor


class SimKeeper:
    """One incarnation. `come_up` first; then `turn` whenever `runnable`, and requests in between."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.life = life = world.born("keeper")
        self._state = SimState(
            world.disk, partial(world.effect, life), partial(world.must_live, life), partial(world.detail, life)
        )
        say = partial(world.note, life.name)
        self.core = Core(PATHS, self._state, SimProcesses(world, life), world.clock, {}, say, _no_socket)
        self.woken = True
        self.busy = False
        self.clients: list[SimSupervisor] = []
        self.born_at = world.time
        self.wants_runner: list[str] = []
        """The deploys for which it has just started a runner."""
        self._resume_at = world.time + RESUME_AFTER
        self._retry_at: float | None = None
        self._resumed: dict[str, int] = {}
        self._told: Any = None

    def come_up(self) -> None:
        """Raises PreflightError when it does not get to serving: it died, or the disk refused it."""
        self.busy = True
        try:
            self.core.recover()
        except Died as error:
            raise PreflightError("the keeper, which looks after the app, did not start", cause="killed") from error
        except (DeployerError, OSError) as error:
            self._world.note(self.life.name, f"did not come up: {error}")
            self._world.end(self.life)
            raise PreflightError("the keeper, which looks after the app, did not start", cause=str(error)) from error
        finally:
            self.busy = False

    # Its loop --------------------------------------------------------------------------------------------------------

    def runnable(self) -> bool:
        now = self._world.time
        if self.woken or (self._retry_at is not None and now >= self._retry_at):
            return True
        if self._retry_at is not None:
            return False
        return now >= self.next_due() or any(self._exited(number) for number in self.core.watched())

    def next_due(self) -> float:
        """When it takes a turn even if nothing happens (world seconds). No look every 15 s: none must be needed."""
        if self._retry_at is not None:
            return self._retry_at
        core = self.core.next_deadline()
        due = float("inf") if core is None else self._world.at(core)
        return min(due, self._resume_at)

    def turn(self) -> None:
        """As Keeper.run: whatever goes wrong is tried again a little later."""
        self.busy, self.woken = True, False
        try:
            self.core.reap()
            self.core.advance()
            self._tell_watchers()
            self._on_time()
            self._retry_at = None
        except Died:
            pass
        except (DeployerError, OSError) as error:
            self._world.note(self.life.name, f"{error!r}; trying again")
            self._retry_at = self._world.time + TRY_AGAIN
        finally:
            self.busy = False

    def _exited(self, number: int) -> bool:
        return not self._world.kernel.everyone[number].alive

    def _tell_watchers(self) -> None:
        desired = self.core.desired()
        now = (set(self.core.instances), set(self.core.drains), (desired["id"], desired["state"]) if desired else None)
        if now != self._told:
            self._told = now
            for client in self.clients:
                client.changed = True

    def somebody_left(self) -> None:
        """A connection was closed without a goodbye, perhaps."""
        left = [client for client in self.clients if not client.life.alive]
        if left:
            self.clients = [client for client in self.clients if client.life.alive]
            self._resume_at = self._world.time + RESUME_AFTER

    def _on_time(self) -> None:
        """As Keeper._resume_runner."""
        if self._world.time < self._resume_at:
            return
        self._resume_at = float("inf")  # until somebody leaves: no look every 15 s must be needed
        rows = self._state.rows(
            "SELECT id, step FROM deploys WHERE ended_at IS NULL AND step IS NOT NULL ORDER BY started_at"
        )
        needing_the_lock = [row for row in rows if row["step"] != DRAIN][-1:]
        for row in [*(row for row in rows if row["step"] == DRAIN), *needing_the_lock]:
            self._resume(row["id"], row["step"] == DRAIN)

    def _resume(self, deploy: str, drains: bool) -> None:
        if any(client.life.alive and client.deploy == deploy for client in self.clients):
            return
        taken = self._world.is_waited_for(deploy) if drains else self._world.engine is not None
        tries = self._resumed.get(deploy, 0)
        if taken or tries >= RESUMES:
            self._resume_at = min(self._resume_at, self._world.time + ROTATE_EVERY) if taken else self._resume_at
            return
        self._resumed[deploy] = tries + 1
        self._resume_at = min(self._resume_at, self._world.time + RESUME_AFTER * 2 ** (tries + 1))
        self.wants_runner.append(deploy)

    # Requests --------------------------------------------------------------------------------------------------------

    def answer(self, act: Callable[[Core], Any], looks: bool) -> Any:
        """
        What its clients get for a request. Raises Died when it dies of it, DeployerError as over the wire.

        A request that only *looks* is followed by no turn, but where it saw somebody gone: a real keeper takes one, and it must
        not be needed.
        """
        self._world.must_live(self.life)
        self.busy, seen = True, len(self.core.watched())
        try:
            found = act(self.core)
        except DeployerError as error:
            raise DeployerError.from_json(error.to_json()) from error
        except (AssertionError, Endless):
            raise
        except Exception as error:
            raise DeployerError("the keeper could not do it", cause=repr(error)) from error
        finally:
            self.busy = False
            self.woken = self.woken or not looks or len(self.core.watched()) < seen  # it saw somebody gone
        self._world.must_live(self.life)
        return found


def _no_socket(path: Path) -> NotifySocket:
    raise OSError(95, "no sockets in here")
