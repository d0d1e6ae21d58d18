"""Uploads under way: a bar for each of a few hosts, a sum over many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployer.cli.render import text
from deployer.cli.render.lines import Layout, Line

_BARS = 4
_WORTH_SHOWING_S = 0.3
_WIDTH = 12


@dataclass(frozen=True)
class Sent:
    """How far one host's upload is, in bytes and bytes a second, and when it was first heard of (monotonic)."""

    sent: int
    total: int
    rate: float
    since: float


class Uploads:
    """Remembers the last `upload.progress` of each host until it is through."""

    def __init__(self) -> None:
        self._hosts: dict[str, Sent] = {}

    def note(self, event: Mapping[str, Any], now: float) -> None:
        """Take `upload.progress`, and what ends an upload, in."""
        host = str(event.get("host") or "local")
        if event.get("event") == "upload.progress":
            numbers = (int(event.get("bytes_sent") or 0), int(event.get("bytes_total") or 0))
            since = self._hosts[host].since if host in self._hosts else now
            # A new dict each time: rich draws from a thread of its own.
            self._hosts = {**self._hosts, host: Sent(*numbers, float(event.get("rate_bps") or 0), since)}
        elif event.get("event") in ("upload.finished", "stage.finished", "host.finished") and host in self._hosts:
            self._hosts = {name: sent for name, sent in self._hosts.items() if name != host}

    def seconds(self, now: float) -> float:
        """How long the oldest of them has been under way."""
        return max((now - sent.since for sent in self._hosts.values()), default=0.0)

    def lasting(self, now: float) -> bool:
        """Whether one takes long enough to be worth a look."""
        return self.seconds(now) > _WORTH_SHOWING_S

    def rows(self, layout: Layout, paint_bar: bool = True) -> list[str]:
        """A row for each of up to four hosts, else one for all."""
        hosts = self._hosts
        if not hosts:
            return []
        if len(hosts) <= _BARS:
            return [layout.text(Line(host, "upload", "", "", _words(sent, paint_bar))) for host, sent in hosts.items()]
        listed = list(hosts.values())
        whole = Sent(sum(s.sent for s in listed), sum(s.total for s in listed), sum(s.rate for s in listed), 0.0)
        return [layout.headed("upload", f"{_words(whole, paint_bar)} · to {len(hosts)} hosts")]


def _words(sent: Sent, with_bar: bool) -> str:
    share = min(1.0, sent.sent / sent.total) if sent.total > 0 else 0.0
    full = round(share * _WIDTH)
    bar = f"{'█' * full}{'░' * (_WIDTH - full)} " if with_bar else ""
    rate = f"{text.size(sent.rate)}/s" if sent.rate else None
    return bar + text.joined(f"{text.size(sent.sent)} of {text.size(sent.total)}", rate)
