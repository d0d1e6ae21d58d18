"""What nodes say, checked: JSON text in, plain values out. Nothing here trusts the other side."""

from __future__ import annotations

import json
import sys
from typing import Any

from deployer.registry.node import Process, Work

VERSION = 1
LARGEST = 64 * 1024
"""Bytes of one message."""
TASKS = 100
LONGEST = 200
"""Characters of an id, a pool, a release."""
POOLS = 100
_MOST = 10**9


class Malformed(ValueError):
    """The message breaks the protocol; the text says how, and fits into a close frame."""


def read(text: bytes | bytearray) -> dict[str, Any]:
    """The JSON object in *text*."""
    try:
        message = json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise Malformed("nested too deeply") from None
    except ValueError:
        raise Malformed("not JSON") from None
    if not isinstance(message, dict):
        raise Malformed("not a JSON object")
    return message


def registration(message: dict[str, Any]) -> tuple[str, Process]:
    """Who registers; the first message of every node."""
    if message.get("type") != "register":
        raise Malformed('the first message must be {"type":"register",…}')
    if message.get("v") != VERSION:
        raise Malformed(f'"v" must be {VERSION}: this registry speaks no other version')
    return _word(message, "id"), Process(
        instance=_word(message, "instance"),
        pools=_pools(message.get("pools")),
        release=_optional_word(message, "release"),
        capacity=_capacity(message.get("capacity")),
        endpoint=_optional_word(message, "endpoint"),
        pid=_number(message, "pid") if message.get("pid") is not None else None,
        leaving=_leaving(message.get("status", "online")),
        yields=message.get("yields") is True,
        work=work(message),
    )


def work(message: dict[str, Any]) -> Work:
    """What the sender is busy with."""
    stuck = message.get("stuck_s")
    if stuck is not None and (isinstance(stuck, bool) or not isinstance(stuck, int | float) or not 0 <= stuck < _MOST):
        raise Malformed('"stuck_s" must be seconds, or null')
    return Work(_number(message, "busy"), _tasks(message.get("tasks")), stuck)


def why(message: dict[str, Any]) -> str | None:
    """Why a node drains, for people."""
    return plain(message.get("why")) or None


def plain(value: object, limit: int = LONGEST) -> str:
    """*value* as text that cannot harm a terminal or a log: printable, one line, not long."""
    text = value if isinstance(value, str) else "" if value is None else str(value)[:limit]
    return "".join(character for character in text[:limit] if character.isprintable())


def _word(message: dict[str, Any], key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST or not value.isprintable():
        raise Malformed(f'"{key}" must be 1 to {LONGEST} printable characters')
    return value


def _optional_word(message: dict[str, Any], key: str) -> str | None:
    return _word(message, key) if message.get(key) is not None else None


def _pools(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > POOLS:
        raise Malformed(f'"pools" must be a list of at most {POOLS} names')
    # Interned: ten thousand nodes name the same few pools.
    return tuple(dict.fromkeys(sys.intern(_word({"pools": pool}, "pools")) for pool in value))


def _capacity(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
        raise Malformed('"capacity" must be a whole number from 1 on, or null')
    return value


def _leaving(value: object) -> bool:
    if value not in ("online", "draining"):
        raise Malformed('"status" must be "online" or "draining"')
    return value == "draining"


def _number(message: dict[str, Any], key: str) -> int:
    value = message.get(key, 0)
    if not isinstance(value, int) or not 0 <= value <= _MOST:
        raise Malformed(f'"{key}" must be a whole number from 0 on')
    return int(value)  # true is 1: `busy` is a yes or no to some apps


def _tasks(value: object) -> tuple[dict[str, Any], ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise Malformed('"tasks" must be a list')
    return tuple(_task(task) for task in value[:TASKS])


def _task(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed('each of "tasks" must be an object')
    return {
        "id": plain(value.get("id")),
        "name": plain(value.get("name")),
        "started_at": _started(value.get("started_at")),
    }


def _started(value: object) -> str | float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value if abs(value) < 1e15 else None  # 1e999 is JSON, and infinite
    return plain(value, 64) or None


def _no_number(_: str) -> None:
    raise ValueError("NaN and Infinity are no JSON")
