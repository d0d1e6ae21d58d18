"""Counts, and how they are told in Prometheus' text format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0)
"""Seconds."""
Labels = Mapping[str, str]


@dataclass
class Counts:
    """Everything that only ever grows."""

    accepted: int = 0
    messages: int = 0
    replaced: int = 0
    slow_readers: int = 0
    sweeps: int = 0
    repairs: int = 0
    departures: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    offline: list[int] = field(default_factory=lambda: [0] * len(BUCKETS))
    offline_sum: float = 0.0
    offline_count: int = 0

    def went_offline(self, seconds: float) -> None:
        self.offline_count += 1
        self.offline_sum += seconds
        for place, most in enumerate(BUCKETS):
            if seconds <= most:
                self.offline[place] += 1


class Page:
    """One page of metrics, family by family."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def family(self, name: str, kind: str, help: str, samples: Iterable[tuple[Labels, float]]) -> None:
        self._lines += [f"# HELP deployer_registry_{name} {help}", f"# TYPE deployer_registry_{name} {kind}"]
        self._lines += [f"deployer_registry_{name}{_labels(labels)} {value:g}" for labels, value in samples]

    def histogram(self, name: str, help: str, counts: Counts) -> None:
        self.family(name, "histogram", help, ())
        full = f"deployer_registry_{name}"
        for most, count in zip(BUCKETS, counts.offline, strict=True):
            self._lines.append(f'{full}_bucket{{le="{most:g}"}} {count}')
        self._lines += [
            f'{full}_bucket{{le="+Inf"}} {counts.offline_count}',
            f"{full}_sum {counts.offline_sum:.6f}",
            f"{full}_count {counts.offline_count}",
        ]

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"


def page(
    counts: Counts, statuses: Mapping[str, int], pools: Mapping[str, int], open: Mapping[str, int], uptime: float
) -> str:
    """The whole page."""
    made, none = Page(), dict[str, str]()
    made.family("nodes", "gauge", "Known nodes by status.", _by("status", statuses))
    made.family("pool_nodes", "gauge", "Nodes that take work, by pool.", _by("pool", pools))
    made.family("connections", "gauge", "Open connections by what they are.", _by("kind", open))
    made.family("connections_total", "counter", "Connections that nodes opened.", [(none, counts.accepted)])
    made.family("messages_total", "counter", "Messages of nodes.", [(none, counts.messages)])
    made.family("departures_total", "counter", "Nodes that went offline, by how.", _by("kind", counts.departures))
    made.family(
        "replaced_total",
        "counter",
        "Connections that another one of the same node replaced.",
        [(none, counts.replaced)],
    )
    made.family("refused_total", "counter", "Nodes that broke the protocol, by how.", _by("why", counts.refusals))
    made.family("http_answers_total", "counter", "Answers by status code.", _by("code", counts.answers))
    made.family("slow_readers_total", "counter", "Readers of /events that were cut off.", [(none, counts.slow_readers)])
    made.family("sweeps_total", "counter", "Sweeps of the pools.", [(none, counts.sweeps)])
    made.family("sweep_repairs_total", "counter", "What sweeps had to put right.", [(none, counts.repairs)])
    made.histogram(
        "offline_seconds", "From reading that a connection has ended to its node being out of every pool.", counts
    )
    made.family("uptime_seconds", "gauge", "Since the registry started.", [(none, uptime)])
    return str(made)


def _by(label: str, values: Mapping[str, int] | Mapping[int, int]) -> list[tuple[Labels, float]]:
    return [({label: str(key)}, value) for key, value in sorted(values.items())]


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
