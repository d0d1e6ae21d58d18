"""A task as a decorator: functions, coroutines and generators of both kinds, each with its name and signature."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable


def wrap(function: Any, task: Callable[[], Any]) -> Any:
    """*function* with each of its calls inside a fresh `task()`; whatever kind of function it is, it stays that."""
    if inspect.isasyncgenfunction(function):
        return _async_generator(function, task)
    if is_async(function):
        return _coroutine(function, task)
    if inspect.isgeneratorfunction(function):
        return _generator(function, task)
    return _plain(function, task)


def is_async(function: Any) -> bool:
    """Whether calling *function* gives a coroutine; an object with an async `__call__` counts."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _plain(function: Any, task: Callable[[], Any]) -> Any:
    @functools.wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with task():
            return function(*args, **kwargs)

    return inside


def _coroutine(function: Any, task: Callable[[], Any]) -> Any:
    @functools.wraps(function)
    async def inside(*args: Any, **kwargs: Any) -> Any:
        with task():
            return await function(*args, **kwargs)

    return inside


def _generator(function: Any, task: Callable[[], Any]) -> Any:
    @functools.wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with task():
            return (yield from function(*args, **kwargs))

    return inside


def _async_generator(function: Any, task: Callable[[], Any]) -> Any:
    @functools.wraps(function)
    async def inside(*args: Any, **kwargs: Any) -> Any:
        with task():
            items = function(*args, **kwargs)
            try:
                async for item in items:
                    yield item
            finally:
                await items.aclose()

    return inside
