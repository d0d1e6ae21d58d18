"""
The user's own commands own the process: `start`, `stop`, `status` of supervisorctl, pm2, docker, an rc script.

Each of `start` and `stop` is called once for an instance, whoever of us dies (once.py). The commands decide what happens to the
process; the process table decides what has happened. What they cannot promise is in docs/supervisors.md.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from deployer.errors import DeployerError, PreflightError
from deployer.host import adopt, disk, logs
from deployer.host.paths import HostPaths
from deployer.host.process import Processes
from deployer.host.say import say
from deployer.host.spawn import base_environment, environment
from deployer.host.supervisors import once, owner
from deployer.host.supervisors.once import Once, Question
from deployer.host.supervisors.owner import Seen
from deployer.model import DrainOrder, Identity, Spec

ASK_AGAIN = 0.3
"""Seconds between two questions for the same thing."""
HOLDS_FOR = 20.0
"""Seconds for which an answer counts; more than a slow one takes to come."""
SETTLES_WITHIN = 3.0
"""Seconds for which `status` may say no after a start or a crash, while its supervisor is about to start it."""
KEPT_FOR = 7 * 86400.0
"""Seconds after which the record of an instance's commands is removed."""


class Command:
    """`owner.Owner` by the commands in `Spec.owner`, for the app at *paths*."""

    whole = False
    stops = True

    def __init__(self, paths: HostPaths, commands: Mapping[str, Any], processes: Optional[Processes] = None) -> None:
        self._paths = paths
        self._commands = commands
        self._processes = processes or Processes()
        self._records = paths.private / "commands"
        self._once: Dict[Tuple[str, str], Once] = {}
        self._questions: Dict[Tuple[str, str], Question] = {}
        self._answered: Set[Tuple[str, str]] = set()
        self._mains: Dict[str, Identity] = {}
        self._missed_since: Dict[str, float] = {}
        self._failures: Dict[str, str] = {}

    # Asked by the keeper ---------------------------------------------------------------------------------------------

    def placed(self, spec: Spec, others: Sequence[Spec]) -> Spec:
        return spec

    def require(self, app: str) -> None:
        for what in ("start", "stop", "status", "pid"):
            name = (self._commands.get(what) or ["/bin/sh"])[0]
            # What is relative is a file of the release.
            if not shutil.which(name) and ("/" not in name or name.startswith("/")):
                raise PreflightError(
                    f"the command {what} cannot be called: there is no program {name!r} on this host",
                    cause="not on the PATH, or not executable",
                    state="nothing was changed",
                    hint=f"correct {what} in [target.NAME.commands], or install it on this host",
                )

    def check(self, new: Spec, env: Mapping[str, str]) -> None:
        """`start` has been looked for, as any release's command is."""

    def preview(self, new: Spec, env: Mapping[str, str], now: Optional[Spec]) -> List[str]:
        return []

    def prepare(self, new: Spec, env: Mapping[str, str], olds: Sequence[Spec], how: DrainOrder, proven: bool) -> None:
        once.forget(self._records, [new.id, *(old.id for old in olds)], KEPT_FOR)
        for old in [old for old in olds if _words(old, "stop") != _words(new, "stop")]:
            # Today's command, as the whole drain is today's: one that was mended must not wait for the next release.
            self._records.joinpath(old.id).mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._records / old.id / "stop.json"
            disk.write_atomically(str(path), json.dumps(_words(new, "stop")).encode())

    def swap(self, new: Spec, olds: Sequence[Spec]) -> bool:
        return False  # commands know no job that outlives who calls them: the keeper's record brings it to its end

    def start(self, new: Spec) -> None:
        self._run(new, "start", _words(new, "start"), environment(new, base_environment(os.environ)))

    def order(self, spec: Spec, how: DrainOrder) -> None:
        """`ask` is told how."""

    def stop(self, spec: Spec) -> None:
        self.ask(spec, self._mains.get(spec.id), DrainOrder())

    def ask(self, spec: Spec, main: Optional[Identity], how: DrainOrder) -> None:
        """Call `stop`, once; it is told the pid, and how long it may take at most."""
        env = self._environment(spec)
        env.update(DEPLOYER_CEILING=str(max(1, int(how.ceiling))), DEPLOYER_SIGNAL=how.signal)
        if main is not None:
            env["DEPLOYER_PID"] = str(main.pid)
        self._run(spec, "stop", self._stop_words(spec), env)

    def asking(self, spec: Spec) -> bool:
        """Whether `stop` is still at it."""
        return self._record(spec, "stop").state() == once.UNDER_WAY

    def refused(self, spec: Spec) -> Optional[str]:
        """What is wrong with a `stop` that has ended and failed; None else."""
        stop = self._record(spec, "stop")
        return None if stop.state() != once.ENDED or stop.code == 0 else f"stop {_how(stop.code)}"

    def asks(self, spec: Spec) -> bool:
        """Whether a question about *spec* has never been answered yet."""
        return any(key[0] == spec.id and key not in self._answered for key in self._questions)

    def kill(self, spec: Spec) -> None:
        """End the commands that are still at it; the process itself is killed by whoever counts its tree."""
        for what in ("start", "stop"):
            if self._record(spec, what).state() == once.UNDER_WAY:
                self._record(spec, what).end()

    def extend(self, spec: Spec, how: DrainOrder, ceiling: float) -> None:
        """The keeper forces, and nobody else that we know of."""

    def confirm(self, spec: Optional[Spec], others: Sequence[Spec]) -> None:
        """What runs after a crash and at boot is for its own supervisor to say."""

    def forget(self, app: str, releases: Sequence[str]) -> None:
        """`prepare` does."""

    # What runs -------------------------------------------------------------------------------------------------------

    def seen(self, spec: Spec, run: Optional[str] = None) -> Seen:
        start = self._record(spec, "start")
        foreign = bool(spec.owner and spec.owner.get("foreign"))
        state = start.state()
        if state == once.NEVER and not foreign:
            return Seen(owner.ENDED, begun=False)
        if state == once.UNDER_WAY:
            return self._starting(spec, start)
        if state == once.ENDED and start.code != 0:
            return self._failed(spec, f"start {_how(start.code)}")
        if spec.id in self._failures:  # what `status` says now is of what we have stopped
            return self._failed(spec, self._failures[spec.id])
        now = self._running(spec)
        now = Seen(now.state, now.run, now.pid, text=now.text, begun=state != once.NEVER)
        return Seen(owner.ENDED, run) if run and now.state == owner.RUNNING and now.run != run else now

    def _starting(self, spec: Spec, start: Once) -> Seen:
        if start.age() > self._timeout(spec):
            start.end()  # the next look finds it ended, without a code
        return Seen(owner.STARTING)

    def _running(self, spec: Spec) -> Seen:
        """RUNNING for a process that lives, and of which `status` says so."""
        main = self._main(spec)
        said = self._answer(spec, "status")
        if said is None:
            return Seen(owner.STARTING)
        if main is not None and said[0] == 0:
            self._missed_since.pop(spec.id, None)
            self._note_that_it_ran(spec)
            return Seen(owner.RUNNING, _run_of(main), main.pid)
        patience = self._timeout(spec) if said[0] == 0 or main is not None else SETTLES_WITHIN
        missed = time.monotonic() - self._missed_since.setdefault(spec.id, time.monotonic())
        if missed < patience:
            return Seen(owner.STARTING)
        if main is not None:
            return self._failed(spec, f"status ends with exit code {said[0]}, while pid {main.pid} lives")
        if said[0] == 0:
            return self._failed(spec, f"status says that it runs, and nothing says as which process: {self._why(spec)}")
        return Seen(owner.ENDED, text=f"status ends with exit code {said[0]}: it does not run")

    def _failed(self, spec: Spec, text: str) -> Seen:
        """A start that failed may have left something: `stop` is called, and what outlives that is killed; it never served."""
        if self._ran(spec):
            return Seen(owner.ENDED, text=text)
        self._failures[spec.id] = text
        stop = self._record(spec, "stop")
        if stop.state() == once.NEVER:
            self.ask(spec, self._main(spec), DrainOrder(ceiling=self._timeout(spec)))
            return Seen(owner.STARTING)
        if stop.state() == once.UNDER_WAY and stop.age() < self._timeout(spec):
            return Seen(owner.STARTING)
        stop.end()
        main = self._main(spec)
        handle = self._processes.open(main) if main is not None else None
        if handle is not None:
            handle.send(9)
            handle.close()
        return Seen(owner.ENDED, text=text)

    def _ran(self, spec: Spec) -> bool:
        return (self._records / spec.id / "ran").exists() or bool(spec.owner and spec.owner.get("foreign"))

    def _note_that_it_ran(self, spec: Spec) -> None:
        try:
            (self._records / spec.id / "ran").touch(mode=0o600)
        except OSError:
            pass  # an adopted one has no record

    # Which process it is ---------------------------------------------------------------------------------------------

    def _main(self, spec: Spec) -> Optional[Identity]:
        """Its main process, which lives; None for now, or where none does."""
        known = self._mains.get(spec.id)
        if known is not None and self._processes.alive(known):
            return known
        assert spec.owner is not None
        pid = self._told(spec) if spec.owner.get("pid") else self._found(spec)
        found = self._processes.identity(pid) if pid and pid > 1 else None
        if found is not None:
            self._mains[spec.id] = found
        return found

    def _told(self, spec: Spec) -> Optional[int]:
        said = self._answer(spec, "pid")
        words = said[1].split() if said and said[0] == 0 else []
        return int(words[0]) if words and words[0].isdigit() else None

    def _found(self, spec: Spec) -> Optional[int]:
        assert spec.owner is not None
        try:
            return adopt.pid_of({name: spec.owner.get(name) for name in ("pidfile", "port")}, self._processes)
        except PreflightError as error:
            self._problem = str(error.cause)
            return None

    _problem = ""

    def _why(self, spec: Spec) -> str:
        return f"{_shown(_words(spec, 'pid'))} prints none" if _words(spec, "pid") else self._problem

    def _answer(self, spec: Spec, what: str) -> Optional[Tuple[int, str]]:
        """The newest answer of the question *what*; None while there is none. Asked again where it has become old."""
        key = (spec.id, what)
        asked = self._questions.get(key)
        said = asked.answered() if asked is not None else None
        if said is not None:
            self._answered.add(key)
        age = time.monotonic() - asked.asked_at if asked is not None else 0.0
        if asked is None or (said is not None and age > ASK_AGAIN):
            self._questions[key] = self._asked(spec, what)
        return said if age < HOLDS_FOR else None

    def _asked(self, spec: Spec, what: str) -> Question:
        env = {**self._environment(spec), "DEPLOYER_PATH": str(self._paths.root / "current")}
        return Question(_words(spec, what), self._directory(spec), env, self._records / spec.id / f"{what}.txt")

    def _environment(self, spec: Spec) -> Dict[str, str]:
        base = base_environment(os.environ)
        try:
            return environment(spec, base)
        except DeployerError as error:  # its env file is gone: it has to stop all the same
            say(f"the commands of {spec.id} are called without the release's environment: {error}")
            return {**base, **spec.env, "DEPLOYER_APP": spec.app, "DEPLOYER_INSTANCE": spec.id}

    # Commands --------------------------------------------------------------------------------------------------------

    def _run(self, spec: Spec, what: str, argv: Sequence[str], env: Dict[str, str]) -> None:
        env["DEPLOYER_PATH"] = str(self._paths.root / "current")
        output = logs.open_output(self._paths.app_log)
        try:
            self._record(spec, what).begin(argv, self._directory(spec), env, output)
        except OSError as error:
            raise DeployerError(f"{what} of {spec.app} cannot be called", cause=str(error)) from error
        finally:
            os.close(output)

    def _record(self, spec: Spec, what: str) -> Once:
        # The boot is part of the name: what was begun before a power cut may not have come far.
        key = (spec.id, what)
        if key not in self._once:
            self._once[key] = Once(self._records / spec.id / f"{what}-{self._processes.boot[:8]}", self._processes)
        return self._once[key]

    def _stop_words(self, spec: Spec) -> List[str]:
        try:
            found: List[str] = json.loads((self._records / spec.id / "stop.json").read_text("utf-8"))
            return found
        except (OSError, ValueError):
            return _words(spec, "stop")

    def _directory(self, spec: Spec) -> str:
        """`current` where that is its release: what is started there goes on to find itself by that name."""
        current = self._paths.root / "current"
        return str(current) if os.path.realpath(current) == os.path.realpath(spec.cwd) else spec.cwd

    def _timeout(self, spec: Spec) -> float:
        assert spec.owner is not None
        return float(spec.owner["timeout"])


def setting(commands: Mapping[str, Any], port: Optional[int]) -> Dict[str, Any]:
    """`Spec.owner` for `[target.X.commands]`; *port* is where the service listens, if that is known."""
    return {**commands, "kind": "command", "port": port}


def runs_as(spec: Spec, paths: HostPaths, identity: Identity) -> bool:
    """Whether the commands of *spec* own the process *identity*, which somebody started before us: by what they say of it now."""
    asked = Command(paths, spec.owner or {})
    deadline = time.monotonic() + once.ANSWERS_WITHIN
    while time.monotonic() < deadline:
        now = asked.seen(spec)
        if now.state != owner.STARTING:
            break
        time.sleep(0.05)
    return now.state == owner.RUNNING and now.pid == identity.pid


def _words(spec: Spec, what: str) -> List[str]:
    assert spec.owner is not None
    return list(spec.owner.get(what) or [])


def _shown(argv: Sequence[str]) -> str:
    return str(argv[2]) if list(argv[:2]) == ["sh", "-c"] and len(argv) == 3 else " ".join(argv)


def _how(code: Optional[int]) -> str:
    return "took too long, or was ended" if code is None else f"failed with exit code {code}"


def _run_of(main: Identity) -> str:
    return f"{main.pid}-{main.start}-{main.boot}"
