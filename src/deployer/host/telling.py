"""What apps say about themselves: a NOTIFY_SOCKET for each instance, and what comes of a message."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, Mapping, Optional

from deployer.host.instance import Instance
from deployer.host.notify import NotifySocket, extension
from deployer.host.paths import HostPaths
from deployer.model import Spec


class Telling:
    """`sockets` by instance: what the keeper's loop reads from. An app that cannot have one runs all the same."""

    def __init__(self, paths: HostPaths, say: Callable[[str], None], listen: Callable[[Path], NotifySocket]) -> None:
        self._paths = paths
        self._say = say
        self._listen = listen
        self.sockets: Dict[str, NotifySocket] = {}

    def open(self, spec: Spec) -> None:
        if spec.id in self.sockets:
            return
        try:
            self.sockets[spec.id] = self._listen(self._paths.run / f"notify-{spec.id}.sock")
        except OSError as error:
            self._say(f"no NOTIFY_SOCKET for {spec.id}: {error}")

    def close(self, instance: str) -> None:
        listener = self.sockets.pop(instance, None)
        if listener is not None:
            listener.close()

    def address(self, instance: str) -> Optional[str]:
        """What goes into the environment of *instance*; None where it has no such socket."""
        listener = self.sockets.get(instance)
        return listener.address if listener is not None else None

    def take_in(self, instance: Instance, pid: int, said: Mapping[str, str]) -> Optional[float]:
        """Note what *instance* *said*; the seconds from now that it asks for. Strangers (by *pid*) are not listened to."""
        if pid not in {stat.pid for stat in instance.members()}:
            return None
        if said.get("READY") == "1":
            instance.notified_ready = True
        if "STATUS" in said:
            instance.status_text = said["STATUS"]
        return extension(said)
