"""What the keeper asks of whoever else owns an instance's process: systemd, launchd, a user's commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Mapping, Optional, Protocol, Sequence

from deployer.model import DrainOrder, Identity, Spec

RUNNING, STARTING, STOPPING, ENDED = "running", "starting", "stopping", "ended"


@dataclass(frozen=True)
class Seen:
    """
    One instance as its owner sees it now.

    `run` names this very run of it: another start, another name. `pid` is that of the main process, also of one that has ended.
    `code` is its exit code where the owner knows it (negative for a death by signal); `forced` says that the owner has killed it.
    `waits`: somebody has asked for a start that has not been carried out; `begun` False: nobody's request for one has arrived.
    """

    state: str
    run: str = ""
    pid: Optional[int] = None
    code: Optional[int] = None
    forced: bool = False
    waits: bool = False
    text: Optional[str] = None
    begun: bool = True

    @property
    def ended(self) -> bool:
        return self.state == ENDED


class Owner(Protocol):
    """
    Owns the process tree of instances, each with a `Spec.owner` of its kind. Raises DeployerError where it refuses.

    Everything may be asked twice: who asks may have died between asking and writing down that it was asked.

    `whole`: it stops, waits for and forces the whole tree by itself. Where it is False it only asks the main process, and the
    keeper counts the tree, signals what outlives the main process, and kills at the ceiling (`Asker`).
    """

    @property
    def whole(self) -> bool: ...

    @property
    def stops(self) -> bool:
        """Whether it asks its processes to stop, and forces them; else, after `order`, the keeper does, and `stop` clears up."""

    def placed(self, spec: Spec, others: Sequence[Spec]) -> Spec:
        """*spec* with the name that it has here, which no one of *others* that it runs beside has."""

    def check(self, new: Spec, env: Mapping[str, str]) -> None:
        """Raises GateError when *new* could not be started with its settings. Changes nothing."""

    def prepare(self, new: Spec, env: Mapping[str, str], olds: Sequence[Spec], how: DrainOrder, proven: bool) -> None:
        """
        Write down how *new* is started, with *env*, in the place of *olds* and how those are stopped. Nothing that runs notices.

        Until it is `proven` it is not started again after a crash.
        """

    def swap(self, new: Spec, olds: Sequence[Spec]) -> bool:
        """Let *olds* stop and *new* start, such that it completes whoever dies from now on; False where that cannot be had."""

    def start(self, new: Spec) -> None:
        """Start *new*; returns once that was asked for."""

    def order(self, spec: Spec, how: DrainOrder) -> None:
        """Write down how *spec* is to be stopped, for whoever stops it from now on."""

    def stop(self, spec: Spec) -> None:
        """Ask *spec* to stop as was ordered, once; returns once that was asked for."""

    def kill(self, spec: Spec) -> None:
        """End all processes of *spec* by force, now."""

    def extend(self, spec: Spec, how: DrainOrder, ceiling: float) -> None:
        """Let the stop that is under way take *ceiling* seconds in all."""

    def seen(self, spec: Spec, run: Optional[str] = None) -> Seen:
        """*spec* now; or, where that is another one than *run*, how *run* ended."""

    def confirm(self, spec: Optional[Spec], others: Sequence[Spec]) -> None:
        """*spec* has proven itself: it, and none of *others*, is started again after a crash and at boot. None: nothing is."""

    def preview(self, new: Spec, env: Mapping[str, str], now: Optional[Spec]) -> List[str]:
        """What `prepare` would change on the host in the place of *now*, line by line."""

    def require(self, app: str) -> None:
        """Raises PreflightError when *app* cannot be owned here."""

    def forget(self, app: str, releases: Sequence[str]) -> None:
        """Releases of *app* other than *releases* are gone from this host."""


class Asker(Owner, Protocol):
    """An owner that is not `whole`: it has its own way to ask, and no more."""

    def ask(self, spec: Spec, main: Optional[Identity], how: DrainOrder) -> None:
        """Begin to ask *spec*, with *main* as its main process, to stop. Once, however often this is called."""

    def asking(self, spec: Spec) -> bool:
        """Whether what was begun is still at it."""

    def refused(self, spec: Spec) -> Optional[str]:
        """What went wrong with it, for a person; None where nothing did."""

    def asks(self, spec: Spec) -> bool:
        """Whether it has asked what became of *spec*, and waits for the first answer."""
