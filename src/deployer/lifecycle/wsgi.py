"""A WSGI app that leaves well: /health, `Connection: close`, refusals as 503; counted until its iterable is closed."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from deployer.lifecycle.health import body
from deployer.lifecycle.requests import REFUSED, RETRY_AFTER, Request, Requests
from deployer.lifecycle.tasks import ShuttingDown
from deployer.lifecycle.web import Web

Headers = List[Tuple[str, str]]

_STATUS = {200: "200 OK", 404: "404 Not Found", 503: "503 Service Unavailable"}
_JSON = ("Content-Type", "application/json")
_REFUSAL = [_JSON, ("Retry-After", RETRY_AFTER), ("Connection", "close")]


class Wsgi:
    """*app* (None: nothing but /health) under *life*; *requests* counts what it answers."""

    def __init__(self, life: Any, web: Web, app: Any, path: str, requests: Requests) -> None:
        self.life = life
        """For what starts us in each process of a server: deployer.lifecycle.gunicorn."""
        self._web, self._app, self._path, self._requests = web, app, path, requests
        _refuse_within(app)

    def __call__(self, environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer = _Answer(start_response, self._web, _may_say_close(environ))
        if environ.get("PATH_INFO") == self._path and environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            code, document = self._web.health()
            return answer.whole(code, body(document), [_JSON, ("Cache-Control", "no-store")])
        if self._app is None:
            return answer.whole(404, body({"error": f"GET {self._path}"}), [_JSON])
        return _Body(self._app, environ, answer, self._requests.begin(environ["REQUEST_METHOD"]))


class _Answer:
    """*start_response*, which says `Connection: close` where we leave by the time it is called."""

    def __init__(self, start_response: Callable[..., Any], web: Web, may_say_close: bool) -> None:
        self._start, self._web, self._may = start_response, web, may_say_close
        self.started = False

    def start(self, status: str, headers: Headers, exc_info: Any = None) -> Any:
        self.started = True
        headers = [(name, value) for name, value in headers if self._may or name.lower() != "connection"]
        if self._web.leaving and self._may:
            headers = [*(one for one in headers if one[0].lower() != "connection"), ("Connection", "close")]
        return self._start(status, headers, exc_info) if exc_info else self._start(status, headers)

    def whole(self, code: int, content: bytes, headers: Headers) -> List[bytes]:
        self.start(_STATUS[code], [*headers, ("Content-Length", str(len(content)))])
        return [content]


class _Body:
    """
    What the app answers, piece by piece, each within the request; in flight until it is closed.

    The app is called at once, as a server expects; a refusal may come from there or from the first piece.
    """

    def __init__(self, app: Any, environ: Dict[str, Any], answer: _Answer, request: Request) -> None:
        self._answer, self._request = answer, request
        self._pieces: Iterator[bytes] = iter(())
        self._whole: Any = None
        try:
            with request:
                self._whole = app(environ, answer.start)
                self._pieces = iter(self._whole)
        except ShuttingDown as error:
            self._refuse(error)
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            with self._request:
                return next(self._pieces)
        except ShuttingDown as error:
            self._refuse(error)
            return next(self._pieces)

    def close(self) -> None:
        close: Optional[Callable[[], None]] = getattr(self._whole, "close", None)
        try:
            if close is not None:
                with self._request:
                    close()
        finally:
            self._request.end()

    def __del__(self) -> None:
        """Dropped by a server that never closed it: nobody will."""
        if hasattr(self, "_request"):
            self._request.end()

    def _refuse(self, error: ShuttingDown) -> None:
        if self._answer.started:
            self.close()
            raise error
        self._pieces = iter(self._answer.whole(503, REFUSED, list(_REFUSAL)))


def _may_say_close(environ: Dict[str, Any]) -> bool:
    """These take it for a mistake of the app, and break the connection over it."""
    return not str(environ.get("SERVER_SOFTWARE", "")).startswith(("WSGIServer", "waitress"))


def _refuse_within(app: Any) -> None:
    """Flask answers any error with a 500 before we hear of it: it is told what ShuttingDown means, as `app` or `app.wsgi_app`."""
    flask: Any = app if hasattr(app, "register_error_handler") else getattr(app, "__self__", None)
    if hasattr(flask, "register_error_handler"):
        flask.register_error_handler(ShuttingDown, lambda _error: (REFUSED, 503, list(_REFUSAL)))
