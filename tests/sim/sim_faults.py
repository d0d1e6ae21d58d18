"""What may go wrong between two effects, and how each of it strikes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sim_kernel import Process
from sim_world import Life, World

from deployer.host.control import ABORT, EXTEND, NOW, Asked


@dataclass(frozen=True)
class Fault:
    """
    *kind* strikes before effect number *at*, or *delay* seconds after it; *arg* says how hard.

    With *text*, before the first effect that contains it, as the trace shows it: `role: what | values`.
    """

    kind: str
    at: int = 0
    delay: float = 0.0
    arg: float = 0.0
    text: str | None = None

    def strike(self, world: World, life: Life | None) -> None:
        KINDS[self.kind](world, life, self.arg)


def _engine_dies(world: World, life: Life | None, arg: float) -> None:
    """Whoever holds the deploy lock; where nobody does, one of those who wait for their drains."""
    waiting = [one for one in world.routines if one.alive]
    world.kill(world.engine or (world.dice.choice(waiting) if waiting else None))


def _keeper_dies(world: World, life: Life | None, arg: float) -> None:
    world.kill(world.keeper.life if world.keeper else None)


def _all_die(world: World, life: Life | None, arg: float) -> None:
    world.kill(world.engine)
    for waiting in list(world.routines):
        world.kill(waiting)
    _keeper_dies(world, life, arg)
    if life is not None:  # a command that was bringing up a keeper, too
        world.kill(life)


def _reboot(world: World, life: Life | None, arg: float) -> None:
    _all_die(world, life, arg)
    world.kernel.reboot()
    world.reboots += 1
    for _ in range(
        world.dice.choice((0, 3))
    ):  # with the numbers and ticks of those before: only the boot tells them apart
        world.kernel.stranger()


def _disk_full(world: World, life: Life | None, arg: float) -> None:
    world.disk.refuses = int(arg)


def _exit(world: World, life: Life | None, arg: float) -> None:
    """One process of the app exits: 0.5 and above, a main one; well, with a code, or killed by the kernel for its memory."""
    main = arg >= 0.5
    chosen = [process for process in _living(world) if process.main == main] or _living(world)
    if chosen:
        victim = world.dice.choice(chosen)
        world.mishaps.add(str(victim.instance))
        world.kernel.exit(victim, world.dice.choice((0, 1, -9)))


def _replaced(world: World, life: Life | None, arg: float) -> None:
    """As `exit`, and its number goes to a stranger as soon as it is free."""
    for process in _living(world):
        world.kernel.covet(process)
    _exit(world, life, arg)


def _wanted(world: World, life: Life | None, arg: float) -> None:
    """Nobody exits now; the numbers of those who will go to strangers."""
    for process in _living(world):
        world.kernel.covet(process)


def _stall(world: World, life: Life | None, arg: float) -> None:
    """Who is at it gets no processor for *arg* seconds; everybody else goes on."""
    if life is None or world.disk.db.in_transaction:
        return
    if life.role == "keeper":
        world.skip(arg)
    else:
        world.pass_time(world.time + arg, lambda: not life.alive)


def _deaf(world: World, life: Life | None, arg: float) -> None:
    """The main process hangs: it hears no signal any more but the one that nobody can ignore."""
    for process in _living(world):
        if process.main:
            process.on_signal = lambda signum: None


def _asks(what: str, world: World, life: Life | None, arg: float) -> None:
    """A person asks the deploy under way for something, as through asking.py; *arg*: the seconds of an extension."""
    # As asking.control: the one with the lock is under way, else the newest of those who wait for their drains.
    asked = world.engine or next((one for one in reversed(world.routines) if one.alive), None)
    if asked is not None and asked in world.controls:
        deploy, control = world.controls[asked]
        world.asked_for.append((deploy, control.ask(Asked(what, "ada", arg))))


def _living(world: World) -> list[Process]:
    return [process for members in world.living().values() for process in members]


KINDS: dict[str, Callable[[World, Life | None, float], None]] = {
    "engine dies": _engine_dies,
    "keeper dies": _keeper_dies,
    "all die": _all_die,
    "reboot": _reboot,
    "disk full": _disk_full,
    "exit": _exit,
    "replaced": _replaced,
    "wanted": _wanted,
    "stall": _stall,
    "deaf": _deaf,
    "abort": partial(_asks, ABORT),
    "extend": partial(_asks, EXTEND),
    "now": partial(_asks, NOW),
}
ARGUMENTS: dict[str, tuple[float, ...]] = {
    "disk full": (1, 2, 3, 5, 9, 1000),
    "exit": (0.0, 1.0),
    "replaced": (0.0, 1.0),
    "stall": (0.05, 1.2, 30.0),
    "extend": (5.0, 1000.0),
}
DELAYS = (0.0, 0.0, 0.0, 0.3, 2.5, 8.0, 100.0, 500.0)
