"""
A job as plain JSON: what a RemoteEnvironment sends, and what is made of it there. Code is named by its import path.

{"name", "workers", "task_grace", "timeout", "services": {name: {"args", "kwargs"}},
 "pipelines": [{"source": "mod:fn" | [items], "ordered", "chunk", "window", "retries", "steps": [[what, "mod:fn", options]]}]}
"""

from __future__ import annotations

import importlib
import json
from typing import Any, Callable, Dict, List, Optional, Tuple

from deployer.errors import UsageError
from deployer.jobs.environment import LocalEnvironment
from deployer.jobs.report import JobError

Plan = Dict[str, Any]


def name_of(fn: Any, what: str) -> str:
    """The import path of *fn*, "pkg.mod:name". Raises UsageError for what another process could not find by it."""
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    if not module or not name or "<" in name:
        raise UsageError(
            f"{what} cannot be sent to another host: {fn!r} has no name there",
            cause="code travels as part of the project and is found by its import path; a lambda or an inner function has none",
            hint="write it as a function of a module of the project",
        )
    if module == "__main__":
        raise UsageError(
            f"{what} cannot be sent to another host: {name} belongs to the program that was started",
            cause="its module is called __main__, here only",
            hint="move it into a module of the project and import it from there",
        )
    if _found_here(f"{module}:{name}") is not fn:
        raise UsageError(
            f"{what}: {module}:{name} is something else there", hint="give the function itself its own name"
        )
    return f"{module}:{name}"


def _found_here(name: str) -> Any:
    try:
        return found(name)
    except (ImportError, AttributeError):
        return None


def found(name: str) -> Any:
    """What *name*, "pkg.mod:name", leads to."""
    module, _, path = name.partition(":")
    here: Any = importlib.import_module(module)
    for part in path.split("."):
        here = getattr(here, part)
    return here


def plain(value: Any, what: str) -> Any:
    """*value*, if JSON can carry it unchanged. Raises UsageError."""
    try:
        if json.loads(json.dumps(value)) == value:
            return value
        why = "JSON would make something else of it"
    except RecursionError:
        why = "it is nested too deeply"
    except (TypeError, ValueError) as error:
        why = str(error)
    raise UsageError(
        f"{what} cannot be sent to another host as JSON", cause=why, hint="numbers, texts, lists and dicts can"
    )


def perform(plan: Plan) -> Tuple[Dict[str, Any], Optional[BaseException]]:
    """Do what *plan* says, here: the report, and the error that ended it."""
    env = LocalEnvironment(plan["name"], workers=plan["workers"], task_grace=plan["task_grace"])
    for wanted in plan["pipelines"]:
        _add(env, wanted)
    try:
        return env.submit(timeout=plan["timeout"]).to_json(), None
    except JobError as error:
        return error.report.to_json(), error


def _add(env: LocalEnvironment, wanted: Plan) -> None:
    source: Any = wanted["source"]
    options = {name: wanted[name] for name in ("ordered", "chunk", "window", "retries")}
    pipeline = env.from_batch(found(source) if isinstance(source, str) else source, **options)
    for what, name, more in wanted["steps"]:
        add: Callable[..., Any] = getattr(pipeline, what)
        add(found(name), **more)


def _items(source: Any, what: str) -> List[Any]:
    try:
        return list(source)
    except TypeError:
        raise UsageError(
            f"{what} is {source!r}, of which nothing can be taken", hint="a list, or a function of the project"
        ) from None


class Written:
    """A pipeline that is written down, to be performed elsewhere: as `Pipeline`, with functions that have import paths."""

    def __init__(self, source: Any, options: Dict[str, Any]) -> None:
        what = "the source of from_batch"
        self._plan: Plan = {
            "source": name_of(source, what) if callable(source) else plain(_items(source, what), what),
            **options,
        }
        self._steps: List[List[Any]] = []

    def map(
        self, fn: Callable[[Any], Any], *, executor: Optional[str] = None, workers: Optional[int] = None
    ) -> "Written":
        """As `Pipeline.map`."""
        return self._add("map", fn, {"executor": executor, "workers": workers})

    def filter(self, fn: Callable[[Any], Any]) -> "Written":
        """As `Pipeline.filter`."""
        return self._add("filter", fn, {})

    def sink(self, fn: Callable[[Any], Any]) -> "Written":
        """As `Pipeline.sink`: it runs there."""
        return self._add("sink", fn, {})

    def _add(self, what: str, fn: Callable[[Any], Any], options: Dict[str, Any]) -> "Written":
        if self._steps and self._steps[-1][0] == "sink":
            raise UsageError("nothing comes after a sink", hint="begin another pipeline with env.from_batch")
        self._steps.append([what, name_of(fn, what), options])
        return self

    def to_json(self) -> Plan:
        return {**self._plan, "steps": self._steps}
