"""The only importer of Ray: whether it is there, and who connects disconnects."""

from __future__ import annotations

import importlib.util
import logging
import os
from contextlib import contextmanager, redirect_stdout
from types import TracebackType
from typing import Any, Iterator, Optional, Type

from deployer.errors import LinkError, UsageError
from deployer.jobs.reach import require_listener

_MISSING = 'ray is not installed: pip install "ray>=2.44"'


def check() -> None:
    """Raise UsageError when Ray is not installed, without the time that its import takes."""
    if importlib.util.find_spec("ray") is None:
        raise UsageError(_MISSING)


def require() -> Any:
    """The module `ray`. UsageError, in one line, when it is not installed."""
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UsageError(_MISSING) from None
    return ray


class Connection:
    """This process's tie to a cluster: `ray` is the module, `ours` whether we made the tie, and so cut it."""

    def __init__(self, ray: Any, ours: bool) -> None:
        self.ray = ray
        self.ours = ours

    def disconnect(self) -> None:
        """
        Cut the tie if it is ours; again, and without one, it does nothing. Ray then ends the actors of this process that are not
        detached, and a cluster that the connecting started here.
        """
        if self.ours and self.ray.is_initialized():
            self.ray.shutdown()
        self.ours = False

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.disconnect()


def connect(
    address: Optional[str] = None, *, namespace: Optional[str] = None, quiet: bool = False, **more: Any
) -> Connection:
    """
    A tie to the cluster at *address*: "auto", "host:port", "ray://host:port"; None: as `ray.init()` has it ($RAY_ADDRESS, a
    cluster that runs here, or a new one in children of this process).

    A Ray that this process has initialised already is used as it is, whatever the arguments say. Says nothing below a warning;
    *quiet*: below an error, and shows no output of workers. *more* is for ray.init. LinkError when no cluster answers.
    """
    ray = require()
    if ray.is_initialized():
        return Connection(ray, ours=False)
    if address or os.environ.get("RAY_ADDRESS"):  # else Ray may begin a cluster of its own
        require_listener(address)
    level = logging.ERROR if quiet else logging.WARNING
    try:
        ray.init(address=address, namespace=namespace, log_to_driver=not quiet, logging_level=level, **more)
    except Exception as error:  # Ray raises some ten kinds, its own and Python's, for a cluster that does not answer
        raise LinkError(
            f"no Ray cluster answers{f' at {address}' if address else ''}",
            cause=" ".join(str(error).split())[:500],
            hint="check the address (`ray status` on the head), and that its Ray is of the same version as ours",
        ) from error
    return Connection(ray, ours=True)


@contextmanager
def quietly() -> Iterator[None]:
    """Keep Ray off stdout: there it prints what happens to its nodes, whatever `log_to_driver` says, between a command's events."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def by_value(ray: Any, *modules: Any) -> None:
    """Have *modules* of ours travel with what is sent to the cluster, so that deployer need not be installed on its nodes."""
    for module in modules:
        ray.cloudpickle.register_pickle_by_value(module)
