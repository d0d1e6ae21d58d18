"""What a batch job and its services say, as lines of the human view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from deployer.cli.render import text
from deployer.cli.render.lines import Line

Event = Mapping[str, Any]


def _service_started(event: Event, host: str) -> Line:
    back = " as it was" if event.get("back") else ""
    words = f"{event.get('service')}{back}, pid {event.get('pid')}"
    return Line(host, "service", "ok", text.took(event.get("ready_s")), words)


def _service_stopped(event: Event, host: str) -> Line:
    killed = event.get("verdict") == "killed"
    how = "ok" if event.get("cleanup_completed") else "FAILED" if event.get("cleanup_called") else "none"
    status = "lost" if event.get("running") else "KILLED" if killed else how
    left = "left by an earlier run" if event.get("left_by_an_earlier_run") else None
    error = text.one_line(event["error"], 160) if event.get("error") else None
    still = "still runs" if event.get("running") else None
    words = text.joined(str(event.get("service")), left, still, error)
    return Line(host, "cleanup", status, text.took(event.get("seconds")), words)


def _service_kept(event: Event, host: str) -> Line:
    return Line(host, "kept", "...", "", f"{event.get('service')} runs on: {event.get('why')}")


def _service_shared(event: Event, host: str) -> Line:
    return Line(host, "service", "ok", "", f"{event.get('service')}, pid {event.get('pid')}: the app's, used as it is")


def _job_started(event: Event, host: str) -> Line:
    return Line(host, "job", "...", "", f"pid {event.get('pid')}: {text.one_line(event.get('command') or '', 100)}")


def _job_finished(event: Event, host: str) -> Line:
    code = event.get("exit_code")
    words = "nobody could see how it ended" if code is None else f"exit code {code}"
    return Line(host, "job", "ok" if code == 0 else "FAILED", text.took(event.get("took_s")), words)


LINES: Mapping[str, Callable[[Event, str], Line | None]] = {
    "service.started": _service_started,
    "service.stopped": _service_stopped,
    "service.kept": _service_kept,
    "service.shared": _service_shared,
    "job.started": _job_started,
    "job.finished": _job_finished,
}
