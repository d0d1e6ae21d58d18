"""From what became of each host to what became of the whole: the status and the exit code of CONTRACT.md. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deployer.model import EXIT_DONE, EXIT_DOWN, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_KILLED, EXIT_PARTIAL

NEW = ("done", "unchanged")
MISSING = ("unreachable", "lost")
_GRAVEST_FIRST = (EXIT_INTERRUPTED, EXIT_DOWN, EXIT_PARTIAL, EXIT_FAILED, 7, 6, 3, 2)


@dataclass(frozen=True)
class HostResult:
    """
    How one host ended: `status` as in `host.finished`, `exit_code` as if it had been alone.

    unreachable: never spoken to, so nothing was changed. lost: handed over, and then not heard of again.
    """

    host: str
    status: str
    release: str | None
    exit_code: int


def outcome(results: Sequence[HostResult], max_unreachable: int = 0) -> tuple[str, int]:
    """The status and the exit code of all *results* together."""
    missing = [result for result in results if result.status in MISSING]
    seen = [result for result in results if result.status not in MISSING]
    if len(missing) > max_unreachable or not seen:
        seen = list(results)
    if len(seen) == 1 and len(results) == 1:
        return _alone(seen[0])
    if all(result.status in (*NEW, "detached") for result in seen):
        return _success(seen)
    return _failure(seen)


def _alone(result: HostResult) -> tuple[str, int]:
    if result.status in MISSING:
        return ("failed", result.exit_code) if result.status == "unreachable" else ("partial", EXIT_PARTIAL)
    return result.status, result.exit_code


def _success(results: Sequence[HostResult]) -> tuple[str, int]:
    if any(result.status == "detached" for result in results):
        return "detached", EXIT_DONE
    status = "done" if any(result.status == "done" for result in results) else "unchanged"
    return status, EXIT_KILLED if any(result.exit_code == EXIT_KILLED for result in results) else EXIT_DONE


def _failure(results: Sequence[HostResult]) -> tuple[str, int]:
    statuses = {result.status for result in results}
    if statuses == {"down"}:
        return "down", EXIT_DOWN
    if statuses & {*NEW, "detached", "down", "lost"}:
        return "partial", EXIT_PARTIAL
    codes = {result.exit_code for result in results}
    code = next((code for code in _GRAVEST_FIRST if code in codes), EXIT_FAILED)
    return ("reverted" if code == EXIT_FAILED and "reverted" in statuses else "failed"), code
