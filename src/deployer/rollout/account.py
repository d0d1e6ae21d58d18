"""What the witness saw, in figures: for a whole deploy, and for each of its phases."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Probe:
    """One question: in which phase, when asked and answered (monotonic), and its trouble if the answer was not good."""

    phase: str
    asked: float
    answered: float
    trouble: str | None


@dataclass
class Account:
    """The probes of one deploy, from several threads, until `ended` (monotonic; None while it goes on)."""

    ended: float | None = None

    def __post_init__(self) -> None:
        self._probes: list[Probe] = []
        self._skipped: Counter[str] = Counter()
        self._lock = threading.Lock()

    def note(self, probe: Probe) -> None:
        """*probe* has ended."""
        with self._lock:
            self._probes.append(probe)

    def skip(self, phase: str, count: int) -> None:
        """So many were due, and not asked since one was still in flight."""
        with self._lock:
            self._skipped[phase] += count

    def told(self, served: bool, phases: Sequence[str]) -> dict[str, Any]:
        """
        The figures up to now. `longest_gap_ms` is time without a good answer; it is known to within one probe.

        Where nothing *served* when the deploy began, it cannot be missed before the first good answer: what is before is not
        counted, unless no good answer ever came.
        """
        with self._lock:
            probes, skipped = sorted(self._probes, key=lambda probe: probe.asked), Counter(self._skipped)
        first = next((number for number, probe in enumerate(probes) if probe.trouble is None), 0)
        if not served:
            probes = probes[first:]
        gaps = _gaps(probes, probes[0].asked, self.ended or time.monotonic()) if probes else []
        split = {}
        for phase in phases:
            chosen = [probe for probe in probes if probe.phase == phase]
            if chosen:
                split[phase] = _figures(chosen, skipped[phase], [gap for gap, of in gaps if of == phase])
        return {**_figures(probes, skipped.total(), [gap for gap, _ in gaps]), "phases": split}


def _gaps(probes: Sequence[Probe], began: float, ended: float) -> list[tuple[float, str]]:
    """The times without a good answer; each belongs to the phase of its first bad probe, else of the good one that ended it."""
    good = sorted((probe for probe in probes if probe.trouble is None), key=lambda probe: probe.answered)
    bad = sorted((probe for probe in probes if probe.trouble is not None), key=lambda probe: probe.answered)
    moments = [began, *(probe.answered for probe in good)]
    found = []
    for number, (since, until) in enumerate(pairwise([*moments, max(ended, moments[-1])])):
        at = bisect_right(bad, since, key=lambda probe: probe.answered)
        last = good[number] if number < len(good) else probes[-1]
        first = bad[at] if at < len(bad) and bad[at].answered <= until else last
        found.append((until - since, first.phase))
    return found


def _figures(probes: Sequence[Probe], skipped: int, gaps: Sequence[float]) -> dict[str, Any]:
    kinds = Counter(probe.trouble for probe in probes if probe.trouble is not None)
    good = [probe.answered - probe.asked for probe in probes if probe.trouble is None]
    return {
        "probes": len(probes),
        "failed": kinds.total(),
        "skipped": skipped,
        "kinds": dict(kinds),
        "longest_gap_ms": _ms(max(gaps, default=None)),
        "slowest_ms": _ms(max(good, default=None)),
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)
