"""The built-in supervisor as its clients see it: requests to the keeper, which is started when there is none."""

from __future__ import annotations

import os
import select
import socket
import time
from typing import Any, Dict, List, Optional

from deployer.errors import DeployerError, PreflightError
from deployer.host import engine, unix
from deployer.host.keeper import start_detached
from deployer.host.paths import HostPaths
from deployer.model import DrainOrder, Identity, Spec
from deployer.wire.frames import BrokenFrame, Decoder, Message, pack

ANSWER_WITHIN = 15.0
START_WITHIN = 15.0


class Builtin:
    """A connection to the keeper of the app at *paths*. A keeper that dies meanwhile is replaced by another, unasked."""

    def __init__(self, paths: HostPaths, deploy: Optional[str] = None) -> None:
        self._paths = paths
        self._deploy = deploy
        self._socket: Optional[socket.socket] = None
        self._decoder = Decoder()
        self._answers: List[Message] = []
        self._connect()

    def status(self) -> Dict[str, Any]:
        answer: Dict[str, Any] = self._ask({"op": "status"})
        return answer

    def replace(self, deploy: str, who: str, new: Optional[Spec], how: DrainOrder, confirmed: bool = False) -> None:
        spec = new.to_json() if new else None
        self._ask(
            {"op": "replace", "deploy": deploy, "who": who, "new": spec, "drain": how.to_json(), "confirmed": confirmed}
        )

    def adopt(self, spec: Spec, identity: Identity) -> None:
        self._ask({"op": "adopt", "spec": spec.to_json(), "identity": identity.to_json()})

    def confirm(self, instance: str) -> None:
        self._ask({"op": "confirm", "instance": instance})

    def move_deadline(self, instance: str, seconds: Optional[float]) -> bool:
        return bool(self._ask({"op": "deadline", "instance": instance, "seconds": seconds}))

    def wait(self, deadline: float) -> None:
        """Return at the keeper's word that something changed, or at *deadline*."""
        if self._socket is None:
            self._connect()
        assert self._socket is not None
        left = max(0.0, deadline - time.monotonic())
        if select.select([self._socket], [], [], left)[0]:
            self._receive()

    def close(self) -> None:
        if self._socket is not None:
            try:
                self._ask({"op": "bye"})
            except DeployerError:
                pass
            self._drop()

    def _ask(self, request: Message) -> Any:
        for last in (
            False,
            True,
        ):  # every request is safe to repeat: the keeper may have died between doing and answering
            try:
                return self._ask_once(request)
            except (OSError, BrokenFrame) as error:
                self._drop()
                if last:
                    raise DeployerError("the keeper does not answer", cause=str(error)) from error
                self._connect()
        return None

    def _ask_once(self, request: Message) -> Any:
        if self._socket is None:
            self._connect()
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
        except OSError:
            data = b""
        if not data:
            self._drop()
            return False
        frames = [frame for frame in self._decoder.feed(data) if isinstance(frame, dict)]
        self._answers += [frame for frame in frames if "event" not in frame]
        return True

    def _connect(self) -> None:
        self._decoder, self._answers = Decoder(), []
        self._socket = connect(self._paths) or start(self._paths)
        self._socket.settimeout(ANSWER_WITHIN)
        if self._deploy:
            self._ask_once({"op": "watch", "deploy": self._deploy})

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


def start(paths: HostPaths) -> socket.socket:
    """A connection to a keeper started now. Raises PreflightError when it does not come up."""
    package = engine.install(paths)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        pid = start_detached(
            engine.argv(package, "keeper", str(paths.root)), engine.environment("keeper"), paths, pass_fd=writer
        )
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        select.select([pipe], [], [], START_WITHIN)  # "R" when it serves, the pipe's end when it went
    found = connect(paths)
    if found is None:
        raise PreflightError(
            "the keeper, which looks after the app, did not start",
            cause=f"pid {pid} left no socket at {paths.keeper_socket}",
            state="the running service was not touched",
            hint=f"see {paths.engine_log}",
        )
    return found
