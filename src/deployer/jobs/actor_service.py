"""A service that is a Ray actor, tied to this process: Ray ends it when this process has died, and never starts it again."""

from __future__ import annotations

from typing import Any, List, Optional

from deployer.jobs import closing, cluster, hosting, identity, reference, work
from deployer.jobs.closing import Closed, described
from deployer.jobs.reference import ActorMethods
from deployer.jobs.spec import ServiceSpec

_ANSWER = 5.0
"""Seconds beyond its own limits in which an actor must tell how its service ended; and for it to die when it is killed."""
_CLOSING = {"concurrency_group": "closing"}


def prepare(ray: Any) -> None:
    """What the library runs on the cluster travels with it."""
    cluster.by_value(ray, closing, hosting, identity, reference, work)


class ActorService:
    def __init__(self, spec: ServiceSpec, ray: Any) -> None:
        self._spec = spec
        self._ray = ray
        self._actor: Any = None
        self._who: Optional[identity.Identity] = None

    @property
    def target(self) -> Any:
        return ActorMethods(self._actor, self._ray.get)

    def start(self) -> None:
        """Create the actor, build the service in it. Raises what its class raises, or TimeoutError; the actor is killed then."""
        spec = self._spec
        kind = type(getattr(spec.cls, "__name__", "Service"), (hosting.Host,), {})  # Ray shows it: ray::ModelService
        options = {"max_restarts": 0, "max_task_retries": 0, **spec.options, "concurrency_groups": {"closing": 1}}
        self._actor = self._ray.remote(**options)(kind).remote()
        try:
            built = self._actor.build.remote(spec.cls, spec.args, spec.kwargs)
            self._who = self._ray.get(built, timeout=spec.ready_within)
        except BaseException as error:
            self._kill()
            raise self._plain(error) from error

    def _plain(self, error: BaseException) -> BaseException:
        exceptions = self._ray.exceptions
        if isinstance(error, exceptions.GetTimeoutError):
            return TimeoutError(
                f"its actor was not ready within {self._spec.ready_within:g} s: "
                "its class takes longer (ready_within), or the cluster has no room for it (ray status)"
            )
        if isinstance(error, exceptions.RayTaskError):
            cause: Optional[BaseException] = getattr(error, "cause", None)
            return cause or error
        return error

    def left(self) -> List[str]:
        """What is there of one that could not be built."""
        still = self._still_there() if self._actor is not None else None
        return [still] if still else []

    def close(self) -> Closed:
        """End the service in its actor, then the actor, whatever the first came to; and see it dead."""
        closed = self._closed()
        self._kill()
        still = self._still_there()
        if still is None:
            return closed._replace(running=False)
        return closed._replace(running=True, error=f"{closed.error}; {still}" if closed.error else still)

    def _closed(self) -> Closed:
        limit = 2 * self._spec.cleanup_timeout + _ANSWER
        try:
            answer = self._actor.close.options(**_CLOSING).remote(self._spec.cleanup_timeout)
            return Closed(*self._ray.get(answer, timeout=limit))
        except self._ray.exceptions.GetTimeoutError:
            return Closed(True, False, True, limit, f"its actor did not answer within {limit:g} s, and was killed")
        except self._ray.exceptions.RayActorError as error:
            return Closed(False, False, False, 0.0, f"its actor had died: {_reason(error)}")
        except Exception as error:
            return Closed(False, False, True, 0.0, f"its actor could not be asked: {described(error)}")

    def _kill(self) -> None:
        try:
            self._ray.kill(self._actor, no_restart=True)
        except Exception:  # it has died, or the cluster has: _still_there looks
            pass

    def _still_there(self) -> Optional[str]:
        """What is left of the actor, if there is something: Ray knows, and where it ran on this machine, the process table."""
        try:
            self._ray.get(self._actor.outlive.options(**_CLOSING).remote(), timeout=_ANSWER)
        except self._ray.exceptions.RayActorError:
            pass
        except self._ray.exceptions.GetTimeoutError:
            return f"its actor still lives {_ANSWER:g} s after it was killed"
        except Exception as error:
            return f"nobody knows whether its actor is dead: {described(error)}"
        if self._who and not identity.gone(self._who, _ANSWER):
            return f"its actor's process {self._who[1]} still runs"
        return None


def _reason(error: BaseException) -> str:
    """Ray's messages are long, and the reason is at their end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "died" in line.lower() or "killed" in line.lower()]
    return (telling or lines or [type(error).__name__])[-1].split(". ")[0]
