"""What the simulated apps do when they are started and when they are asked to stop."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from sim_kernel import Kernel, Process


@dataclass(frozen=True)
class Program:
    """
    `work` is how long (seconds) it goes on after its signal, None for ever; `code` how it then exits.

    `wrapper`: a shell that dies of the signal at once while its child does the work. `daemon`: the child is the service, the
    main process exits well. `helper`: a child that lives and dies with the main process. `exits_after`: the release is broken.
    `once`: only the first one ever exits.
    `scrubbed`: started through `env -i`, so that its environment tells nothing.
    """

    work: float | None = 0.02
    code: int = 0
    wrapper: bool = False
    daemon: bool = False
    helper: bool = False
    exits_after: float | None = None
    starts: bool = True
    scrubbed: bool = False
    once: bool = False


PROGRAMS = {
    "idle": Program(),
    "uvicorn": Program(code=-15, helper=True),
    "working": Program(work=5.0),
    "long": Program(work=480.0),
    "deaf": Program(work=None),
    "wrapper": Program(work=5.0, wrapper=True),
    "wrapper-deaf": Program(work=None, wrapper=True),
    "daemon": Program(work=5.0, daemon=True),
    "ungraceful": Program(work=5.0, code=1, helper=True),
    "scrubbed": Program(scrubbed=True),
    "exits": Program(exits_after=0.3, code=3),
    "crashes": Program(exits_after=2.6, code=3, once=True),
    "never-ready": Program(),
    "never-ready-deaf": Program(work=None, helper=True),
    "no-exec": Program(starts=False),
}


def run(kernel: Kernel, process: Process, program: Program) -> None:
    """*process* has just become *program*."""
    process.on_signal = lambda signum: _main_hears(kernel, process, program, signum)
    release = process.name.partition("/")[0]
    if program.exits_after is not None and not (program.once and release in kernel.tired):
        kernel.tired.add(release)
        kernel.after(program.exits_after, lambda: kernel.exit(process, program.code))
    if program.wrapper or program.daemon or program.helper:
        kernel.after(0.01, lambda: _fork(kernel, process, program))


def _fork(kernel: Kernel, main: Process, program: Program) -> None:
    if not main.alive:
        return
    child = kernel.spawn(f"{main.name}'s child", main, sid=None if program.daemon else main.sid)
    child.instance, child.environ = main.instance, main.environ
    if not program.helper:
        child.on_signal = lambda signum: _works_on(kernel, child, program, signum)
    if program.daemon:
        kernel.after(0.04, lambda: kernel.exit(main, 0))


def _main_hears(kernel: Kernel, main: Process, program: Program, signum: int) -> None:
    if program.wrapper and signum == signal.SIGTERM:
        kernel.exit(main, -15)
    else:
        _works_on(kernel, main, program, signum)


def _works_on(kernel: Kernel, process: Process, program: Program, signum: int) -> None:
    process.quiet = process.quiet or signum == signal.SIGUSR1
    if signum == signal.SIGTERM and program.work is not None:
        kernel.after(program.work, lambda: _ends(kernel, process, program))


def _ends(kernel: Kernel, process: Process, program: Program) -> None:
    if program.helper:  # it ends its children before itself
        for child in [one for one in kernel.table.values() if one.ppid == process.pid and one.alive]:
            kernel.exit(child, 0)
    kernel.exit(process, program.code)
