"""Clean-up: in order, each under its share, in the thread that it expects; and the registry is told before, whatever happens."""

from __future__ import annotations

import re

import pytest
from living import Start


def test_callbacks_run_in_order_under_their_names_whatever_one_raises(program: Start):
    run = program("""
        life = Lifecycle()
        class Odd(BaseException): pass

        @life.cleanup
        def first(): say("first")
        @life.cleanup(name="the database")
        async def second(): await asyncio.sleep(0); say("second"); raise ValueError("no database")
        @life.cleanup
        def third(): say("third"); raise Odd("worse")
        @life.cleanup
        def fourth(): say("fourth"); sys.exit(9)
        life.cleanup(lambda: say("fifth"), name="fifth")
        say("code", life.run(lambda: say("main", first.__name__)))
    """)
    assert run.ends() == 0 and run.lines == ["main first", "first", "second", "third", "fourth", "fifth", "code 0"]
    for said in (
        'clean-up "the database" failed',
        "ValueError: no database",
        'clean-up "third" failed',
        'clean-up "fourth" failed',
    ):
        assert said in run.err


HANGS = {
    "main thread": ("def hang(): time.sleep(3600)", "life.run(lambda: None)"),
    "loop": ("async def hang(): await asyncio.sleep(3600)", "asyncio.run(life.serve(main=asyncio.sleep(0)))"),
    "loop, cancellation refused": (
        """
async def hang():
    while True:
        try: await asyncio.sleep(3600)
        except asyncio.CancelledError: pass""",
        "asyncio.run(life.serve(main=asyncio.sleep(0)))",
    ),
    "loop, blocked": ("def hang(): time.sleep(3600)", "asyncio.run(life.serve(main=asyncio.sleep(0)))"),
    "main called back": (
        "def hang(): time.sleep(3600)",
        "life.run(lambda: os.kill(os.getpid(), 15) or time.sleep(3600))",
    ),
}


@pytest.mark.parametrize(
    "where", [*HANGS][:3] + [pytest.param(where, marks=pytest.mark.full) for where in [*HANGS][3:]]
)
def test_one_that_hangs_gets_its_share_and_no_more(program: Start, where):
    hang, go = HANGS[where]
    run = program(f"""
life = Lifecycle(cleanup_within="1200ms", node=Node(start=lambda: None))
{hang}
began = time.monotonic()
life.cleanup(lambda: say("before"))
life.cleanup(hang, name="hangs")
life.cleanup(lambda: say("after", 0.2 < time.monotonic() - began < 1.2))
{go}
    """)
    assert run.ends() == 0, run.err  # no work was lost
    assert run.lines[-2:] == ["before", "after True"], run.err
    assert re.search(r'clean-up "hangs" did not end within 0\.[456]s, its share', run.err), run.err


def test_callbacks_run_where_the_things_they_close_belong(program: Start):
    run = program("""
        import sqlite3
        life = Lifecycle()
        database = sqlite3.connect(":memory:")  # only its own thread may close it
        life.cleanup(database.close)
        life.cleanup(lambda: say(threading.current_thread().name))
        life.run(lambda: time.sleep(0))
        life = Lifecycle()
        async def main():
            loop = asyncio.get_running_loop()
            life.cleanup(lambda: say(asyncio.get_running_loop() is loop))
            async def coroutine(): say(asyncio.get_running_loop() is loop)
            life.cleanup(coroutine)
            await life.serve(main=asyncio.sleep(0))
        asyncio.run(main())
    """)
    assert run.ends() == 0 and run.lines == ["MainThread", "True", "True"] and "failed" not in run.err, run.err


def test_a_callback_that_stops_again_only_tells(program: Start):
    run = program("""
life = Lifecycle()
life.on_leaving(lambda: say("leaving", life.stop("again")))
life.cleanup(lambda: say("cleanup", life.stop("again")))
life.cleanup(lambda: say("next"))
threading.Timer(0.1, os.kill, (os.getpid(), 15)).start()
began = time.monotonic()
life.run()
say("over", time.monotonic() - began < 10)
    """)
    assert run.ends() == 0, run.err
    assert run.lines == ["leaving 0", "cleanup 0", "next", "over True"], run.err


def test_registering_during_the_clean_up_is_refused_clearly(program: Start):
    run = program("""
        life = Lifecycle()
        def late(): life.cleanup(lambda: say("never"), name="late one")
        life.cleanup(late)
        life.run(lambda: None)
    """)
    assert run.ends() == 0 and run.lines == []
    assert 'RuntimeError: clean-up "late one" was not registered: the clean-up is under way' in run.err


@pytest.mark.parametrize("broken", ["raise ValueError('no state')", "time.sleep(3600)", "return object()"])
def test_the_registry_is_told_before_any_clean_up_and_even_if_the_snapshot_fails(program: Start, broken):
    run = program(f"""
        life = Lifecycle(node=Node(), state="/nonexistent/directory/state.json")
        def state(): {broken}
        life.service("cache", state)
        life.cleanup(lambda: say("cleaned"))
        life.run(lambda: None)
    """)
    code = run.ends()
    assert run.lines == ["node start", "node leaving main returned", "node stop main returned 1000", "cleaned"], run.err
    assert 'service "cache"' in run.err and "the state was not saved in /nonexistent/directory/state.json" in run.err
    assert code == 0


@pytest.mark.parametrize("what", ["leaving", "stop"])
def test_a_broken_or_hanging_agent_stops_no_stop(program: Start, what):
    run = program(f"""
        def broken(): raise OSError("agent is broken")
        hang = lambda: time.sleep(3600)
        life = Lifecycle(node=Node({what}=broken if sys.argv[0].endswith("run0/program.py") else hang))
        life.cleanup(lambda: say("cleaned"))
        say("code", life.run(lambda: None))
    """)
    hanging = program((run.root / "program.py").read_text())
    for each, said in (
        (run, f"the node agent's {what}() failed"),
        (hanging, f"the node agent's {what}() does not return"),
    ):
        assert each.ends() == 0 and each.lines[-2:] == ["cleaned", "code 0"] and said in each.err, each.err
