"""The tie of one command to a Ray cluster: made within a bounded time, cut at the end."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deployer.config.model import Config
from deployer.errors import DeployerError, LinkError
from deployer.jobs import cluster
from deployer.jobs.reach import meant, require_listener
from deployer.rollout.raytarget.packing import engine

CONNECT_WITHIN = 45.0
"""Seconds for Ray's own handshake, the upload of the release included."""
STATE = "nothing was changed by this call"


def host_of(config: Config) -> str:
    """How events and tables name the cluster."""
    return "ray" if config.ray == "auto" else str(config.ray)


@contextmanager
def connected(config: Config, runtime_env: dict[str, Any] | None = None) -> Iterator[Any]:
    """
    The module `ray`, connected, in the app's namespace; what is local in *runtime_env* has been uploaded.

    Raises UsageError without Ray, LinkError when no cluster answers in time.
    """
    cluster.require()
    probe(config)
    made: list[cluster.Connection] = []
    with cluster.quietly(), _env(config, runtime_env) as env:
        _within(CONNECT_WITHIN, config, lambda: made.append(_connection(config, env)))
        with made[0] as connection:
            yield connection.ray


@contextmanager
def _env(config: Config, given: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """*given*; over the client server our other half, on the cluster, must at least know our classes."""
    if given is not None or not str(config.ray).startswith("ray://"):
        yield given or {}
        return
    with tempfile.TemporaryDirectory(prefix="deployer-ray-") as directory:
        yield {"py_modules": [str(engine(Path(directory))[0])]}


def probe(config: Config) -> None:
    """Return when a cluster listens where the target's should be, or where only Ray can tell. LinkError."""
    try:
        require_listener(config.ray)
    except LinkError as error:
        raise _unreachable(config, f"{meant(config.ray)}: {error.cause}") from error


def _connection(config: Config, runtime_env: dict[str, Any]) -> cluster.Connection:
    try:
        return cluster.connect(config.ray, namespace=config.app, quiet=True, runtime_env=runtime_env)
    except LinkError as error:
        raise _unreachable(config, str(error.cause)) from error


def _within(seconds: float, config: Config, step: Any) -> None:
    """*step*, in a thread: a head that is there and does not answer holds Ray's own call for as long as it likes."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            step()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="ray.init", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise _unreachable(config, f"it did not answer within {seconds:g} s")
    if raised:
        raise raised[0]


def _unreachable(config: Config, cause: str) -> DeployerError:
    return LinkError(
        f"the Ray cluster of target {config.target_name} could not be reached", cause=cause, state=STATE,
        hint="look at `ray status`; the Ray here must be of the cluster's own version",
    )  # fmt: skip
