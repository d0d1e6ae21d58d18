"""What each finished step says, as a line of the human view. Pure: the renderer decides where it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from deployer.cli.render import drain, run, text
from deployer.cli.render.json import encode
from deployer.cli.render.lines import Line

Event = Mapping[str, Any]
_TAIL_LINES = 20


class Steps:
    """Turns events into lines; remembers per host only what a later line repeats (a pid, when a revert began)."""

    def __init__(self) -> None:
        self._pids: dict[str, object] = {}
        self._reverts: dict[str, object] = {}
        self._lines: dict[str, Callable[[Event, str], Line | None]] = {
            "build.finished": self._plain_step,
            "stage.finished": self._stage,
            "install.finished": self._plain_step,
            "check.finished": self._plain_step,
            "rehearse.finished": self._plain_step,
            "last_call.started": lambda event, host: Line(host, "last call", "...", "", "the ceiling is near"),
            "last_call.finished": lambda event, host: Line(
                host, "last call", "ok" if event.get("ok") else "FAILED", "", str(event.get("text") or "")
            ),
            "drain.extended": lambda event, host: Line(
                host, "drain", "more", text.took(event.get("by_s")), _moved(event, "may take {ceiling} in all")
            ),
            "drain.cut_short": lambda event, host: Line(host, "drain", "now", "", _moved(event, "is ended now")),
            "room.waiting": lambda event, host: Line(host, "wait", "...", "", str(event.get("text") or "")),
            "pool.joined": lambda event, host: Line(host, "pool", "ok", "", _pool(event)),
            "pool.left": lambda event, host: Line(
                host, "pool", "ok", "", f"no traffic for {_listed(event, 'addresses')}"
            ),
            "lock.waiting": lambda event, host: Line(host, "lock", "...", "", _behind(event)),
            "abort.asked": lambda event, host: Line(host, "abort", "...", "", f"asked by {event.get('who')}"),
            "resumed": lambda event, host: Line(host, "resume", "ok", "", str(event.get("text"))),
            "drain.finished": lambda event, host: drain.finished(event),
            "start.finished": self._start,
            "ready": self._ready,
            "link.lost": lambda event, host: Line(
                host, "link", "lost", "", text.joined("the deploy goes on there; trying again", _cause(event))
            ),
            "link.restored": lambda event, host: Line(
                host, "link", "ok", text.took(event.get("after_s")), "following it again"
            ),
            "revert.started": self._revert_started,
            "revert.finished": self._revert_finished,
            **run.LINES,
        }

    def line(self, event: Event) -> Line | None:
        """The line for *event*, or None where a person needs none."""
        make = self._lines.get(str(event.get("event")))
        return make(event, host_of(event)) if make else None

    def _plain_step(self, event: Event, host: str) -> Line:
        return Line(host, str(event["event"]).partition(".")[0], "ok", text.took(event.get("took_s")))

    def _stage(self, event: Event, host: str) -> Line:
        sent = event.get("bytes_sent")
        detail = text.joined(
            text.plural(event["files"], "file") if isinstance(event.get("files"), int) else None,
            text.size(event["bytes_total"]) if isinstance(event.get("bytes_total"), int) else None,
            None if sent is None else f"{text.size(sent)} sent" if sent else "nothing to send",
        )
        return Line(host, "stage", "ok", text.took(event.get("took_s")), detail)

    def _start(self, event: Event, host: str) -> None:
        # Alive is not ready: a person hears of it once it serves.
        self._pids[host] = event.get("pid")

    def _ready(self, event: Event, host: str) -> Line:
        pid = event.get("pid") or self._pids.get(host)
        does = f"answers as {event.get('release')}" if event.get("probes") else f"runs {event.get('release')}"
        detail = does if event.get("release") else "serves"
        words = f"pid {pid} {detail}" if pid else detail
        return Line(host, "start", "ok", text.took(event.get("took_s")), text.joined(event.get("service"), words))

    def _revert_started(self, event: Event, host: str) -> Line:
        self._reverts[host] = event.get("time")
        reason = text.clean(str(event.get("reason") or "the new release did not become ready")).splitlines()
        if taken_back(event):
            return Line(host, "revert", "...", "", f"{reason[0]}: back to {event['back']}")
        if event.get("aborted"):
            return Line(host, "abort", "ok", "", _way_back(event))
        tail = [str(item) for item in event.get("log_tail") or []][-_TAIL_LINES:]
        return Line(host, "ready", "FAILED", "", reason[0] if reason else "", (*reason[1:], *tail))

    def _revert_finished(self, event: Event, host: str) -> Line | None:
        if not event.get("release"):
            return None  # nothing ran before: there was nothing to go back to
        spent = text.took(text.between(self._reverts.get(host), event.get("time")))
        release = event.get("release") or "the old release"
        if event.get("ok") is False:
            return Line(host, "revert", "FAILED", spent, f"{release} did not start either")
        return Line(host, "revert", "ok", spent, f"back on {release}")


def taken_back(event: Event) -> bool:
    """Whether a release that served goes because of other hosts; a host that reverts by itself says whether it was aborted."""
    return event.get("event") == "revert.started" and "aborted" not in event and bool(event.get("back"))


def _pool(event: Event) -> str:
    left = f"none for {_listed(event, 'left')}" if event.get("left") else None
    return text.joined(f"traffic for {_listed(event, 'addresses')}", left)


def _listed(event: Event, key: str) -> str:
    return ", ".join(map(str, event.get(key) or [])) or "nobody"


def _cause(event: Event) -> str | None:
    return text.one_line(event["cause"], 120) if event.get("cause") else None


def _behind(event: Event) -> str:
    behind = event.get("behind") or {}
    held = text.took(behind.get("for_s"))
    return text.joined(
        f"waiting for {behind.get('kind')} {behind.get('deploy')} by {behind.get('who')}",
        f"at {behind['step']}" if behind.get("step") else None, f"under way for {held}" if held else None,
    )  # fmt: skip


def _way_back(event: Event) -> str:
    if not event.get("back"):
        return "the new release is stopped; nothing ran before"
    if event.get("started"):
        return f"the new release is stopped, then {event['back']} starts again"
    return f"{event['back']} starts again once the old process has finished its work"


def _moved(event: Event, what: str) -> str:
    ceiling = text.took(event.get("ceiling_s"))
    return f"pid {event.get('pid')} {what.format(ceiling=ceiling)}, asked by {event.get('who')}"


def host_of(event: Event) -> str:
    return str(event.get("host") or "local")


def in_detail(event: Event) -> str:
    """Any event at all, with every field it has: for `-v`, and for events newer than this client."""
    skip = ("v", "time", "deploy", "host", "event")
    fields = text.joined(*(f"{key} {_plainly(value)}" for key, value in event.items() if key not in skip))
    return f"{event.get('event')}  {fields}"


def _plainly(value: object) -> str:
    return encode(value) if isinstance(value, Mapping | list) else str(value)
