"""A link that breaks between two words of a deploy, with an engine that is scripted: what is asked again, and what never twice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from deployer.errors import DeployerError, LinkError, LockedError
from deployer.rollout import hostdeploy
from deployer.rollout.batches import Policy
from deployer.rollout.carrier import Here
from deployer.rollout.each import on_each
from deployer.rollout.events import Stream
from deployer.rollout.fleet import Fleet
from deployer.rollout.hostdeploy import HostDeploy
from deployer.rollout.order import Order, PushOptions
from deployer.rollout.told import interrupted
from deployer.rollout.undo import take_back

CONFIG: Any = SimpleNamespace(
    hosts=("h1",), settings=dict, target=lambda host: {"path": "/x"}, target_table={"ssh": {"reconnect_within": 5.0}}
)
FACTS = {"instance": None, "releases": [], "under_way": None}


class Engine:
    """Every connection to one host. The first commit breaks the link, and counts all the same after *late* looks."""

    def __init__(self, late: int, counts: bool) -> None:
        self.late, self.counts = late, counts
        self.commits = self.opens = self.looks = 0

    def __exit__(self, *_: object) -> None:
        pass

    def leave(self) -> None:
        pass

    def call_telling(self, tell: Any, op: str, **params: Any) -> Any:
        self.opens += 1
        if self.opens > 1 and self.counts:
            raise LockedError("another deploy is under way", cause="push d1")
        return FACTS

    def call(self, op: str, **params: Any) -> Any:
        if op == "commit":
            self.commits += 1
            if self.commits == 1:
                raise LinkError("the link broke")
            return {}
        self.looks += op == "observe"
        arrived = self.counts and self.looks >= self.late
        if op == "history":
            return [{"deploy": "d1"}] if arrived else []
        return {**FACTS, "under_way": {"deploy": "d1"} if self.counts else None}


class Always(Here):
    """Every connection leads to one and the same engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def connect(self, config: Any, host: str) -> Any:
        return self.engine


def handed_over(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> tuple[HostDeploy, list[str]]:
    monkeypatch.setattr(hostdeploy, "LOOK_EVERY", 0.01)
    events: list[str] = []
    deploy = HostDeploy(
        "h1",
        Order(CONFIG, "restart", PushOptions(), carrier=Always(engine)),
        Stream("d1", lambda event: events.append(event["event"])),
    )
    deploy.open()
    deploy.hand_over()
    return deploy, events


@pytest.mark.parametrize("late", [0, 3])
def test_commit_that_arrived_before_the_link_broke_is_not_sent_again(
    late: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(late, counts=True)
    deploy, events = handed_over(engine, monkeypatch)
    assert (deploy.committed, engine.commits, engine.opens) == (True, 1, 1)
    assert events == ["link.lost", "link.restored"]


def test_commit_that_never_arrived_is_sent_again_under_a_lock_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(0, counts=False)
    deploy, _ = handed_over(engine, monkeypatch)
    assert (deploy.committed, engine.commits, engine.opens) == (True, 2, 2)


def test_nothing_is_dialled_once_a_person_has_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(0, counts=False)
    deploy, _ = handed_over(engine, monkeypatch)
    deploy.close()
    deploy.order.given_up.set()
    with pytest.raises(LinkError):
        deploy.connect()
    with pytest.raises(LinkError):
        deploy.hand_over()
    assert engine.commits == 2


def test_host_speaks_for_itself_only(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[dict[str, Any]] = []
    deploy = HostDeploy("h1", Order(CONFIG, "push", PushOptions()), Stream("d1", heard.append))
    deploy.passed({"event": "push.finished", "status": "done", "exit_code": 0, "hosts": []})
    deploy.passed(
        {"event": "host.finished", "host": "h2", "deploy": "other", "status": "failed", "exit_code": 0, "release": None}
    )
    assert [(event["event"], event["host"], event["deploy"], event["exit_code"]) for event in heard] == [
        ("host.finished", "h1", "d1", 1)
    ]


def test_take_back_that_a_person_stops_before_it_began_is_not_told_as_if_nothing_had_been_changed() -> None:
    stream = Stream("d1", lambda event: None)
    fleet = Fleet(Order(CONFIG, "push", PushOptions()), stream, ["h1", "h2"], Policy())
    changed = fleet.deploys["h1"]
    changed.committed = True
    changed.passed({"event": "host.finished", "status": "done", "release": "r2", "exit_code": 0})

    def interrupted_at_once(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    fleet.each = interrupted_at_once  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        take_back(fleet, [changed], "h2 failed")
    told = interrupted(fleet.deploys.values(), "push")
    assert changed.result.status == "done"
    assert "nothing was changed" not in str(told.state)
    assert "done: h1" in str(told.state)


def test_what_nobody_foresaw_on_one_host_ends_that_host_only() -> None:
    fleet = Fleet(
        Order(CONFIG, "push", PushOptions()), Stream("d1", lambda event: None), ["h1", "h2"], Policy(max_failed=1)
    )

    def step(deploy: HostDeploy) -> None:
        if deploy.host == "h1":
            raise KeyError("ok")
        deploy.ended("done", 0)

    fleet.each(fleet.standing, step)
    assert [(result.status, result.exit_code) for result in fleet.results] == [("failed", 1), ("done", 0)]
    assert fleet.why_to_stop() is None
    found = on_each(["h1", "h2"], lambda host: {"h2": "fine"}[host])
    assert isinstance(found[0], DeployerError) and "KeyError" in str(found[0].cause)
    assert found[1] == "fine"


def test_bug_on_the_only_host_is_told_as_one() -> None:
    with pytest.raises(KeyError):
        on_each(["h1"], lambda host: {}[host])
