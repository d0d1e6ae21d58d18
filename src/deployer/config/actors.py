"""Ray in `deploy.toml`: the address of a cluster, and what an instance needs of its node."""

from __future__ import annotations

import math
import re
from typing import Any

from deployer.config.rejected import Rejected, string

DEFAULTS: dict[str, Any] = {"num_cpus": 0, "num_gpus": 0, "resources": {}, "max_concurrency": 1}


def address(value: object) -> str:
    """ "auto", "host:port" of the head, or "ray://host:port" of its client server."""
    hint = 'write {key} = "auto", "head.example.com:6379" or "ray://head.example.com:10001"'
    text = string(value, "address", hint)
    found = re.fullmatch(r"(ray://)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", text)
    if text != "auto" and not (found and 0 < int(found[3]) < 65536):
        raise Rejected("not the address of a Ray cluster", hint)
    return text


def placement(value: object) -> dict[str, Any] | None:
    """What an instance needs of its node; None where the service is no Ray actor."""
    hint = "write ray = true, or ray = { num_cpus = 1, resources = { gpu_node = 1 } }"
    if isinstance(value, bool) or value is None:
        return dict(DEFAULTS, resources={}) if value else None
    if not isinstance(value, dict):
        raise Rejected("neither true nor a table", hint)
    unknown = [name for name in value if name not in DEFAULTS]
    if unknown:
        raise Rejected(f"{str(unknown[0])[:40]!r} is not known here", f"known here: {', '.join(DEFAULTS)}")
    found = {**DEFAULTS, "resources": {}, **value}
    if not isinstance(found["resources"], dict):
        raise Rejected("resources is not a table", hint)
    amounts = {**found["resources"], **{name: found[name] for name in ("num_cpus", "num_gpus")}}
    for name, amount in amounts.items():
        if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not 0 <= amount < math.inf:
            raise Rejected(f"{str(name)[:40]} is not a number of zero or more", hint)
    at_once = found["max_concurrency"]
    if isinstance(at_once, bool) or not isinstance(at_once, int) or not 1 <= at_once <= 1000:
        raise Rejected("max_concurrency is not a whole number from 1 to 1000", hint)
    return found
