"""What became of requests, in figures: for the whole time, and for each part of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from load_answer import Answer

CLASSES = ("refused", "reset", "eof_fresh", "eof_reused", "cut", "5xx", "timeout", "other")
"""How a request may be lost. `eof_*`: the connection ended in order, before a byte of the answer; `cut`: within it."""
EXAMPLES = 3


class Record:
    """One request: when it was due and done (monotonic), over which kind of connection, and its loss if it was lost."""

    __slots__ = ("detail", "done", "due", "kind", "loss", "release", "reused")

    def __init__(self, due: float, kind: str, reused: bool) -> None:
        self.due, self.kind, self.reused = due, kind, reused
        self.done = due
        self.loss: str | None = None
        self.detail = ""
        self.release: str | None = None

    def lost(self, loss: str, detail: str) -> None:
        self.loss, self.detail = loss, detail[:200]

    def answered(self, answer: Answer) -> None:
        """A whole answer: who gave it, and whether it is one that a client can use."""
        if answer.status >= 400:
            self.lost("5xx" if answer.status >= 500 else "other", f"{answer.status} {answer.body[:100]!r}")
        try:
            self.release = str(json.loads(answer.body)["release"])
        except (ValueError, KeyError, TypeError):
            self.release = None


def figures(records: Sequence[Record], windows: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Of what was due within *windows*. A stall is time without a good quick answer, as far as it lies in one of them."""
    since = windows[0][0]
    chosen = [record for record in records if any(begin <= record.due < end for begin, end in windows)]
    quick = [record for record in chosen if record.kind != "slow"]
    good = sorted(record.done - record.due for record in quick if record.loss is None)
    lost = [record for record in chosen if record.loss is not None]
    return {
        "seconds": round(sum(end - begin for begin, end in windows), 3),
        "sent": len(chosen),
        "lost": len(lost),
        "kinds": _kinds(chosen),
        "losses": {name: _loss([record for record in lost if record.loss == name], since) for name in CLASSES},
        "latency_ms": {name: _share(good, share) for name, share in _SHARES.items()},
        "longest_stall_ms": round(1000 * max(_stall(records, begin, end) for begin, end in windows), 1),
        "releases": dict(Counter(record.release for record in chosen if record.release is not None)),
    }


_SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


def _kinds(records: Sequence[Record]) -> dict[str, dict[str, int]]:
    kinds = ("fresh", "kept", "slow")
    of = {kind: [record for record in records if record.kind == kind] for kind in kinds}
    return {
        kind: {"sent": len(found), "lost": sum(record.loss is not None for record in found)}
        for kind, found in of.items()
    }


def _loss(records: list[Record], since: float) -> dict[str, Any]:
    records.sort(key=lambda record: record.due)
    examples = [
        {"at_s": round(one.due - since, 3), "connection": one.kind, "reused": one.reused, "detail": one.detail}
        for one in records[:EXAMPLES]
    ]
    return {"count": len(records), "examples": examples}


def _share(ordered: Sequence[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)


def _stall(records: Sequence[Record], since: float, until: float) -> float:
    """The longest time in which no quick request was answered well."""
    good = (record.done for record in records if record.loss is None and record.kind != "slow")
    moments = [since, *sorted(min(max(at, since), until) for at in good), until]
    return max((b - a for a, b in pairwise(moments)), default=0.0)
