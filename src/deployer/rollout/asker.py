"""One probe after another over httpx, and what was wrong with the answer, in a word."""

from __future__ import annotations

import json
import sys
import time

# httpx has a command line of its own, which imports rich and click: nearly half of its 166 ms. Without it httpx goes on.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

import httpx  # noqa: E402

LARGEST = 256 * 1024
"""Bytes of an answer that are read: a witness is no load."""


class Asker:
    """
    Asks *url* over a connection that it keeps (or one for each probe). Use it in one thread.

    Troubles: refused, reset, eof (the connection ended before an answer), cut (within it), timeout, 4xx, 5xx, other.
    """

    def __init__(self, url: str, timeout: float, kept: bool) -> None:
        self._url, self._timeout, self._kept = url, timeout, kept
        # On this machine nobody certifies an address, and no proxy leads to it: as the engine asks /health there.
        host = httpx.URL(url).host
        secure = url.startswith("https:") and not (host in ("localhost", "::1") or host.startswith("127."))
        # An SSL context costs 24 ms, and plain http needs none. Only what is outside may need the proxy of the environment.
        self._client = httpx.Client(
            verify=secure, timeout=timeout, trust_env=secure, headers={} if kept else {"Connection": "close"},
            limits=httpx.Limits(max_keepalive_connections=1 if kept else 0),
        )  # fmt: skip

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def trouble(self) -> str | None:
        """
        Ask once; None when all is well.

        An app that answers 503 "shutting_down" on a kept connection, and closes it, sends us to whoever accepts now, as it
        sends every client: then that one's answer counts.
        """
        found, sent_on = self._asked()
        return self._asked()[0] if sent_on and self._kept else found

    def _asked(self) -> tuple[str | None, bool]:
        try:
            with self._client.stream("GET", self._url) as answer:
                return self._read(answer)
        except httpx.TimeoutException:
            return "timeout", False
        except httpx.TransportError as error:
            return _word(error), False

    def _read(self, answer: httpx.Response) -> tuple[str | None, bool]:
        body, until = b"", time.monotonic() + self._timeout
        try:
            for part in answer.iter_raw():
                body += part
                if len(body) > LARGEST:
                    break
                if time.monotonic() > until:
                    return "timeout", False
        except httpx.TimeoutException:
            return "timeout", False
        except httpx.TransportError:
            return "cut", False
        if answer.status_code >= 400:
            return f"{answer.status_code // 100}xx", answer.status_code == 503 and _leaves(answer, body)
        return None, False


def _leaves(answer: httpx.Response, body: bytes) -> bool:
    try:
        says = json.loads(body)
    except ValueError:
        return False
    closes = answer.headers.get("connection", "").lower() == "close"
    return closes and isinstance(says, dict) and says.get("status") == "shutting_down"


def _word(error: BaseException) -> str:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ConnectionRefusedError):
            return "refused"
        if isinstance(seen, (ConnectionResetError, BrokenPipeError)):
            return "reset"
        seen = seen.__cause__ or seen.__context__
    return "eof" if isinstance(error, httpx.RemoteProtocolError) and "disconnected" in str(error) else "other"
