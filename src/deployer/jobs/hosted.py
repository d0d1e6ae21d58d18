"""The services of the run that this process is a part of, called from another process on the same host."""

from __future__ import annotations

import json
import os
from typing import Any, Callable

from deployer.errors import UsageError
from deployer.jobs import calls

VARIABLE = "DEPLOYER_SERVICES"
"""In the environment of a job: where each of its services that is a class answers, as JSON."""


class HostedService:
    """Its attributes are the service's methods; what they take and give travels as pickles, over a socket of this host."""

    def __init__(self, name: str, path: str) -> None:
        self._name = name
        self._path = path

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(method)

        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                ok, answer = calls.call(self._path, method, args, kwargs)
            except (OSError, EOFError) as error:
                raise ConnectionError(f"service {self._name} does not answer: it has gone ({error!r})") from error
            if ok:
                return answer
            raise answer

        return call

    def __reduce__(self) -> Any:
        return HostedService, (self._name, self._path)

    def __repr__(self) -> str:
        return f"<service {self._name}>"


def service(name: str) -> HostedService:
    """
    The service *name* of the run of `deployer run`, or of the RemoteEnvironment, whose job this process is part of.

    Raises UsageError outside of a job, and for a name that is none of its classes.
    """
    known = json.loads(os.environ.get(VARIABLE) or "{}")
    if name not in known:
        raise UsageError(
            f'there is no service "{name}" here',
            cause=f"this job has: {', '.join(known)}" if known else "this process is not part of a job with services",
            hint="in the process that has the environment, env.service(name) is what you want",
        )
    return HostedService(name, known[name])
