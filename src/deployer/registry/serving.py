"""A registry from its start to its end: the socket, TLS, signals."""

from __future__ import annotations

import asyncio
import errno
import resource
import signal
import socket
import ssl
from collections.abc import Callable
from typing import Any

from deployer.errors import PreflightError, UsageError
from deployer.registry.door import Door
from deployer.registry.marks import Marks
from deployer.registry.server import Registry, Say
from deployer.registry.settings import Settings

BACKLOG = 4096
AT_ONCE = 16
"""Connections that are accepted before others are served."""
GOODBYE = 1.0
"""Seconds in which nodes may answer our close frame."""


def serve(settings: Settings, say: Say) -> None:
    """Run a registry until SIGTERM or SIGINT. Raises UsageError or PreflightError before anything was bound or changed."""
    _check(settings)
    _allow_many_files()
    context = _tls(settings)
    with _bind(settings) as listening:
        marks = Marks(settings.state)
        try:
            with asyncio.Runner() as runner:
                runner.run(_serve(settings, listening, context, marks, say))
        finally:
            marks.close()


async def _serve(
    settings: Settings, listening: socket.socket, context: ssl.SSLContext | None, marks: Marks, say: Say
) -> None:
    registry, loop = Registry(settings, marks, say), asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: say("registry.trouble", _trouble(context)))
    leave = asyncio.Event()
    server = await loop.create_server(
        lambda: Door(registry), sock=listening, backlog=AT_ONCE, ssl=context,
        ssl_handshake_timeout=settings.register_within if context else None,
    )  # fmt: skip
    listening.listen(BACKLOG)  # asyncio accepts as many at once as its backlog, and so must have a small one
    _on_signals(loop, leave.set, leave.set if context is None else lambda: _reload(settings, context, say))
    say("registry.started", _started(settings, listening, registry))
    await leave.wait()
    say("registry.stopping", {"connections": len(registry.links)})
    server.close()
    registry.end_all()
    try:
        async with asyncio.timeout(GOODBYE):
            await registry.emptied.wait()
    except TimeoutError:
        registry.abort_all()
    say("registry.stopped", {})


def _check(settings: Settings) -> None:
    if settings.timeout <= settings.heartbeat:
        raise UsageError(
            "--timeout must be longer than --heartbeat",
            cause="every node would be taken for dead between two heartbeats",
        )
    if not _is_loopback(settings.host) and settings.tokens.admin is None:
        raise UsageError(
            f"{settings.host} can be reached by others, and there is no admin's token",
            cause="whoever gets there could drain every node",
            hint="set DEPLOYER_REGISTRY_ADMIN_TOKEN or --admin-token-file (and a node's token), or --listen 127.0.0.1:7070",
        )


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host == "::1" or host.startswith("127.")


def _bind(settings: Settings) -> socket.socket:
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # IPv4 first: most who say localhost mean 127.0.0.1.
        family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise PreflightError(
            f"{settings.host} is no address of this machine", cause=error.strerror or str(error)
        ) from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setblocking(False)
        listening.bind(address)
        listening.listen(AT_ONCE)
    except OSError as error:
        listening.close()
        raise PreflightError(
            f"cannot listen on {_shown(settings.host, settings.port)}", cause=error.strerror or str(error),
            state="the registry has not started", hint=_way_out(error, settings.port),
        ) from None  # fmt: skip
    return listening


def _way_out(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"who has it: ss -ltnp 'sport = :{port}'; or another --listen"
    if error.errno == errno.EACCES:
        return "--listen with a port from 1024 on"
    return "--listen with an address of this machine"


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError("the certificate or its key cannot be used", cause=str(error)) from None
    return context


def _reload(settings: Settings, context: ssl.SSLContext, say: Say) -> None:
    assert settings.tls_cert is not None
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
        say("registry.reloaded", {"what": "certificate"})
    except (OSError, ssl.SSLError) as error:
        say("registry.trouble", {"what": "the old certificate stays in use", "why": str(error)})


def _on_signals(loop: asyncio.AbstractEventLoop, leave: Callable[[], Any], reload: Callable[[], Any]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, reload)


def _started(settings: Settings, listening: socket.socket, registry: Registry) -> dict[str, Any]:
    host, port = listening.getsockname()[:2]
    state = str(settings.state) if settings.state else None
    return {
        "listen": _shown(host, port),
        "tls": settings.tls_cert is not None,
        "state": state,
        "marked": len(registry.nodes),
    }


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _trouble(context: dict[str, Any]) -> dict[str, Any]:
    error = context.get("exception")
    return {"what": str(context.get("message")), "why": f"{type(error).__name__}: {error}" if error else None}


def _allow_many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (OSError, ValueError):
        pass  # macOS has another limit below this one: then the soft one it is
