"""A pool that is a command of the user: what it is told, what it may refuse."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deployer.errors import PoolError, PreflightError
from deployer.host.pools.command import Command

SCRIPT = """#!/bin/sh
# A pool whose servers are files in a directory.
cd "{root}" || exit 9
echo "$*|$DEPLOYER_APP|$DEPLOYER_POOL_ACTION|$DEPLOYER_POOL_ADDRESS" >> calls
if [ -e "refuse-$1" ]; then echo "no $1 today"; exit 3; fi
case $1 in
    join) touch "in/$2" ;;
    leave) rm -f "in/$2" ;;
    in-flight) cat count ;;
    check) ;;
    *) exit 2 ;;
esac
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "127.0.0.1:1").touch()
    file = tmp_path / "pool.sh"
    file.write_text(SCRIPT.format(root=tmp_path))
    file.chmod(0o755)
    return tmp_path


def pool(root: Path, **more: object) -> Command:
    return Command({"kind": "command", "command": [str(root / "pool.sh")], "timeout": 10.0, **more}, "my-app")


def members(root: Path) -> list[str]:
    return sorted(file.name for file in (root / "in").iterdir())


def calls(root: Path) -> list[str]:
    return (root / "calls").read_text().splitlines()


def test_the_new_one_joins_before_the_old_one_leaves(root: Path) -> None:
    pool(root).check(["127.0.0.1:1", "127.0.0.1:2"])
    for _ in range(2):  # again, as a resumed deploy does
        pool(root).send_to(["127.0.0.1:2"], ["127.0.0.1:1"])
        assert members(root) == ["127.0.0.1:2"]
    assert calls(root)[:3] == [
        "check 127.0.0.1:1 127.0.0.1:2|my-app|check|127.0.0.1:1 127.0.0.1:2",
        "join 127.0.0.1:2|my-app|join|127.0.0.1:2",
        "leave 127.0.0.1:1|my-app|leave|127.0.0.1:1",
    ]


@pytest.mark.parametrize("action, left", [("join", ["127.0.0.1:1"]), ("leave", ["127.0.0.1:1", "127.0.0.1:2"])])
def test_a_refusal_is_told_in_its_words_and_nobody_has_left(root: Path, action: str, left: list[str]) -> None:
    (root / f"refuse-{action}").touch()
    with pytest.raises(PoolError, match=f"{action} 127.0.0.1") as caught:
        pool(root).send_to(["127.0.0.1:2"], ["127.0.0.1:1"])
    assert caught.value.cause == f"exit 3: no {action} today"
    assert members(root) == left
    assert ("takes requests beside it" in str(caught.value.state)) == (action == "leave")


def test_a_check_that_refuses_is_a_preflight_error(root: Path) -> None:
    (root / "refuse-check").touch()
    with pytest.raises(PreflightError) as caught:
        pool(root).check(["127.0.0.1:2"])
    assert (caught.value.code, caught.value.state) == (6, "nothing was changed")


def test_without_addresses_the_old_one_only_leaves(root: Path) -> None:
    pool(root).send_to([], ["127.0.0.1:1"])
    assert members(root) == []


@pytest.mark.parametrize("printed, known", [("3\n", 3), ("0", 0), ("-1", None), ("many", None), ("", None)])
def test_in_flight_is_the_number_that_it_prints(root: Path, printed: str, known: int | None) -> None:
    (root / "count").write_text(printed)
    assert pool(root, counts=True).in_flight("127.0.0.1:1") == known
    assert pool(root).in_flight("127.0.0.1:1") is None


def test_in_flight_is_unknown_when_it_fails(root: Path) -> None:
    (root / "refuse-in-flight").touch()
    assert pool(root, counts=True).in_flight("127.0.0.1:1") is None


def test_a_command_that_hangs_is_ended_and_told(root: Path) -> None:
    hanging = ["sh", "-c", 'echo "asking the balancer"; exec sleep 60', "sh"]
    with pytest.raises(PoolError, match="did not end within 0") as caught:
        pool(root, command=hanging, timeout=0.3).send_to(["127.0.0.1:2"])
    assert caught.value.cause == "asking the balancer"


def test_what_a_command_leaves_running_is_not_waited_for(root: Path) -> None:
    leaving = ["sh", "-c", f"sleep 60 & echo $! > {root}/background", "sh"]
    pool(root, command=leaving, timeout=20.0).send_to(["127.0.0.1:2"])
    pid = int((root / "background").read_text())
    assert Path(f"/proc/{pid}").exists()
    os.kill(pid, 9)


def test_a_program_that_is_not_there_is_told(root: Path) -> None:
    with pytest.raises(PreflightError, match="could not be started") as caught:
        pool(root, command=["/no/such/program"]).check([])
    assert "command" in str(caught.value.hint)
