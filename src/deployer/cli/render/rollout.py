"""What a rollout says of itself: which hosts, which batch, how long it looks on, why it stopped. Pure, as steps.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deployer.cli.render import text

Event = Mapping[str, Any]
Headed = tuple[str, str]
_MOST = 6


def headed(event: Event) -> Headed | None:
    """The head and the words of the line for *event*; None where it is no event of a rollout over several hosts."""
    make = _LINES.get(str(event.get("event")))
    return make(event) if make else None


def _started(event: Event) -> Headed | None:
    hosts, batches = event.get("hosts") or [], event.get("batches") or []
    if len(hosts) < 2:
        return None
    canary = int(bool(event.get("canary")))
    after = len(batches) - canary
    parts = [
        str(len(hosts)),
        f"canary {_names(batches[0])}" if canary and batches else None,
        f"{'then ' * canary}{after} batch{'es' * (after != 1)}" if after > 0 else None,
        _list(event, "unchanged", "already there"),
        _list(event, "unreachable", "not reached"),
    ]
    return "hosts", text.joined(*parts)


def _batch_started(event: Event) -> Headed | None:
    hosts = event.get("hosts") or []
    if event.get("what") == "canary":
        return "batch", text.joined(f"{event.get('batch')}/{event.get('of')}", f"canary {_names(hosts)}")
    if event.get("of") == 1 and len(hosts) < 2:
        return None
    return "batch", text.joined(f"{event.get('batch')}/{event.get('of')}", text.plural(len(hosts), "host"), _few(hosts))


def _batch_finished(event: Event) -> Headed | None:
    done, failed = _count(event.get("done")), _count(event.get("failed"))
    if not failed and event.get("of") == 1:
        return None  # the result says it in the next line
    words = text.joined(f"{done} done", f"{failed} failed" if failed else None)
    return "batch", f"{event.get('batch')}/{event.get('of')} ended: {words}"


def _bake_started(event: Event) -> Headed:
    return "bake", f"watching {_names(event.get('hosts') or [])} for {text.took(event.get('seconds'))}"


def _bake_finished(event: Event) -> Headed:
    bad = text.joined("FAILED", text.one_line(event.get("reason") or "it does not serve as it should", 200))
    return ("bake", "ok") if event.get("ok") is not False else ("bake", bad)


def _stopped(event: Event) -> Headed:
    failed = event.get("failed") or []
    return "stop", text.joined(
        str(event.get("reason") or "the rollout goes no further"), _names(failed) if failed else None
    )


def _list(event: Event, key: str, words: str) -> str | None:
    hosts = event.get(key) or []
    return f"{len(hosts)} {words}: {_names(hosts)}" if hosts else None


def _names(hosts: Sequence[object]) -> str:
    return text.names(list(hosts), _MOST)


def _few(hosts: Sequence[object]) -> str | None:
    return _names(hosts) if len(hosts) <= _MOST else None


def _count(value: object) -> int:
    return len(value) if isinstance(value, list) else value if isinstance(value, int) else 0


_LINES = {
    "rollout.started": _started,
    "batch.started": _batch_started,
    "batch.finished": _batch_finished,
    "bake.started": _bake_started,
    "bake.finished": _bake_finished,
    "rollout.stopped": _stopped,
}
