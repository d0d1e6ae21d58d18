"""What nodes say and how they go: real sockets, real processes, and peers that behave badly."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from registries import Serving, cleared, serving, wait_until
from websockets.frames import Frame, Opcode


@pytest.fixture(scope="module")
def registry() -> Iterator[Serving]:
    with serving("--heartbeat", "1s", "--timeout", "60s") as made:
        yield made


def one(registry: Serving, id: str) -> dict[str, Any]:
    return dict(registry.get(f"/nodes/{id}"))


def test_node_registers_works_drains_and_stops(registry: Serving) -> None:
    node = registry.node(
        "whole", pools=["a", "b"], release="r1", busy=1, pid=7, tasks=[{"id": "1", "name": "x", "more": 1}]
    )
    assert node.welcome == {"type": "welcome", "v": 1, "heartbeat_s": 1.0, "timeout_s": 60.0, "draining": False}
    known = one(registry, "whole")
    assert (known["status"], known["pools"], known["release"], known["busy"], known["pid"]) == (
        "online",
        ["a", "b"],
        "r1",
        1,
        7,
    )
    assert known["tasks"] == [{"id": "1", "name": "x", "started_at": None}]
    node.say(type="heartbeat", busy=3, tasks=[], stuck_s=4.5)
    wait_until(lambda: one(registry, "whole")["busy"] == 3, "the heartbeat is known")
    assert one(registry, "whole")["stuck_s"] == 4.5
    node.say(type="draining", why="SIGTERM")
    drained = registry.event("node.draining", "whole")
    assert drained["reason"] == "SIGTERM" and registry.get("/pools/a")["nodes"] == []
    node.stop(1000, "drained")
    assert registry.event("node.offline", "whole")["reason"] == "clean: drained"


@pytest.mark.parametrize(
    ("code", "said", "reason"),
    [
        (1000, "", "clean: stopped"),
        (1001, "", "clean: stopped"),
        (1011, "ValueError", "clean: 1011 ValueError"),
        (1000, "a\x1b[2Jb", "clean: a[2Jb"),
    ],
)
def test_close_frame_is_a_clean_departure_with_its_reason(registry: Serving, code: int, said: str, reason: str) -> None:
    after = len(registry.events)
    registry.node("clean").stop(code, said)
    assert registry.event("node.offline", "clean", after)["reason"] == reason


def test_killed_process_is_offline_at_once(registry: Serving) -> None:
    code = (
        "import sys, time, json; from websockets.sync.client import connect\n"
        "w = connect(sys.argv[1], compression=None, legacy=True)\n"
        "w.send(json.dumps({'type': 'register', 'v': 1, 'id': 'killed', 'instance': 'x', 'pools': ['workers']}))\n"
        "w.recv(); print('up', flush=True); time.sleep(60)"
    )
    argv = [sys.executable, "-c", code, f"ws://{registry.address}"]
    with subprocess.Popen(argv, env=cleared(None), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        killed = time.monotonic()
        process.send_signal(signal.SIGKILL)
        assert registry.event("node.offline", "killed")["reason"] == "lost: connection broken"
        assert time.monotonic() - killed < 10, "that is its heartbeat, not its socket"
        assert "killed" not in registry.get("/pools/workers")["nodes"]


def test_newer_connection_replaces_the_older_whose_late_end_changes_nothing(registry: Serving) -> None:
    old = registry.node("twice", pools=["t"])
    new = registry.node("twice", pools=["t"], instance="other")
    assert old.told_to_go() == (4000, "replaced: another connection has this id")
    old.cut()
    assert one(registry, "twice")["status"] == "online" and registry.get("/pools/t")["nodes"] == ["twice"]
    after = len(registry.events)
    new.stop()
    assert registry.event("node.offline", "twice", after)["reason"] == "clean: stopped"


def masked(kind: Opcode, data: bytes) -> bytes:
    return Frame(kind, data).serialize(mask=True)


FIRST = [
    ("[]", "not a JSON object"),
    ("nonsense", "not JSON"),
    ('{"type":"register","v":1,"id":NaN}', "not JSON"),
    ("[" * 60_000, "nested too deeply"),
    ('{"type":"heartbeat"}', "the first message must be"),
    ('{"type":"register","v":2,"id":"a","instance":"a","pools":[]}', '"v" must be 1'),
    ('{"type":"register","v":1,"id":"","instance":"a","pools":[]}', '"id" must be'),
    ('{"type":"register","v":1,"id":"a\\nb","instance":"a","pools":[]}', '"id" must be'),
    ('{"type":"register","v":1,"id":"a","instance":"a","pools":"workers"}', '"pools" must be'),
    ('{"type":"register","v":1,"id":"a","instance":"a","pools":[7]}', '"pools" must be'),
    ('{"type":"register","v":1,"id":"a","instance":"a","pools":[],"capacity":0}', '"capacity" must be'),
    ('{"type":"register","v":1,"id":"a","instance":"a","pools":[],"busy":-1}', '"busy" must be'),
    ('{"type":"register","v":1,"id":"a","instance":"a","pools":[],"tasks":[3]}', 'each of "tasks"'),
    ('{"type":"register","v":1,"id":"a","instance":"a","pools":[],"status":"offline"}', '"status" must be'),
]


@pytest.mark.parametrize(("message", "why"), FIRST, ids=range(len(FIRST)))
def test_malformed_registration_is_refused_with_the_reason(registry: Serving, message: str, why: str) -> None:
    node = registry.node("never", register=False)
    node.wire.send(message)
    code, reason = node.told_to_go()
    assert code == 4002 and reason.startswith(why)
    assert registry.ask("GET", "/nodes/never")[0] == 404


def test_malformed_message_of_a_node_ends_it_and_leaves_the_others_alone(registry: Serving) -> None:
    good, bad = registry.node("good"), registry.node("bad")
    bad.wire.send("{")
    assert bad.told_to_go() == (4002, "not JSON")
    assert registry.event("node.offline", "bad")["reason"] == "lost: not JSON"
    assert one(registry, "good")["status"] == "online"
    good.stop()


def test_unknown_words_of_a_newer_agent_are_passed_over(registry: Serving) -> None:
    node = registry.node("newer")
    node.say(type="weather", sun=True)
    node.say(type="heartbeat", busy=2, mood="good")
    wait_until(lambda: one(registry, "newer")["busy"] == 2, "the heartbeat after it counts")
    assert one(registry, "newer")["status"] == "online"
    node.stop()


def test_numbers_that_are_no_json_reach_nobody(registry: Serving) -> None:
    node = registry.node("infinite")
    node.wire.send('{"type":"heartbeat","busy":2,"tasks":[{"id":"1","name":"x","started_at":1e999}]}')
    wait_until(lambda: one(registry, "infinite")["busy"] == 2, "the heartbeat is known")
    assert one(registry, "infinite")["tasks"] == [{"id": "1", "name": "x", "started_at": None}]
    node.stop()


def test_message_in_fragments_is_one_message(registry: Serving) -> None:
    node = registry.node("pieces")
    node.wire.send(iter(['{"type":"heart', 'beat","bu', 'sy":5}']))
    wait_until(lambda: one(registry, "pieces")["busy"] == 5, "the pieces were put together")
    assert one(registry, "pieces")["status"] == "online"
    node.stop()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (masked(Opcode.TEXT, b" " * 70_000), 1009),
        (masked(Opcode.BINARY, b"{}"), 4002),
        (masked(Opcode.TEXT, b"\xff\xfe"), 4002),
        (masked(Opcode.CONT, b"x"), 1002),
        (b"\xc1" + masked(Opcode.TEXT, b"{}")[1:], 1002),
        (Frame(Opcode.TEXT, b"{}").serialize(mask=False), 1002),
    ],
    ids=["too big", "binary", "not utf-8", "continues nothing", "reserved bit", "no mask"],
)
def test_broken_frame_ends_its_connection(registry: Serving, frame: bytes, code: int) -> None:
    after = len(registry.events)
    node = registry.node("frames")
    node.wire.socket.sendall(frame)
    assert node.told_to_go()[0] == code
    assert registry.event("node.offline", "frames", after)["reason"].startswith("lost: ")


@pytest.mark.parametrize("kind", [Opcode.TEXT, Opcode.PING], ids=["messages", "pings"])
def test_flood_is_ended_and_the_others_go_on(registry: Serving, kind: Opcode) -> None:
    after = len(registry.events)
    quiet, loud = registry.node("quiet"), registry.node("loud")
    frame = masked(kind, b'{"type":"heartbeat","busy":1}')
    try:
        for _ in range(200):
            loud.wire.socket.sendall(frame * 100)
    except OSError:
        pass  # cut off meanwhile
    assert registry.event("node.offline", "loud", after)["reason"] == "lost: too many messages"
    assert one(registry, "quiet")["status"] == "online"
    quiet.stop()


def test_as_many_messages_as_a_node_may_send_are_no_flood(registry: Serving) -> None:
    node = registry.node("lively")
    for number in range(1, 150):
        node.say(type="heartbeat", busy=number)
    wait_until(lambda: one(registry, "lively")["busy"] == 149, "all have arrived")
    assert one(registry, "lively")["status"] == "online"
    node.stop()


def test_what_a_node_says_after_it_was_told_to_go_counts_for_nothing(registry: Serving) -> None:
    node = registry.node("zombie")
    registry.event("node.online", "zombie")
    again = b'{"type":"register","v":1,"id":"zombie","instance":"z","pools":["workers"]}'
    said = masked(Opcode.TEXT, b"{") + masked(Opcode.TEXT, again) + masked(Opcode.CLOSE, b"\x03\xe8")
    node.wire.socket.sendall(said)
    assert registry.event("node.offline", "zombie")["reason"] == "lost: not JSON"
    registry.node("zombie-2").stop()
    registry.event("node.offline", "zombie-2")
    assert [event["event"] for event in registry.events if event.get("node") == "zombie"] == [
        "node.online",
        "node.offline",
    ]


def test_registering_twice_on_one_connection_is_refused(registry: Serving) -> None:
    node = registry.node("again")
    node.say(type="register", v=1, id="again", instance="y", pools=[])
    assert node.told_to_go() == (4002, "a connection registers once")


def test_silent_node_is_offline_after_the_timeout_and_one_that_beats_is_not() -> None:
    with serving("--heartbeat", "100ms", "--timeout", "700ms") as registry:
        silent, lively = registry.node("silent"), registry.node("lively")
        began = time.monotonic()
        while time.monotonic() - began < 1.5:
            lively.say(type="heartbeat", busy=0)
            time.sleep(0.1)
        assert registry.event("node.offline", "silent")["reason"] == "timeout: no heartbeat for 0.7s"
        assert silent.told_to_go()[0] == 4003
        assert one(registry, "lively")["status"] == "online"
        assert registry.get("/pools/workers")["nodes"] == ["lively"]


def test_nobody_is_condemned_for_the_time_in_which_the_registry_itself_stood_still() -> None:
    with serving("--heartbeat", "200ms", "--timeout", "1s") as registry:
        node = registry.node("patient")
        registry.process.send_signal(signal.SIGSTOP)
        time.sleep(2)
        registry.process.send_signal(signal.SIGCONT)
        assert registry.event("registry.stalled")["seconds"] > 0.2
        node.say(type="heartbeat", busy=1)
        wait_until(lambda: one(registry, "patient")["busy"] == 1, "it is heard again")
        assert [event["event"] for event in registry.events if event["event"] == "node.offline"] == []


def test_marked_node_hears_of_it_and_of_the_end_of_the_mark(registry: Serving) -> None:
    node = registry.node("marked", pools=["m"])
    status, answer = registry.ask("POST", "/nodes/marked/drain", {"by": "me"})
    assert (status, answer["status"], answer["drain"]["by"]) == (200, "draining", "me")
    assert registry.get("/pools/m")["nodes"] == []
    assert node.hear() == {"type": "drain", "by": "me"}
    assert registry.ask("POST", "/nodes/marked/resume")[1]["status"] == "online"
    assert node.hear() == {"type": "resume", "by": "me"}
    node.stop()


def test_mark_of_a_process_is_gone_with_it(registry: Serving) -> None:
    old = registry.node("pushed", instance="old")
    registry.ask("POST", "/nodes/pushed/drain", {"scope": "process"})
    again = registry.node("pushed", instance="old")
    assert again.welcome["draining"] is True
    new = registry.node("pushed", instance="new")
    assert new.welcome["draining"] is False and one(registry, "pushed")["status"] == "online"
    for node in (old, again, new):
        node.wire.socket.close()
