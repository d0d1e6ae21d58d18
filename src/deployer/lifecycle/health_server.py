"""
/health from a thread of its own: it answers while the app's loop is blocked, while the app drains, until the process ends.

One thread for all connections, whatever they do. Each may ask once, within a few seconds; when there are too many the oldest goes.
"""

from __future__ import annotations

import os
import selectors
import socket
import stat
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from deployer.lifecycle.health import body
from deployer.lifecycle.voice import name_of, say

HEAD_LIMIT = 16 * 1024
AT_ONCE = 64
"""Connections. A supervisor has one or two."""
WITHIN = 5.0
"""Seconds that a connection may take in all, its answer included."""
BEAT = 0.5
"""Seconds between two looks at a loop that may be blocked."""
_NO_DESCRIPTORS = 0.5
"""Seconds before another attempt to accept where the process has no descriptor left: it would be readable at once again."""

Answer = Tuple[int, Dict[str, Any]]


class Address:
    """
    Where to listen: "127.0.0.1:9000", "unix:/path" or a socket. A Unix socket is for its owner alone (0600).

    Raises ValueError for anything else; OSError where it is taken.
    """

    def __init__(self, where: Union[str, socket.socket]) -> None:
        self._path: Optional[str] = None
        self.listener = where if isinstance(where, socket.socket) else self._bind(where)
        self.listener.setblocking(False)

    def close(self) -> None:
        self.listener.close()
        if self._path is not None:
            try:
                os.unlink(self._path)
            except OSError:
                pass

    def _bind(self, where: str) -> socket.socket:
        if where.startswith("unix:/"):
            self._path = where[len("unix:") :]
            return _bind_unix(self._path)
        host, _, port = where.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f'health="{where}" is no address; write "127.0.0.1:9000", "unix:/path", or give a socket')
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return _listening(family, (host.strip("[]"), int(port)))


class HealthServer:
    """Answers GET /health with what *health* gives and POST /serve by calling *serve*; *beat* is called twice a second."""

    def __init__(
        self, address: Address, health: Callable[[], Answer], serve: Callable[[], None], beat: Callable[[], None]
    ) -> None:
        self._address, self._health, self._serve, self._beat = address, health, serve, beat
        self._selector = selectors.DefaultSelector()
        self._open: Dict[socket.socket, _Conversation] = {}
        self._selector.register(address.listener, selectors.EVENT_READ)
        self._accepts_from = 0.0
        self._over = False

    @property
    def where(self) -> Any:
        return self._address.listener.getsockname()

    def start(self) -> None:
        threading.Thread(target=self._run, name="lifecycle-health", daemon=True).start()

    def stop(self) -> None:
        """Answer nobody any more, from the next beat on. A program has no need of it: its last answer is the last moment's."""
        self._over = True

    def _run(self) -> None:
        while not self._over:
            try:
                self._turn()
            except Exception as error:  # nothing that one connection does may silence us for all others
                say(f"/health: {name_of(error)}")
                time.sleep(BEAT)
        self._address.close()
        for conversation in list(self._open.values()):
            self._end(conversation)
        self._selector.close()

    def _turn(self) -> None:
        ready = self._selector.select(BEAT)
        self._beat()
        now = time.monotonic()
        for key, _ in ready:
            if key.fileobj is self._address.listener:
                self._accept(now)
            elif key.fileobj in self._open:  # may have been the oldest a moment ago
                self._go_on(self._open[key.fileobj])
        for conversation in [one for one in self._open.values() if one.until < now]:
            self._end(conversation)
        if self._accepts_from and now >= self._accepts_from:
            self._accepts_from = 0.0
            self._selector.register(self._address.listener, selectors.EVENT_READ)

    def _accept(self, now: float) -> None:
        try:
            connection, _ = self._address.listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return
        except OSError:
            self._selector.unregister(self._address.listener)
            self._accepts_from = now + _NO_DESCRIPTORS
            return
        if len(self._open) >= AT_ONCE:
            self._end(next(iter(self._open.values())))
        connection.setblocking(False)
        self._open[connection] = _Conversation(connection, now + WITHIN)
        self._selector.register(connection, selectors.EVENT_READ)

    def _go_on(self, conversation: _Conversation) -> None:
        try:
            over = conversation.heard(self._answer) if not conversation.to_say else conversation.say()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            over = True
        if over:
            self._end(conversation)
            return
        wants = selectors.EVENT_WRITE if conversation.to_say else selectors.EVENT_READ
        self._selector.modify(conversation.connection, wants)

    def _end(self, conversation: _Conversation) -> None:
        self._selector.unregister(conversation.connection)
        del self._open[conversation.connection]
        conversation.connection.close()

    def _answer(self, method: str, path: str) -> Answer:
        if path == "/health":
            return self._health() if method in ("GET", "HEAD") else (405, {"error": "GET /health"})
        if path == "/serve":
            if method != "POST":
                return 405, {"error": "POST /serve"}
            self._serve()
            return 200, {"serving": True}
        return 404, {"error": "GET /health, POST /serve"}


class _Conversation:
    """One connection: a request, an answer, and then silence until the other side has read it."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        self.connection, self.until = connection, until
        self.to_say = b""
        self._heard = b""
        self._answered = False

    def heard(self, answer: Callable[[str, str], Answer]) -> bool:
        """Read on; whether it is over."""
        data = self.connection.recv(HEAD_LIMIT)
        if self._answered or not data:
            # What comes after the answer is read: closed over unread bytes, a connection is reset, and the answer lost.
            return not data
        self._heard += data
        if b"\r\n\r\n" in self._heard or b"\n\n" in self._heard:
            self._respond(*answer(*_asked(self._heard)))
        elif len(self._heard) > HEAD_LIMIT:
            self._respond(431, {"error": "too long a request"})
        return False

    def say(self) -> bool:
        """Write on; whether it is over."""
        self.to_say = self.to_say[self.connection.send(self.to_say) :]
        if not self.to_say:
            self.connection.shutdown(socket.SHUT_WR)
        return False

    def _respond(self, code: int, said: Dict[str, Any]) -> None:
        self._answered = True
        text = body(said)
        head = [f"HTTP/1.1 {code} {_WORDS.get(code, 'X')}", "Content-Type: application/json", "Cache-Control: no-store"]
        head += [f"Content-Length: {len(text)}", "Connection: close"]
        self.to_say = "\r\n".join([*head, "", ""]).encode() + (b"" if self._heard.startswith(b"HEAD ") else text)


_WORDS = {
    200: "OK",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def _asked(head: bytes) -> Tuple[str, str]:
    """Method and path of a request; nonsense is a method nobody has."""
    words: List[str] = head.split(b"\n", 1)[0].decode("latin-1").split()
    return (words[0], words[1].split("?")[0]) if len(words) >= 2 else ("?", "?")


def _listening(family: int, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        if family == socket.AF_UNIX:
            os.chmod(address, 0o600)  # before anybody can connect: it does not listen yet
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


def _bind_unix(path: str) -> socket.socket:
    """A dead socket of an earlier process is replaced; one that somebody listens on is an OSError, and so is any other file."""
    try:
        return _listening(socket.AF_UNIX, path)
    except OSError:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):  # to connect to a file is "refused" too
            raise
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
            else:
                raise
        return _listening(socket.AF_UNIX, path)
