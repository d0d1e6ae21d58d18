"""Work in flight: named, counted, refused in time, and never cut from what it belongs to."""

from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
from living import SOURCE, Start

from deployer.lifecycle import Lifecycle


def test_tasks_are_counted_and_listed_by_name_from_enter_to_exit():
    life = Lifecycle()
    with life.task("callClaude") as work, life.task("part"):
        assert [task["name"] for task in life.tasks] == ["callClaude", "part"] and life.busy == 2
        assert life.tasks[0]["id"] == work.id and life.tasks[0]["started_at"].endswith("Z")
    assert life.tasks == [] and life.busy == 0


def test_an_exception_ends_a_task_and_passes_through():
    life = Lifecycle()
    with pytest.raises(KeyError), life.task("fails"):
        raise KeyError("x")
    assert life.busy == 0


def test_decorators_cover_every_kind_of_function_and_keep_name_and_signature():
    life = Lifecycle()

    @life.task("plain")
    def plain(a: int, *, b: int = 2) -> list[str]:
        """Says what is in flight."""
        return [task["name"] for task in life.tasks]

    @life.task("coroutine")
    async def coroutine(a: int) -> list[str]:
        await asyncio.sleep(0)
        return [task["name"] for task in life.tasks]

    @life.task("generator")
    def generator() -> Iterator[list[str]]:
        yield [task["name"] for task in life.tasks]

    @life.task("stream")
    async def stream() -> AsyncIterator[list[str]]:
        yield [task["name"] for task in life.tasks]

    async def first() -> list[str]:
        async for item in stream():
            return item
        return []

    assert plain(1) == ["plain"] and plain.__name__ == "plain" and plain.__doc__ == "Says what is in flight."
    assert str(inspect.signature(plain)) == "(a: 'int', *, b: 'int' = 2) -> 'list[str]'"
    assert asyncio.run(coroutine(1)) == ["coroutine"] and inspect.iscoroutinefunction(coroutine)
    assert list(generator()) == [["generator"]] and inspect.isgeneratorfunction(generator)
    assert asyncio.run(first()) == ["stream"] and inspect.isasyncgenfunction(stream)
    assert life.busy == 0


def test_one_task_may_be_entered_by_many_at_once():
    life = Lifecycle()
    task, seen = life.task("many"), []

    async def once() -> None:
        async with task as work:
            await asyncio.sleep(0.01)
            seen.append((work.id in {each["id"] for each in life.tasks}, life.busy))

    async def many() -> None:
        await asyncio.gather(*(once() for _ in range(10)))

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [mine for mine, _ in seen] == [True] * 40 and max(count for _, count in seen) >= 10
    assert life.busy == 0


def test_a_task_that_nobody_can_end_any_more_is_not_in_flight():
    life = Lifecycle()

    async def never() -> None:
        async with life.task("dropped"):
            await asyncio.get_running_loop().create_future()

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # "Task was destroyed but it is pending!"
    task = loop.create_task(never())
    loop.run_until_complete(asyncio.sleep(0))
    assert life.busy == 1
    loop.close()
    del task
    life.task("entered and dropped").__enter__()
    gc.collect()
    assert life.busy == 0


@pytest.mark.parametrize("value", [600, 1.5])
def test_a_bare_number_is_refused_with_the_correction(value):
    with pytest.raises(TypeError, match=f'write max_wait="{value}s"'):
        Lifecycle(max_wait=value)
    assert Lifecycle(max_wait=timedelta(minutes=1), linger="250ms")


def test_while_leaving_new_work_is_refused_and_parts_of_work_in_flight_are_not(program: Start):
    run = program("""
        life = Lifecycle(max_wait="20s")

        def attempt(where, **more):
            try:
                with life.task(where, **more):
                    say(where, "began")
            except ShuttingDown as error:
                say(where, "refused")

        async def attempt_async(where):
            attempt(where)

        async def outlives():  # was started within a task that has ended since
            await life.told()
            await asyncio.sleep(0.05)
            attempt("orphan")

        async def starter():
            with life.task("starter"):
                return asyncio.create_task(outlives())

        async def main():
            orphan = await starter()
            with life.task("callClaude"):
                say("up")
                await life.told()
                attempt("within")
                await asyncio.create_task(attempt_async("create_task"))
                await asyncio.get_running_loop().run_in_executor(None, attempt, "executor")
                await asyncio.to_thread(attempt, "to_thread")
                for more in ({}, {"part": True}):
                    thread = threading.Thread(target=attempt, args=(f"thread {more}",), kwargs=more)
                    thread.start(); thread.join()
                await orphan
            attempt("after")
            attempt("after as a part", part=True)

        asyncio.run(life.serve(main=main()))
    """)
    run.says("up")
    run.signal(15)
    assert run.ends() == 0, run.err
    assert run.lines == [
        "up", "within began", "create_task began", "executor refused", "to_thread began", "thread {} refused",
        "thread {'part': True} began", "orphan refused", "after refused", "after as a part refused",
    ]  # fmt: skip


def test_importing_costs_little_and_begins_nothing():
    code = (
        "import sys, threading, signal; from deployer.lifecycle import Lifecycle, ShuttingDown; Lifecycle();"
        "heavy = {'asyncio', 'inspect', 'subprocess', 'websockets', 'logging', 'traceback', 'dataclasses'} & set(sys.modules);"
        "print(heavy, threading.active_count(), signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True)
    assert done.stdout == "set() 1 True\n", done.stderr
