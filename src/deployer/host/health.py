"""
One question to an app's /health, and what its answer means.

The answer is a second witness: it says what the work is. Whether a process lives is for the process table to say.
"""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, Union
from urllib.parse import urlsplit

from deployer.host import unix

BODY_LIMIT = 64 * 1024
TASKS_LIMIT = 100
TEXT_LIMIT = 200
_STATES = ("ok", "starting", "shutting_down")

Busy = Union[bool, int, None]


@dataclass(frozen=True)
class Answer:
    """`health` is one word or two for a person; `good` says that a request would be served now."""

    health: str
    good: bool = False
    busy: Busy = None
    tasks: List[Dict[str, Any]] = field(default_factory=list)
    pid: Optional[int] = None
    release: Optional[str] = None
    status: Optional[int] = None
    body: str = ""

    def working(self) -> bool:
        """Whether the app says that it has work in progress."""
        return bool(self.tasks) or bool(self.busy)

    def speaks_of_work(self) -> bool:
        """Whether it says anything about work, none included; an error page or a silent app does not."""
        return self.working() or (self.status is not None and not self.health.startswith("http "))


NO_URL = Answer("none")
ELSEWHERE = Answer("another process")
"""Somebody else than we asked for has accepted the connection."""
Accepted = Callable[[socket.socket, float], bool]


def ask(
    url: str,
    timeout: float,
    busy: Optional[str] = None,
    via: Optional[Path] = None,
    accepted: Optional[Accepted] = None,
) -> Answer:
    """
    GET *url* within *timeout* seconds in all, however slowly the answer drips; never raises.

    *busy* is the JSON pointer of `health.busy`; *via* a Unix socket to ask there instead. *accepted* looks at the connection
    before anything is asked (with the seconds it may take); where it says False the answer is ELSEWHERE.
    """
    import http.client  # 30 ms, and only apps with a health URL need it

    late = threading.Event()
    try:
        status, body = _send("GET", url, timeout, late, via, accepted)
    except _Elsewhere:
        return ELSEWHERE
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Answer("timeout" if late.is_set() else _failure(error))
    return Answer("timeout") if late.is_set() else read(status, body, busy)


def tell(path: str, timeout: float, via: Path) -> Optional[int]:
    """The status that a POST to *path* at the Unix socket *via* is answered with; None without an answer. Never raises."""
    import http.client

    try:
        return _send("POST", f"http://localhost{path}", timeout, threading.Event(), via, None)[0]
    except (OSError, ValueError, http.client.HTTPException):
        return None


class _Elsewhere(Exception):
    pass


def _failure(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, (socket.timeout, TimeoutError)):
        return "timeout"
    if isinstance(error, ConnectionError):
        return "closed"
    if isinstance(error, OSError):
        return f"unreachable ({error.strerror or error})"[:80]
    return "garbage"


def _send(
    method: str, url: str, timeout: float, late: threading.Event, via: Optional[Path], accepted: Optional[Accepted]
) -> Tuple[int, bytes]:
    """Status and the first of the body; *late* is set, and the connection cut, *timeout* seconds after it was made."""
    import http.client

    parts = urlsplit(url)
    connection = _connection("http" if via else parts.scheme, parts.hostname or "", parts.port, timeout)
    if via is not None:
        connection.sock = unix.connect(via, timeout)
    else:
        connection.connect()
    alarm = threading.Timer(timeout, _cut, (connection.sock, late))
    alarm.daemon = True
    alarm.start()
    try:
        if accepted is not None and not accepted(connection.sock, timeout):
            raise _Elsewhere
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, headers={"Accept": "application/json", "Connection": "close"})
        response = connection.getresponse()
        try:
            return response.status, response.read(BODY_LIMIT)
        except http.client.IncompleteRead as error:  # less than it announced: what there is may still say something
            return response.status, error.partial
    finally:
        alarm.cancel()
        connection.close()


def read(status: int, body: bytes, busy: Optional[str] = None) -> Answer:
    """What an HTTP answer says. Keys that are missing or odd are as if they were not there."""
    good = 200 <= status < 300
    said = _json_object(body)
    state = said.get("status") if said else None
    if isinstance(state, str):
        good = good and state == "ok"
        health = state if state in _STATES else clean(state)[:40] or f"http {status}"
    else:
        health = "ok" if good else f"http {status}"
    tasks = _tasks(said.get("tasks")) if said else []
    release = said.get("release") if said else None
    return Answer(
        health=health,
        good=good,
        busy=_busy(_pointed(said, busy) if busy else said.get("busy"), tasks) if said else None,
        tasks=tasks,
        pid=_int(said.get("pid")) if said else None,
        release=clean(release)[:TEXT_LIMIT] if isinstance(release, str) else None,
        status=status,
        body=clean(body[:400].decode("utf-8", "replace")),
    )


def clean(text: str) -> str:
    """*text* without control characters: what an app says must not drive a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def _connection(scheme: str, host: str, port: Optional[int], timeout: float) -> Any:
    import http.client

    if scheme != "https":
        return http.client.HTTPConnection(host, port, timeout=timeout)
    import ssl

    context = ssl.create_default_context()
    if host in ("localhost", "::1") or host.startswith("127."):
        context.check_hostname = False  # nobody certifies a loopback address, and nobody else can listen there
        context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)


def _cut(sock: Any, late: threading.Event) -> None:
    late.set()
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except (OSError, AttributeError):
        pass


def _json_object(body: bytes) -> Dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _pointed(document: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list) and part.isdigit() and int(part) < len(document):
            document = document[int(part)]
        else:
            return None
    return document


def _busy(value: Any, tasks: List[Dict[str, Any]]) -> Busy:
    if isinstance(value, (bool, int)):
        return value
    if isinstance(value, (list, dict, str)):
        return len(value) if isinstance(value, list) else bool(value)
    return len(tasks) if tasks else None


def _tasks(value: Any) -> List[Dict[str, Any]]:
    if not isinstance(value, list):
        return []
    return [_task(item) for item in value[:TASKS_LIMIT] if isinstance(item, (dict, str))]


def _task(item: Any) -> Dict[str, Any]:
    if isinstance(item, str):
        item = {"name": item}
    task: Dict[str, Any] = {}
    for name in ("id", "name", "started_at"):
        value = item.get(name)
        if _is_plain(value):
            task[name] = clean(value)[:TEXT_LIMIT] if isinstance(value, str) else value
    task["age_s"] = _age(task.get("started_at"))
    return task


def _is_plain(value: Any) -> bool:
    # Python reads NaN and Infinity, which are no JSON and must not get into ours.
    if isinstance(value, float):
        return isfinite(value)
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _age(started_at: Any) -> Optional[float]:
    import datetime
    import time

    try:
        if isinstance(started_at, str):
            moment = datetime.datetime.fromisoformat(started_at.replace("Z", "+00:00"))
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=datetime.timezone.utc)
            started_at = moment.timestamp()
        elif isinstance(started_at, (int, float)) and started_at > 1e11:
            started_at = started_at / 1000  # JavaScript's Date.now()
        return round(max(0.0, time.time() - float(started_at)), 1)
    except (TypeError, ValueError, OverflowError):
        return None


def _int(value: Any) -> Optional[int]:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
