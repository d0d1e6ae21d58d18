"""How callers reach a service by its name, whoever has it: a call refused by an old instance goes to the new one."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from concurrent.futures import Future
from typing import Any, Callable, Dict, Generator, List, Optional, Tuple

from deployer.errors import DeployerError, LinkError
from deployer.jobs.cluster import require
from deployer.ray.words import DIRECTORY, Last, Refused

RESOLVE_WITHIN = 60.0
"""Seconds for which a directory may be silent: Ray brings it back when its node was lost."""
_PAUSE = 0.2


class ServiceUnavailable(DeployerError):
    """Nobody has that name, or there was no way to ask."""

    code = 1


class Reply:
    """What a call gives: `result(timeout)`, or `await` it. Once the call is made it goes on, also when nobody asks."""

    def __init__(self) -> None:
        self._future: "Future[Any]" = Future()

    def result(self, timeout: Optional[float] = None) -> Any:
        """What the method returned. Raises what it raised, and TimeoutError after *timeout* seconds."""
        return self._future.result(timeout)

    def done(self) -> bool:
        return self._future.done()

    def future(self) -> "Future[Any]":
        return self._future

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.wrap_future(self._future).__await__()


class Method:
    """One method of a service: `method(x)` waits for the result, `method.remote(x)` gives a `Reply` at once."""

    def __init__(self, calls: "Calls", name: str) -> None:
        self._calls = calls
        self._name = name

    def remote(self, *args: Any, **kwargs: Any) -> Reply:
        sent = _Sent(Reply(), (self._name, args, kwargs))
        self._calls.send(sent)
        return sent.reply

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.remote(*args, **kwargs).result()


class Service:
    """The service of that name, whichever instance has it now. May be sent to tasks and actors."""

    def __init__(self, name: str, app: str) -> None:
        self._named = (name, app)
        self._calls = Calls(name, app)

    def __getattr__(self, method: str) -> Method:
        if method.startswith("_"):
            raise AttributeError(method)
        return Method(self._calls, method)

    def __reduce__(self) -> Tuple[Any, ...]:
        return (Service, self._named)

    def __repr__(self) -> str:
        return f"service({self._named[0]!r}, app={self._named[1]!r})"


def service(name: str, app: Optional[str] = None) -> Service:
    """
    The service *name* of *app* (None: the app that this process belongs to), on the cluster that Ray is connected to.

    Nothing is asked before the first call. Raises UsageError without Ray, ValueError where no app is named.
    """
    require()
    app = app or os.environ.get("DEPLOYER_APP")
    if not app:
        raise ValueError(f'which app? write service("{name}", app="my-app")')
    return Service(name, app)


class _Sent:
    """One call on its way; `ident` is the same wherever it is sent, `to` who has it now."""

    def __init__(self, reply: Reply, what: Tuple[str, Tuple[Any, ...], Dict[str, Any]]) -> None:
        self.reply = reply
        self.what = what
        self.ident = uuid.uuid4().hex
        self.to: Optional[str] = None


class Calls:
    """Sends calls to the instance that serves. What has to be asked is asked in a thread of its own, in the order of the calls."""

    def __init__(self, name: str, app: str) -> None:
        self._name = name
        self._app = app
        self._actor: Any = None
        self._instance: Optional[str] = None
        self._line: List[Tuple[_Sent, Optional[BaseException]]] = []
        self._lock = threading.Lock()
        self._asking = False

    def send(self, sent: _Sent) -> None:
        """Begin the call; its reply comes when it comes."""
        with self._lock:
            actor, sent.to = self._actor, self._instance
        if actor is None:
            self._later(sent, None)
        else:
            self._send(sent, actor)

    def _send(self, sent: _Sent, actor: Any) -> None:
        method, args, kwargs = sent.what
        try:
            ref = actor.call.remote(sent.ident, method, *args, **kwargs)
            ref.future().add_done_callback(lambda done: self._heard(sent, actor, done))
        except Exception as error:  # an argument that cannot be sent
            sent.reply.future().set_exception(error)

    def _heard(self, sent: _Sent, actor: Any, done: "Future[Any]") -> None:
        """In a thread of Ray's, which must not wait for anything."""
        error = done.exception()
        if isinstance(error, require().exceptions.RayActorError):
            self._later(sent, error)
        elif error is not None:
            _settle(sent.reply.future().set_exception, error)
        elif isinstance(done.result(), Refused):
            self._later(sent, None)
        elif isinstance(done.result(), Last):
            _settle(sent.reply.future().set_result, done.result().result)
            actor.heard.remote(sent.ident)  # it goes then; should this fail, the caller has his result
        else:
            _settle(sent.reply.future().set_result, done.result())

    def _later(self, sent: _Sent, error: Optional[BaseException]) -> None:
        with self._lock:
            self._line.append((sent, error))
            if self._asking:
                return
            self._asking = True
        threading.Thread(target=self._ask, name=f"service {self._name}", daemon=True).start()

    def _ask(self) -> None:
        while True:
            with self._lock:
                if not self._line:
                    self._asking = False
                    return
                sent, error = self._line.pop(0)
            try:
                self._renew(sent, error)
            except BaseException as trouble:
                _settle(sent.reply.future().set_exception, trouble)

    def _renew(self, sent: _Sent, error: Optional[BaseException]) -> None:
        with self._lock:
            actor, instance = self._actor, self._instance
        if error is None and actor is not None and instance != sent.to:
            sent.to = instance  # somebody before us in the line has asked already
            return self._send(sent, actor)
        found = self._resolved(sent, error)
        if found.get("lost") and error is not None:
            raise error
        if found.get("error"):
            raise ServiceUnavailable(found["error"], hint="see `deployer status`")
        with self._lock:
            self._actor, self._instance = found["actor"], found["name"]
            sent.to = self._instance
        return self._send(sent, found["actor"])

    def _resolved(self, sent: _Sent, error: Optional[BaseException]) -> Dict[str, Any]:
        ray, until = require(), time.monotonic() + RESOLVE_WITHIN
        asked = {"deploy": _own_deploy(self._app), "stale": sent.to}
        asked.update({"dead": sent.to, "ident": sent.ident} if error is not None else {})
        while True:
            try:
                directory = ray.get_actor(DIRECTORY, namespace=self._app)
                found: Dict[str, Any] = ray.get(directory.resolve.remote(self._name, **asked), timeout=RESOLVE_WITHIN)
                return found
            except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError, ValueError) as why:
                # It is being brought back, or replaced by a newer one, or it was never there: Ray says the same of all three.
                if time.monotonic() > until or (isinstance(why, ValueError) and self._actor is None):
                    title = f"{self._app} has no directory on this cluster"
                    raise LinkError(title, cause=str(why)[:300], hint="deployer push, or look at `ray status`") from why
            time.sleep(_PAUSE)


def _settle(how: Callable[[Any], None], value: Any) -> None:
    try:
        how(value)
    except Exception:  # whoever asked has cancelled it
        pass


def _own_deploy(app: str) -> Optional[str]:
    """The deploy that this process was made by, where it is an instance of the same app."""
    if os.environ.get("DEPLOYER_APP") != app:
        return None
    return os.environ.get("DEPLOYER_INSTANCE", "").partition("#")[2] or None
