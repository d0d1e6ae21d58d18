"""What `env.service(name)` gives: the service, for the functions of a pipeline, wherever they run."""

from __future__ import annotations

from typing import Any, Callable, Tuple

from deployer.errors import UsageError


class ServiceReference:
    """
    Its attributes are the service's: looked up when they are used, so it may be taken before the service is started. Of a Ray actor
    they are methods, whose results are waited for; such a reference can travel into Ray tasks.
    """

    def __init__(self, name: str, find: Callable[[], Any]) -> None:
        self._name = name
        self._find = find

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        return getattr(self._find(), attribute)

    def __reduce__(self) -> Tuple[Any, ...]:
        found = self._find()
        if isinstance(found, ActorMethods):
            return ActorMethods, found.parts  # which needs nothing of deployer where it arrives
        raise UsageError(
            f'service "{self._name}" lives in the process that submits the job, and cannot travel to another one',
            hint="register it with remote=True, or let the step that calls it run in threads",
        )

    def __repr__(self) -> str:
        return f"<service {self._name}>"


class ActorMethods:
    """The methods of the object in *actor* (hosting.py), each a call to its end. *get* is `ray.get`."""

    def __init__(self, actor: Any, get: Callable[[Any], Any]) -> None:
        self._actor = actor
        self._get = get

    @property
    def parts(self) -> Tuple[Any, ...]:
        return self._actor, self._get

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(method)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._get(self._actor.call.remote(method, args, kwargs))

        return call
