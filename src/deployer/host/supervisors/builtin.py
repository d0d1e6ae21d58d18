"""The built-in supervisor as its clients see it: requests to the keeper, which is started when there is none."""

from __future__ import annotations

import os
import select
import socket
import time
from typing import Any, Dict, List, Optional

from deployer.errors import DeployerError, PreflightError
from deployer.host import engine, unix
from deployer.host.detached import start_detached
from deployer.host.paths import HostPaths
from deployer.host.supervisors import keeper_unit
from deployer.model import DrainOrder, Identity, Spec
from deployer.wire import frames
from deployer.wire.frames import BrokenFrame, Decoder, Message, pack

ANSWER_WITHIN = 15.0
START_WITHIN = 15.0
LOOK_AGAIN = 0.05
LOOK_WITHIN = 3.0
TRIES = 4
"""How many keepers may die under one request: each is a new one, started for it."""


class Builtin:
    """
    A connection to the keeper of the app at *paths*. A keeper that dies meanwhile is replaced by another, unasked.

    With *deploy*, whose runner we are then, a keeper of another version goes on as this one, if *upgrades*: not where only a
    drain is waited for, beside another deploy. Connects at the first request.
    `wait` also ends when the descriptor *wake* is readable.
    """

    def __init__(
        self, paths: HostPaths, deploy: Optional[str] = None, wake: Optional[int] = None, upgrades: bool = True
    ) -> None:
        self._paths = paths
        self._wake: List[int] = [] if wake is None else [wake]
        self._deploy = deploy
        self._socket: Optional[socket.socket] = None
        self._decoder = Decoder()
        self._answers: List[Message] = []
        self._changed = False
        self._compared = deploy is None or not upgrades

    def status(self) -> Dict[str, Any]:
        answer: Dict[str, Any] = self._ask({"op": "status"})
        return answer

    def replace(self, deploy: str, who: str, new: Optional[Spec], how: DrainOrder, confirmed: bool = False) -> None:
        spec = new.to_json() if new else None
        self._ask(
            {"op": "replace", "deploy": deploy, "who": who, "new": spec, "drain": how.to_json(), "confirmed": confirmed}
        )

    def launch(self, deploy: str, new: Spec) -> None:
        self._ask({"op": "launch", "deploy": deploy, "new": new.to_json()})

    def retire(self, deploy: str, who: str, keep: str, how: DrainOrder) -> None:
        self._ask({"op": "retire", "deploy": deploy, "who": who, "keep": keep, "drain": how.to_json()})

    def dismiss(self, deploy: str, who: str, instance: str, how: DrainOrder) -> None:
        self._ask({"op": "dismiss", "deploy": deploy, "who": who, "instance": instance, "drain": how.to_json()})

    def record(self, instance: str) -> Optional[Dict[str, Any]]:
        found: Optional[Dict[str, Any]] = self._ask({"op": "record", "instance": instance})
        return found

    def adopt(self, spec: Spec, identity: Identity) -> None:
        self._ask({"op": "adopt", "spec": spec.to_json(), "identity": identity.to_json()})

    def confirm(self, instance: str) -> None:
        self._ask({"op": "confirm", "instance": instance})

    def move_deadline(self, instance: str, deadline: float, who: str = "") -> bool:
        return bool(self._ask({"op": "deadline", "instance": instance, "deadline": deadline, "who": who}))

    def wait(self, deadline: float) -> None:
        """Return at the keeper's word that something changed or its death, at a wake-up, or at *deadline*."""
        if self._changed:  # said while we waited for an answer to something else
            self._changed = False
            return
        left = max(0.0, deadline - time.monotonic())
        if self._socket is not None and self._socket.fileno() in self._readable(left):
            self._receive()
            self._changed = False

    def _readable(self, within: float) -> List[int]:
        assert self._socket is not None
        return select.select([self._socket.fileno(), *self._wake], [], [], within)[0]

    def close(self) -> None:
        if self._socket is not None:
            try:
                self._ask({"op": "bye"})
            except DeployerError:
                pass
            self._drop()

    def _bring_up_to_date(self) -> None:
        # Only a runner asks for it, and once: it holds the deploy lock, so two versions never take turns at it.
        self._compared = True
        wanted = engine.own_digest()
        if self._answer_to({"op": "status"})["engine"] != wanted:
            argv = engine.argv(engine.install(self._paths), "keeper", str(self._paths.root))
            try:
                self._answer_to({"op": "upgrade", "engine": wanted, "argv": argv})
            except DeployerError:
                pass  # it goes on as it is

    def _ask(self, request: Message) -> Any:
        # Every request is safe to repeat: the keeper may have died between doing and answering.
        for _ in range(TRIES):
            try:
                self._connect()
                return self._answer_to(request)
            except (OSError, BrokenFrame) as error:
                self._drop()
                problem = error
        raise DeployerError(
            "the keeper, the parent of the app, does not answer",
            cause=str(problem),
            state="the app runs on",
            hint=f"see {self._paths.engine_log}",
        )

    def _answer_to(self, request: Message) -> Any:
        assert self._socket is not None
        self._socket.sendall(pack(request))
        while not self._answers:
            if not self._receive():
                raise ConnectionResetError("the keeper went away")
        answer = self._answers.pop(0)
        if "error" in answer:
            raise DeployerError.from_json(answer["error"])
        return answer["ok"]

    def _receive(self) -> bool:
        assert self._socket is not None
        try:
            data = self._socket.recv(65536)
            messages = self._decoder.feed(data)
        except (ConnectionError, BrokenFrame):
            data, messages = b"", []
        if not data:
            self._drop()
            return False
        self._changed = self._changed or any(isinstance(frame, dict) and "event" in frame for frame in messages)
        self._answers += [frame for frame in messages if isinstance(frame, dict) and "event" not in frame]
        return True

    def _connect(self) -> None:
        """Be connected. Raises PreflightError when no keeper comes up."""
        if self._socket is not None:
            return
        self._decoder, self._answers = Decoder(), []
        self._socket = connect(self._paths) or start(self._paths)
        self._socket.settimeout(ANSWER_WITHIN)
        self._answer_to({"op": "watch", "deploy": self._deploy})
        if not self._compared:
            self._bring_up_to_date()

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def connect(paths: HostPaths) -> Optional[socket.socket]:
    """A connection to the running keeper, or None when there is none."""
    try:
        return unix.connect(paths.keeper_socket, ANSWER_WITHIN)
    except OSError:
        return None


def look(paths: HostPaths) -> Optional[Dict[str, Any]]:
    """What the running keeper says (`status`, and its `pid`); None when there is none, or when it does not answer."""
    connection = connect(paths) if paths.keeper_socket.exists() else None
    if connection is None:
        return None
    with connection, connection.makefile("rb") as stream:
        connection.settimeout(LOOK_WITHIN)
        try:
            connection.sendall(pack({"op": "status"}))
            answer = frames.read(stream)
        except (OSError, BrokenFrame):
            return None
    found = answer.get("ok") if isinstance(answer, dict) else None
    return found if isinstance(found, dict) else None


def start(paths: HostPaths) -> socket.socket:
    """A connection to a keeper started now. Raises PreflightError when it does not come up."""
    deadline = time.monotonic() + START_WITHIN
    while True:
        code = _launch(paths)
        found = connect(paths)
        if found is not None:
            return found
        if code not in (0, None) or time.monotonic() >= deadline:
            raise _not_started(paths, code)
        time.sleep(LOOK_AGAIN)  # another one has the lock: it does not serve yet, or is about to go


def resume(paths: HostPaths, deploy: str) -> int:
    """The pid of a runner that finishes *deploy*; it leaves at once when there is one already."""
    return start_detached(
        engine.argv(engine.install(paths), "resume", str(paths.root), deploy), engine.environment("runner"), paths
    )


def _launch(paths: HostPaths) -> Optional[int]:
    """Start a keeper and wait until it serves (None) or has gone (its exit code; 0 when there was one already)."""
    if keeper_unit.start(paths):
        return None
    argv = engine.argv(engine.install(paths), "keeper", str(paths.root))
    reader, writer = os.pipe()
    try:
        pid = start_detached(argv, engine.environment("keeper"), paths, pass_fd=writer)
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        if not select.select([pipe], [], [], START_WITHIN)[0] or pipe.read(1):
            return None
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _not_started(paths: HostPaths, code: Optional[int]) -> PreflightError:
    return PreflightError(
        "the keeper, which looks after the app, did not start",
        cause=f"there is no answer at {paths.keeper_socket}" + (f"; it exited with code {code}" if code else ""),
        state="the running service was not touched",
        hint=f"see {paths.engine_log}",
    )
