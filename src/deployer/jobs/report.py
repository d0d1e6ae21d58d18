"""What became of a job and its services: for a person, for a program, as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Optional

from deployer import durations
from deployer.errors import DeployerError


@dataclass
class ServiceReport:
    """
    How one service ended. `initialized`: it was built. `cleanup_called`: its `stop` or `cleanup` was begun. `cleanup_completed`:
    whatever it has of the two ended well, in time (True where it has neither). `running`: something of it was still there when we
    looked. `kept`: left on purpose, by its policy or by autostop=False.
    """

    name: str
    initialized: bool = False
    cleanup_called: bool = False
    cleanup_completed: bool = False
    running: bool = False
    seconds: float = 0.0
    error: Optional[str] = None
    kept: bool = False

    @property
    def clean(self) -> bool:
        """Nothing of it is left, or it is left on purpose; and nothing went wrong."""
        return self.error is None and (self.kept or not self.running)


@dataclass
class Report:
    """How a job ended. `left` names tasks of it that still run: nobody can end a thread from outside."""

    name: str
    ok: bool = False
    took_s: float = 0.0
    items_in: int = 0
    items_out: int = 0
    error: Optional[str] = None
    services: Dict[str, ServiceReport] = field(default_factory=dict)
    left: List[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """No service or task is left that should not be, and every clean-up went well."""
        return not self.left and all(service.clean for service in self.services.values())

    def to_json(self) -> Dict[str, Any]:
        """Plain JSON: all of the above, by these names."""
        return {**asdict(self), "clean": self.clean}

    def __str__(self) -> str:
        how = "ok" if self.ok else "failed"
        lines = [f"job {self.name}  {how}  {durations.show(self.took_s)}  {self.items_in} in, {self.items_out} out"]
        if self.error:
            lines.append(f"  {self.error}")
        if self.services:
            lines += _table([_HEAD, *map(_row, self.services.values())])
        return "\n".join(lines + [f"  left: {each}" for each in self.left])


_HEAD = ["service", "initialized", "cleanup called", "completed", "running", "took", ""]


def _row(service: ServiceReport) -> List[str]:
    facts = (service.initialized, service.cleanup_called, service.cleanup_completed, service.running)
    said = service.error or ("kept" if service.kept else "")
    return [service.name, *("yes" if fact else "no" for fact in facts), durations.show(service.seconds), said]


def _table(rows: List[List[str]]) -> List[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths))).rstrip() for row in rows]


class JobError(DeployerError):
    """A job failed. Raised when everything is cleaned up; `report` says how, `__cause__` is what the job's code raised."""

    code = 1

    def __init__(self, title: str, report: Report, *, cause: Optional[str] = None, hint: Optional[str] = None) -> None:
        super().__init__(title, cause=cause, state=_state(report), hint=hint)
        self.report = report

    def __str__(self) -> str:
        return "; ".join(part for part in (self.title, self.cause, self.state) if part)


def _state(report: Report) -> str:
    odd = [
        *report.left,
        *(f"{each.name}: {each.error or 'still runs'}" for each in report.services.values() if not each.clean),
    ]
    return "; ".join(odd) if odd else "every service is cleaned up, and no task is left"
