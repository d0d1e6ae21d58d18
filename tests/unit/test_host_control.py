"""What people ask of a deploy under way: taken up once, answered truly, and refused where it is too late."""

from __future__ import annotations

import io
import os
import select
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from host_fakes import FakeClock

from deployer.errors import DeployerError, PreflightError
from deployer.host import heed
from deployer.host.agent import Agent
from deployer.host.claim import Claim
from deployer.host.connection import Connection
from deployer.host.control import ABORT, EXTEND, NOW, Asked, Control
from deployer.host.deploy import Deploy
from deployer.host.journal import Journal
from deployer.host.paths import HostPaths
from deployer.host.state import State
from deployer.wire import frames


class Keeper:
    """A supervisor with the drains that a test gives it; it remembers where they were moved to."""

    def __init__(self) -> None:
        self.draining: list[dict[str, Any]] = []
        self.moved: list[tuple[str, float, str]] = []
        self.moves = True

    def status(self) -> dict[str, Any]:
        return {"instances": self.draining, "desired": None}

    def move_deadline(self, instance: str, deadline: float, who: str = "") -> bool:
        self.moved.append((instance, deadline, who))
        return self.moves


@pytest.fixture
def deploy(tmp_path: Path) -> Iterator[Any]:
    state = State(tmp_path / "state.db")
    state.insert("deploys", id="d1", kind="push", step="install", started_at=1.0)
    request = SimpleNamespace(deploy="d1", kind="push", release="new")
    control = Control()
    yield SimpleNamespace(
        request=request, state=state, journal=Journal(state, "d1", "local", lambda data: data), clock=FakeClock(),
        supervisor=Keeper(), control=control,
    )  # fmt: skip
    control.close()
    state.close()


def asked(deploy: Any, what: str, seconds: float = 0.0) -> dict[str, Any]:
    """The answer to a request that is taken up at once; whether it raised Aborted stands in `aborted`."""
    request = deploy.control.ask(Asked(what, "ada@laptop", seconds))
    try:
        heed.heed(cast(Deploy, deploy))
        aborted = False
    except heed.Aborted:
        aborted = True
    return {**request.answer(0.0), "aborted": aborted}


def test_abort_is_on_record_before_it_is_answered_and_done_once(deploy: Any) -> None:
    first = asked(deploy, ABORT)
    assert (first["ok"]["already"], first["aborted"]) == (False, True)
    assert heed.aborted_by(deploy) == "ada@laptop"
    assert [event["who"] for event in deploy.journal.told("abort.asked")] == ["ada@laptop"]
    second = asked(deploy, ABORT)
    assert (second["ok"]["already"], second["aborted"]) == (True, False)
    assert len(deploy.journal.told("abort.asked")) == 1


def test_abort_of_a_release_that_has_proven_itself_comes_too_late(deploy: Any) -> None:
    deploy.journal.begin("confirm")
    answer = asked(deploy, ABORT)
    assert not answer["aborted"]
    assert "too late" in answer["error"]["title"]
    assert "rollback" in answer["error"]["hint"]
    assert heed.aborted_by(deploy) is None


def test_abort_of_a_deploy_that_goes_back_already_changes_nothing(deploy: Any) -> None:
    deploy.journal.begin("revert", instance="i2", reason="never ready")
    answer = asked(deploy, ABORT)
    assert (answer["ok"]["already"], answer["aborted"]) == (True, False)
    assert heed.aborted_by(deploy) is None, "it fails for its own reason, not because somebody wanted it"


def test_drain_is_moved_from_where_its_ceiling_is_now(deploy: Any) -> None:
    deploy.supervisor.draining = [{"id": "i1", "pid": 7, "drain": {"deploy": "d1", "waited_s": 10.0, "left_s": 50.0}}]
    answer = asked(deploy, EXTEND, 300.0)
    assert answer["ok"]["drains"] == [{"pid": 7, "ceiling_s": 360.0, "who": "ada@laptop"}]
    assert deploy.supervisor.moved == [("i1", deploy.clock.now() + 350.0, "ada@laptop")]
    asked(deploy, NOW)
    assert deploy.supervisor.moved[1][1] == deploy.clock.now()


def test_drain_that_was_forced_already_cannot_be_moved(deploy: Any) -> None:
    deploy.supervisor.draining = [{"id": "i1", "pid": 7, "drain": {"deploy": "d1", "waited_s": 10.0, "left_s": 0.0}}]
    deploy.supervisor.moves = False
    assert "no longer" in asked(deploy, EXTEND, 300.0)["error"]["title"]
    assert deploy.journal.told("drain.extended") == []


def test_nothing_that_drains_is_told_with_the_step_under_way(deploy: Any) -> None:
    answer = asked(deploy, NOW)
    assert "no drain" in answer["error"]["title"]
    assert "install" in answer["error"]["cause"]


def test_every_wait_can_see_that_something_was_asked_and_that_it_was_taken() -> None:
    control = Control()
    assert not select.select([control.fileno()], [], [], 0)[0]
    control.ask(Asked(NOW, "ada"))
    assert select.select([control.fileno()], [], [], 0)[0]
    taken = control.take()
    assert taken is not None and taken.who == "ada"
    assert not select.select([control.fileno()], [], [], 0)[0]
    assert control.take() is None
    control.close()


def test_deploy_that_ends_tells_so_to_what_was_queued_and_what_comes() -> None:
    control = Control()
    queued = [control.ask(Asked(what, "ada")) for what in (ABORT, NOW)]
    control.close()
    control.close()
    late = [control.ask(Asked(what, "bob")) for what in (ABORT, NOW)]
    for aborting, ending in (queued, late):
        assert aborting.answer(0.0) == {"ok": {"over": True}}
        assert ending.answer(0.0)["error"]["title"] == "the deploy has just ended"


def test_runner_that_is_busy_is_told_of_as_busy() -> None:
    control = Control()
    started = time.monotonic()
    answer = control.ask(Asked(ABORT, "ada")).answer(0.05)
    assert time.monotonic() - started < 20
    assert "did not answer" in answer["error"]["title"]
    control.close()


def claimed(path: Path) -> Claim:
    """The lock of a host at *path*, held."""
    paths = HostPaths(path)
    paths.prepare_private()
    claim = Claim(paths, {"deploy": "d1", "kind": "push", "who": "me"}, os.pipe()[0], lambda event: None)
    claim.take()
    return claim


def test_agent_told_to_stop_in_the_middle_of_a_request_stops_after_it(tmp_path: Path) -> None:
    """The signal came while it did something: that is finished and answered, then the client hears who aborted."""
    out = io.BytesIO()
    hello = frames.pack({"id": 1, "op": "hello", "path": str(tmp_path)})
    agent = Agent(Connection(io.BytesIO(hello * 2), out))
    agent._claim, agent._opened = claimed(tmp_path), {"kind": "push", "deploy": "d1"}
    answered = agent._answer
    agent._answer = lambda request: (agent.stop(), answered(request))[1]  # type: ignore[method-assign,func-returns-value]
    agent.serve()
    said = list(frames.Decoder().feed(out.getvalue()))
    assert [frame["id"] for frame in said if isinstance(frame, dict)] == [1, None]
    assert isinstance(said[1], dict)
    assert "push aborted by" in DeployerError.from_json(said[1]["error"]).title
    agent._let_go()


def test_agent_told_to_stop_within_a_commit_has_nothing_left_to_stop(tmp_path: Path) -> None:
    out = io.BytesIO()
    hello = frames.pack({"id": 1, "op": "hello", "path": str(tmp_path)})
    agent = Agent(Connection(io.BytesIO(hello), out))
    agent._claim, agent._opened = claimed(tmp_path), {"kind": "push", "deploy": "d1"}
    agent.stop()
    agent._let_go()  # what a commit ends with: the runner has it
    agent.serve()
    assert [frame["id"] for frame in frames.Decoder().feed(out.getvalue()) if isinstance(frame, dict)] == [1]


def test_abort_that_the_disk_does_not_let_us_tell_counts_all_the_same(
    deploy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise PreflightError("the disk is full")

    monkeypatch.setattr(Journal, "event", refuses)
    answer = asked(deploy, ABORT)
    assert (answer["ok"]["already"], answer["aborted"]) == (False, True)
