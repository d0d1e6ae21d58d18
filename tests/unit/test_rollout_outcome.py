"""What became of the whole, from what became of each host: the exit codes of CONTRACT.md section 3."""

from __future__ import annotations

import pytest

from deployer.rollout.outcome import HostResult, outcome

CODES = {
    "done": 0,
    "unchanged": 0,
    "untouched": 0,
    "detached": 0,
    "unreachable": 6,
    "lost": 130,
    "reverted": 1,
    "down": 8,
}


def results(*statuses: str) -> list[HostResult]:
    """Hosts h1, h2, …; "failed:7" is a failure with that code, "done:5" one that had to kill."""
    made = []
    for number, status in enumerate(statuses, 1):
        name, _, code = status.partition(":")
        made.append(HostResult(f"h{number}", name, "r", int(code) if code else CODES[name]))
    return made


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["done"], ("done", 0)),
        (["unchanged"], ("unchanged", 0)),
        (["reverted"], ("reverted", 1)),
        (["failed:7"], ("failed", 7)),
        (["down"], ("down", 8)),
        (["detached"], ("detached", 0)),
        (["unreachable"], ("failed", 6)),
        (["lost"], ("partial", 4)),
        (["done", "done"], ("done", 0)),
        (["done", "unchanged"], ("done", 0)),
        (["unchanged", "unchanged"], ("unchanged", 0)),
        (["done", "done:5"], ("done", 5)),
        (["done", "detached"], ("detached", 0)),
        (["done", "reverted"], ("partial", 4)),
        (["done", "failed:7", "untouched"], ("partial", 4)),
        (["reverted", "untouched"], ("reverted", 1)),
        (["reverted", "reverted"], ("reverted", 1)),
        (["failed:7", "untouched", "untouched"], ("failed", 7)),
        (["failed:7", "reverted"], ("reverted", 1)),
        (["failed:3", "untouched"], ("failed", 3)),
        (["failed:3", "failed:6", "untouched"], ("failed", 6)),
        (["unreachable", "untouched"], ("failed", 6)),
        (["down", "untouched"], ("partial", 4)),
        (["down", "down"], ("down", 8)),
        (["done", "lost"], ("partial", 4)),
        (["lost", "untouched"], ("partial", 4)),
        (["failed:130", "failed:130"], ("failed", 130)),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_outcome(statuses: list[str], expected: tuple[str, int]) -> None:
    assert outcome(results(*statuses)) == expected


@pytest.mark.parametrize("missing", ["unreachable", "lost"])
def test_hosts_missing_within_the_budget_do_not_change_the_code(missing: str) -> None:
    assert outcome(results("done", missing, "done"), max_unreachable=1) == ("done", 0)
    assert outcome(results("unchanged", missing), max_unreachable=1) == ("unchanged", 0)
    assert outcome(results("done", missing, missing), max_unreachable=1) == ("partial", 4)
    assert outcome(results(missing, "failed:7"), max_unreachable=1) == ("failed", 7)


def test_nothing_is_done_where_every_host_is_missing() -> None:
    assert outcome(results("unreachable", "unreachable"), max_unreachable=5) == ("failed", 6)
