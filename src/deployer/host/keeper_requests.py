"""The requests of the keeper's clients that concern its mind, from frames to calls; supervisors/builtin.py is who sends them."""

from __future__ import annotations

from typing import Any, Callable, Dict

from deployer.errors import DeployerError
from deployer.host.supervise import Core
from deployer.model import DrainOrder, Identity, Spec
from deployer.wire.frames import Message


def asked_of(core: Core, request: Message) -> Any:
    """Do as *request* says; what its sender is told. Raises DeployerError for one that nobody knows."""
    known: Dict[str, Callable[[Core, Message], Any]] = {
        "replace": _replace,
        "launch": lambda core, asked: core.launch(asked["deploy"], Spec.from_json(asked["new"])),
        "retire": lambda core, asked: core.retire(asked["deploy"], asked["who"], asked["keep"], _how(asked)),
        "dismiss": lambda core, asked: core.dismiss(asked["deploy"], asked["who"], asked["instance"], _how(asked)),
        "adopt": lambda core, asked: core.adopt(Spec.from_json(asked["spec"]), Identity.from_json(asked["identity"])),
        "confirm": lambda core, asked: core.confirm(asked["instance"]),
    }
    op = str(request.get("op"))
    if op == "record":
        return core.record_of(request["instance"])
    if op == "deadline":
        return core.move_deadline(request["instance"], float(request["deadline"]), str(request.get("who") or ""))
    if op not in known:
        raise DeployerError(f"the keeper does not know {request.get('op')!r}")
    known[op](core, request)
    return True


def _replace(core: Core, asked: Message) -> None:
    new = Spec.from_json(asked["new"]) if asked["new"] else None
    core.replace(asked["deploy"], asked["who"], new, _how(asked), bool(asked.get("confirmed")))


def _how(asked: Message) -> DrainOrder:
    return DrainOrder(**asked["drain"])
