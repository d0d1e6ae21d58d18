"""The registry for a person: a line for each thing that happened, a table of all nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployer.cli.render import text
from deployer.cli.render.paint import Paint

_STYLES = {"online": "good", "resumed": "good", "draining": "warn", "offline": "bad", "trouble": "bad", "swept": "warn"}


def event_line(event: Mapping[str, Any], paint: Paint) -> str:
    """One event of the log: when, who, what, and what belongs to it."""
    group, _, what = event["event"].partition(".")
    who = event["node"] if group == "node" else group
    facts = _of_node(event) if group == "node" else _of_registry(what, event)
    moment = text.moment(event["time"])
    clock = moment.astimezone().strftime("%H:%M:%S") if moment else ""
    return f"{clock}  {text.one_line(who, 60):<16}  {paint(f'{what:<9}', _STYLES.get(what, 'dim'))}  {facts}".rstrip()


def _of_node(event: Mapping[str, Any]) -> str:
    pools = ", ".join(event.get("pools") or ())
    busy = event.get("busy")
    return text.one_line(
        text.joined(
            event.get("reason"), pools, event.get("release"), f"busy {busy}" if busy else None, event.get("address")
        ),
        300,
    )


def _of_registry(what: str, event: Mapping[str, Any]) -> str:
    if what == "started":
        kept = f"marks in {event['state']}" if event.get("state") else "marks are not kept"
        return text.joined(f"listens on {event['listen']}", "TLS" if event.get("tls") else None, kept)
    facts = {key: value for key, value in event.items() if key not in ("v", "time", "event") and value is not None}
    return text.one_line(text.joined(*(f"{key} {value}" for key, value in facts.items())), 300)
