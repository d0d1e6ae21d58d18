"""The listening sockets that the keeper holds open for an app, by address: they outlive every instance that accepts on them."""

from __future__ import annotations

import errno
import socket
from typing import Callable, Dict, ItemsView, Iterable, List, Mapping, Optional, Set, Tuple

from deployer.errors import PreflightError
from deployer.host import sockets
from deployer.host.instance import Instance
from deployer.model import Spec


class Held:
    """`say` is called with a line for the engine's log when a socket changes hands."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._sockets: Dict[str, socket.socket] = {}

    def inherit(self, left: Mapping[str, socket.socket]) -> None:
        """Go on holding what older code of this keeper held."""
        self._sockets.update(left)

    def items(self) -> ItemsView[str, socket.socket]:
        return self._sockets.items()

    def take_back(self, instance: Instance) -> None:
        """Hold again what an earlier keeper held: *instance* still has it."""
        for address in sockets.named(instance.spec.socket).values():
            if address not in self._sockets:
                self._take(address, [instance])

    def prepare(self, spec: Spec, running: Iterable[Instance]) -> None:
        """
        Hold the sockets of *spec* now, so that a client who comes while nobody accepts waits instead of being refused.

        One that an instance of *running* listens on by itself is taken over; where that cannot be, it is ours once it has gone.
        Raises PreflightError when somebody else has it.
        """
        instances = list(running)
        for address in sockets.named(spec.socket).values():
            lasting = not address.startswith(sockets.UNIX)  # a name that somebody else may remove is no use
            if address not in self._sockets and not (lasting and self._take(address, instances)):
                self._bind(address, early=bool(instances))

    def of(self, spec: Spec) -> List[Tuple[str, int]]:
        """Name and descriptor of each socket of *spec*, in order. Raises PreflightError where one cannot be had."""
        found = []
        for name, address in sockets.named(spec.socket).items():
            if address not in self._sockets:
                self._bind(address, early=False)
            found.append((name, self._sockets[address].fileno()))
        return found

    def has_all(self, spec: Spec) -> bool:
        """Whether every socket of *spec* is held."""
        return set(sockets.named(spec.socket).values()) <= set(self._sockets)

    def keep(self, specs: Iterable[Spec]) -> None:
        """Let go of every socket that none of *specs* needs."""
        needed: Set[str] = {address for spec in specs for address in sockets.named(spec.socket).values()}
        for address in set(self._sockets) - needed:
            sockets.close(address, self._sockets.pop(address))

    def _bind(self, address: str, early: bool) -> None:
        try:
            self._sockets[address] = sockets.bind(address)
        except OSError as error:
            # What runs may still have it. Whatever else is wrong with the address is better known before anything is stopped.
            if not early or error.errno != errno.EADDRINUSE:
                raise PreflightError(f"cannot listen on {address}", cause=error.strerror or str(error)) from error

    def _take(self, address: str, instances: List[Instance]) -> bool:
        found: Optional[socket.socket] = None
        for instance in instances:
            instance.members()
            for handle in instance.tree.handles():
                found = found or sockets.take(handle, address)
        if found is None:
            return False
        try:
            found.listen(sockets.BACKLOG)  # a second call only sets how many may wait
        except OSError:
            pass
        self._sockets[address] = found
        self._say(f"took the listening socket {address} over from a process that has it")
        return True
