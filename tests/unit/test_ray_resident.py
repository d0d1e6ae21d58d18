"""One instance of a user's class in its process, without Ray: let in, refused, drained, closed."""

import asyncio
import threading
import time

import pytest

from deployer.ray.resident import SETTLES, Resident
from deployer.ray.words import Last, Refused

CODE = """
import asyncio, threading
GATE = threading.Event()
class Plain:
    def work(self, x):
        GATE.wait(30)
        return x
    def boom(self):
        raise ValueError("no")
class Soon:
    async def work(self, x):
        self.loop = asyncio.get_running_loop()
        return x
    async def stop(self):
        assert asyncio.get_running_loop() is self.loop
        self.loop = None
class Hangs:
    def cleanup(self):
        GATE.wait(30)
class Ill:
    def __init__(self):
        raise SystemExit(3)
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    name = f"resident_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


async def built(path):
    resident = Resident("plain#1", path, 1)
    assert await resident.build(0.01) is None
    return resident


def test_calls_in_line_are_refused_at_once_and_the_one_under_way_is_finished(code):
    async def course():
        resident = await built(f"{code}:Plain")
        first, second = (asyncio.ensure_future(resident.call(name, "work", (name,), {})) for name in "ab")
        while len(resident.in_flight()) < 2:
            await asyncio.sleep(0.001)
        while not resident._calls["a"].future.running():
            await asyncio.sleep(0.001)
        assert [call["id"] for call in resident.quiet()] == ["a"]
        refused = await asyncio.wait_for(second, 10)
        assert [call["id"] for call in resident.drained(0.01)] == ["a"]
        __import__(code).GATE.set()
        return refused, await first, resident.drained(10), await resident.call("c", "work", (1,), {})

    refused, finished, left, late = asyncio.run(course())
    assert isinstance(refused, Refused) and isinstance(late, Refused)
    assert (finished, left) == ("a", [])


def test_what_a_method_raises_is_raised_and_private_ones_are_not_for_callers(code):
    async def course():
        resident = await built(f"{code}:Plain")
        with pytest.raises(ValueError, match="no"):
            await resident.call("a", "boom", (), {})
        with pytest.raises(AttributeError, match="underscore"):
            await resident.call("b", "__class__", (), {})
        return resident.in_flight()

    assert asyncio.run(course()) == []


def test_coroutines_are_closed_in_the_loop_that_they_lived_in(code):
    async def course():
        resident = await built(f"{code}:Soon")
        assert await resident.call("a", "work", (5,), {}) == 5
        return await asyncio.to_thread(resident.close, 10)

    assert asyncio.run(course())[:3] == (True, True, False)


def test_a_clean_up_that_hangs_is_left_behind_and_said(code):
    async def course():
        resident = await built(f"{code}:Hangs")
        return await asyncio.to_thread(resident.close, 0.05)

    closed = asyncio.run(course())
    __import__(code).GATE.set()
    assert (closed.completed, closed.running) == (False, True) and "cleanup() did not end" in closed.error


@pytest.mark.parametrize(
    "path, why", [("Ill", "SystemExit: 3"), ("Nobody", "AttributeError"), ("GATE", "is not a class")]
)
def test_a_class_that_cannot_be_built_says_why(code, path, why):
    trouble = asyncio.run(Resident("x#1", f"{code}:{path}", 1).build(0.01))
    assert why in trouble
    assert threading.active_count() < 100


def test_a_result_given_while_it_is_quiet_counts_as_on_its_way_until_it_was_heard(code):
    async def course():
        resident = await built(f"{code}:Plain")
        call = asyncio.ensure_future(resident.call("a", "work", ("a",), {}))
        while not resident.in_flight():
            await asyncio.sleep(0.001)
        while not resident._calls["a"].future.running():
            await asyncio.sleep(0.001)
        assert resident.on_its_way("b", 7) == 7, "not quiet yet: nobody waits for that caller"
        resident.quiet()
        __import__(code).GATE.set()
        word = resident.on_its_way("a", await call)
        refused = resident.on_its_way("c", await resident.call("c", "work", (1,), {}))
        assert (word, isinstance(refused, Refused)) == (Last("a"), True)
        assert resident.drained(0) == [] and not resident.settled(SETTLES + 0.2)
        threading.Timer(0.1, resident.heard, ("a",)).start()
        return resident.settled(30)

    assert asyncio.run(course()) is True


def test_a_result_that_nobody_confirms_has_a_moment_to_arrive(code):
    async def course():
        resident = await built(f"{code}:Soon")
        assert resident.settled(30) is True
        await resident.call("a", "work", (1,), {})
        ended = time.monotonic()
        resident.quiet()
        return resident.settled(30), time.monotonic() - ended

    settled, took = asyncio.run(course())
    assert settled and took > SETTLES - 0.1
