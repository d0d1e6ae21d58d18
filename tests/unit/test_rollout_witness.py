"""The witness: what he asks, how he tells one trouble from another, and that he disturbs nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from test_load import GOOD, Server, closes, cuts, good, resets, says

from app import wait_until
from deployer.config.load import load
from deployer.rollout.account import Account, Probe
from deployer.rollout.asker import Asker
from deployer.rollout.events import Stream
from deployer.rollout.phases import Phases
from deployer.rollout.witness import Watch, Witness, watch_of

RUN = "[run]\ncommand = 'x'\n"
HEALTH = "[health]\nurl = 'http://127.0.0.1:{port}/health'\n"
REPLACED: Any = [SimpleNamespace(committed=True, result=SimpleNamespace(status="done"), facts={"instance": {"pid": 1}})]
UNCHANGED: Any = [SimpleNamespace(committed=True, result=SimpleNamespace(status="unchanged"), facts={})]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def stream() -> tuple[Stream, list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    return Stream("d", events.append), events


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(
    ("behave", "trouble"),
    [
        (good, None),
        (resets, "reset"),
        (closes, "eof"),
        (cuts, "cut"),
        (says(GOOD.replace(b"200", b"503")), "5xx"),
        (says(GOOD.replace(b"200", b"404")), "4xx"),
        (says(GOOD.replace(b"200", b"302")), None),
        (lambda client, number: None, "timeout"),
        (says(b"SSH-2.0-x\r\n\r\n"), "other"),
    ],
)
def test_each_trouble_has_its_word(
    server: Server, kept: bool, behave: Callable[[Any, int], None], trouble: str | None
) -> None:
    with Asker(server.url, 20.0 if trouble != "timeout" else 0.2, kept) as asker:
        assert asker.trouble() is None
        server.behave = behave
        assert asker.trouble() == trouble
        server.behave = good
        assert asker.trouble() is None


def test_closed_port_is_refused(server: Server) -> None:
    url = server.url
    server.close()
    with Asker(url, 5.0, False) as asker:
        assert asker.trouble() == "refused"
    server.__init__()  # type: ignore[misc]  # the fixture closes one


def test_one_connection_is_kept_and_the_other_is_not(server: Server) -> None:
    numbers: list[int] = []

    def noted(client: Any, number: int) -> None:
        numbers.append(number)
        good(client, number)

    server.behave = noted
    for kept in (True, False):
        with Asker(server.url, 5.0, kept) as asker:
            assert [asker.trouble() for _ in range(3)] == [None] * 3
    assert numbers == [1, 2, 3, 1, 1, 1]


def test_app_that_sends_us_on_is_no_failure_and_a_second_one_is(server: Server) -> None:
    leaving = b'HTTP/1.1 503 X\r\nConnection: close\r\nContent-Length: 26\r\n\r\n{"status":"shutting_down"}'

    def sends_on(client: Any, number: int) -> None:
        client.sendall(leaving if number > 1 else GOOD)

    with Asker(server.url, 5.0, True) as asker:
        server.behave = sends_on
        assert [asker.trouble(), asker.trouble()] == [None, None]
        server.behave = says(leaving)
        assert asker.trouble() == "5xx"


def test_slow_service_is_not_asked_more_often_and_the_rest_is_skipped(server: Server) -> None:
    most, now, lock = 0, 0, threading.Lock()

    def slow(client: Any, number: int) -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.3)  # the service
        with lock:
            now -= 1
        client.sendall(GOOD)

    server.behave = slow
    told, events = stream()
    with Witness(Watch(server.url, rate=50)) as witness:
        wait_until(lambda: server.asked >= 8, what="it was asked some times")
    seen = witness.seen(REPLACED, told)["witness"]
    assert most <= 2 and seen["failed"] == 0 and seen["skipped"] > seen["probes"]
    assert seen["slowest_ms"] >= 300 and events == []


def test_outage_is_seen_with_its_kind_its_phase_and_its_length(server: Server) -> None:
    told, _ = stream()
    witness = Witness(Watch(server.url, rate=50))
    tell = witness.noting(lambda event: None)
    with witness:
        wait_until(lambda: server.asked > 4, what="it is asked")
        tell({"event": "drain.started"})
        server.behave = closes
        at = time.monotonic()
        time.sleep(0.5)  # the outage
        server.behave = good
        took = time.monotonic() - at
        tell({"event": "drain.finished"})
        asked = server.asked
        wait_until(lambda: server.asked > asked + 4, what="it is asked again")
    seen = witness.seen(REPLACED, told)["witness"]
    assert list(seen["phases"]) == ["prepare", "drain", "start"] and set(seen["kinds"]) == {"eof"}
    # One of each connection may have been in flight when the outage began.
    assert seen["phases"]["prepare"]["failed"] <= 2 and seen["phases"]["drain"]["failed"] > 3
    assert 1000 * took - 200 < seen["longest_gap_ms"] < 1000 * took + 1000
    # It belongs to the phase in which the first of its losses was asked: perhaps just before the drain.
    gaps = [seen["phases"][phase]["longest_gap_ms"] for phase in ("prepare", "drain")]
    assert max(gap or 0 for gap in gaps) == seen["longest_gap_ms"]


def test_nothing_is_told_where_nothing_was_replaced(server: Server) -> None:
    told, events = stream()
    with Witness(Watch(server.url)) as witness:
        wait_until(lambda: server.asked, what="it is asked")
    assert witness.seen(UNCHANGED, told) == {} and witness.seen([], told) == {} and events == []


def test_silent_service_holds_nobody_up_for_longer_than_a_second(server: Server) -> None:
    server.behave = lambda client, number: None
    told, _ = stream()
    with Witness(Watch(server.url, timeout=60.0)) as witness:
        wait_until(lambda: server.asked, what="it is asked")
    at = time.monotonic()
    witness.seen(REPLACED, told)
    assert time.monotonic() - at < 10


def test_bug_of_the_witness_is_a_warning() -> None:
    told, events = stream()
    with Witness(Watch("http://127.0.0.1:1/", rate=0)) as witness:
        wait_until(lambda: witness._broken, what="it is over")
    assert witness.seen(REPLACED, told) == {}
    assert "the witness could not go on: ZeroDivisionError" in events[-1]["text"]


def test_bug_in_the_sum_is_a_warning_too() -> None:
    told, events = stream()
    with Witness(Watch("http://127.0.0.1:1/")) as witness:
        pass
    witness._phases.order = None  # type: ignore[assignment]
    witness._account.note(Probe("prepare", 1.0, 2.0, None))
    assert witness.seen(REPLACED, told) == {}
    assert "the witness could not go on" in events[-1]["text"]


def probe(asked: float, trouble: str | None = None, phase: str = "prepare") -> Probe:
    return Probe(phase, asked, asked + 0.01, trouble)


def test_what_did_not_serve_before_cannot_be_missed() -> None:
    account = Account(ended=3.0)
    for one in (probe(1.0, "refused"), probe(1.1, "refused"), probe(1.2), probe(1.3, "reset"), probe(1.5)):
        account.note(one)
    fresh, served = account.told(False, ["prepare"]), account.told(True, ["prepare"])
    assert (fresh["probes"], fresh["failed"], served["probes"], served["failed"]) == (3, 1, 5, 3)
    assert fresh["longest_gap_ms"] == 1490.0  # from the last answer to the end


def test_service_that_never_answered_was_missed_all_the_time() -> None:
    account = Account(ended=3.0)
    account.note(probe(1.0, "timeout"))
    seen = account.told(False, ["prepare"])
    assert (seen["failed"], seen["longest_gap_ms"], seen["slowest_ms"]) == (1, 2000.0, None)


@pytest.mark.parametrize(
    ("events", "order"),
    [
        (
            "drain.started drain.finished start.finished switched host.finished",
            ["prepare", "drain", "start", "serve"],
        ),
        ("start.finished switched drain.started drain.finished", ["prepare", "start", "serve", "drain"]),
        (
            "drain.started drain.finished start.finished revert.started drain.started drain.finished "
            "start.finished revert.finished",
            ["prepare", "drain", "start", "revert", "serve"],
        ),
        ("rollout.started batch.started drain.started bake.started bake.finished", ["prepare", "batch 1", "bake"]),
    ],
)
def test_phases_follow_the_events(events: str, order: list[str]) -> None:
    phases = Phases()
    for name in events.split():
        phases.note({"event": name, "batch": 1, "what": "batch"})
    assert phases.order == order
    assert phases.now == ("serve" if "drain.finished" in order or events.endswith("drain.finished") else order[-1])


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (RUN, None),
        (RUN + "[health]\nurl = 'http://127.0.0.1:7/h'\n", "http://127.0.0.1:7/h"),
        (RUN + "socket = '127.0.0.1:7001'\n" + HEALTH, "http://127.0.0.1:7001/health"),
        (RUN + "ports = [7001, 7002]\n" + HEALTH, None),
        (RUN + "ports = [7001, 7002]\n" + HEALTH + "[target.t.verify]\nurl = 'http://front/'\n", "http://front/"),
        (RUN + "[health]\nurl = 'http://127.0.0.1:7/h'\n[target.t]\nhosts = ['a']\npath = '/srv/a'\n", None),
    ],
)
def test_url_that_is_asked(tmp_path: Any, text: str, url: str | None) -> None:
    file = tmp_path / "deploy.toml"
    file.write_text('app = "a"\n[build]\nartifact = "."\n' + text + ("" if "[target.t]" in text else "[target.t]\n"))
    watch = watch_of(load(file, "t"))
    assert (watch.url if watch else None) == url
