"""An exception that nobody caught: told as such, cleaned up after within seconds, printed once, exit code 1."""

from __future__ import annotations

import pytest
from living import Start, other_pythons

CRASHES = {
    "main": "life.run(crash)",
    "with": "\nwith life: crash()",
    "top level": "life.start(); crash()",
    "thread": "life.run(lambda: (threading.Thread(target=crash).start(), time.sleep(3600)))",
    "thread, with": "\nwith life:\n    threading.Thread(target=crash).start(); time.sleep(3600)",
    "thread, start": "life.start(); threading.Thread(target=crash).start(); time.sleep(3600)",
    "async main": "asyncio.run(life.serve(main=acrash()))",
    "task": """
async def main():
    asyncio.ensure_future(acrash())
    await asyncio.sleep(3600)
asyncio.run(life.serve(main=main()))""",
}


def _program(where: str) -> str:
    return f"""
def crash(): raise KeyError("lost key")
async def acrash(): crash()
life = Lifecycle(node=Node())
life.cleanup(lambda: say("cleaned"))
{CRASHES[where].strip()}
"""


@pytest.mark.parametrize("where", CRASHES)
def test_a_crash_is_told_to_the_registry_first_then_cleaned_up_then_exit_1(program: Start, where):
    run = program(_program(where))
    assert run.ends() == 1, run.err
    leaving, stopped, cleaned = run.lines[1:4]
    assert leaving.startswith("node leaving KeyError: 'lost key'") and (stopped, cleaned) == (
        "node stop KeyError 1011",
        "cleaned",
    )
    assert run.err.count("Traceback (most recent call last)") == 1 and "lost key" in run.err
    assert "Exception ignored" not in run.err


@pytest.mark.parametrize("python", other_pythons())
@pytest.mark.parametrize(
    "where", ["thread", pytest.param("task", marks=pytest.mark.full), pytest.param("main", marks=pytest.mark.full)]
)
def test_the_same_on_the_oldest_and_the_newest_python(program: Start, where, python):
    run = program(_program(where), python=python)
    assert run.ends() == 1, run.err
    assert (
        run.lines[2:] == ["node stop KeyError 1011", "cleaned"]
        and run.err.count("Traceback (most recent call last)") == 1
    )


def test_hooks_that_were_there_before_still_run(program: Start):
    run = program("""
        sys.excepthook = lambda kind, *_: say("hook", kind.__name__)
        threading.excepthook = lambda args: say("thread hook", args.exc_type.__name__)
        life = Lifecycle()
        life.start()
        def crash(): raise KeyError
        thread = threading.Thread(target=crash); thread.start(); thread.join()
        life.wait()
        raise ValueError
    """)
    assert (
        run.ends() == 1 and run.lines == ["thread hook KeyError", "hook ValueError"] and "Traceback" not in run.err
    ), run.err


def test_what_is_in_flight_has_until_the_clean_up_is_over_and_then_is_named(program: Start):
    run = program("""
        life = Lifecycle(max_wait="10m", crash_within="1s", node=Node())
        def work(name, seconds):
            with life.task(name):
                time.sleep(seconds); say(name, "done")
        def crash():
            while life.busy < 3: time.sleep(0.01)
            raise KeyError
        def slowly(): time.sleep(0.4); say("cleaned")
        life.cleanup(slowly)
        life.cleanup(lambda: time.sleep(3600), name="hangs")
        def main():
            for each in (("short", 0.2), ("long", 3600)): threading.Thread(target=work, args=each).start()
            threading.Thread(target=crash).start()
            work("in main", 3600)
        life.run(main)
    """)
    assert run.ends() == 1
    assert run.lines[-2:] == ["short done", "cleaned"] and run.lines[2] == "node stop KeyError 1011", run.lines
    assert (
        "lifecycle: abandoned: " in run.err and "long" in run.err and "in main" in run.err and "short 0" not in run.err
    )


ENDS_THAT_ARE_NO_CRASH = """
    class Leak:
        def __del__(self): raise KeyError("in __del__")
    def leave(error): raise error
    def late():
        life.wait()
        with life.task("too late"): pass
    def spawn(call, *args):
        thread = threading.Thread(target=call, args=args); thread.start(); return thread
"""


def test_ends_that_somebody_wanted_and_unraisable_ones_are_no_crash(program: Start):
    run = program(
        ENDS_THAT_ARE_NO_CRASH
        + """
    async def peer_gone(): raise ConnectionResetError("peer")
    async def late_task():
        await life.told()
        async with life.task("too late"): pass
    async def main():
        Leak()
        spawn(leave, SystemExit(4)).join()
        spawn(leave, KeyboardInterrupt()).join()
        asyncio.ensure_future(peer_gone())
        asyncio.ensure_future(asyncio.sleep(0)).cancel()
        asyncio.ensure_future(late_task())
        spawn(late)
        await asyncio.sleep(0.2)
        say("alive", life.shutting_down)
        life.stop("enough")
        await asyncio.sleep(0.2)
    life = Lifecycle()
    say("code", asyncio.run(life.serve(main=main())))
    """
    )
    assert run.ends() == 0 and run.lines == ["alive False", "code 0"], run.err
    assert "in __del__" in run.err and "too late" not in run.err


def test_a_crash_while_draining_makes_the_exit_code_1(program: Start):
    run = program("""
        life = Lifecycle()
        def crash():
            life.wait()
            with life.task("part", part=True): raise KeyError("late")
        def main():
            with life.task("x"):
                thread = threading.Thread(target=crash); thread.start()
                life.stop("enough")
                thread.join()
        life.run(main)
    """)
    assert run.ends() == 1 and "drained, 0 lost" in run.err and "KeyError: 'late'" in run.err
