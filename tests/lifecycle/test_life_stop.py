"""A stop: at once when idle, after the work when busy, whatever blocks the main thread and however main was begun."""

from __future__ import annotations

import json
import os
import signal
import textwrap
import time
from itertools import takewhile

import pytest
from living import Start, other_pythons

MAINS = {
    "run": "say('up'); say('code', life.run())",
    "run a blocked main": """
        def main():
            say('up')
            try: time.sleep(3600)
            finally: say('main unwound')
        say('code', life.run(main))
    """,
    "with": """
        with life:
            say('up'); time.sleep(3600)
        say('after')
    """,
    "start": "life.start(); say('up'); time.sleep(3600)",
    "serve": """
        async def main():
            server = await asyncio.start_server(lambda *_: None, '127.0.0.1', 0)
            asyncio.get_running_loop().call_soon(say, 'up')
            say('code', await life.serve(server))
        asyncio.run(main())
    """,
    "serve a blocked main": """
        async def wait_for_work():
            say('up'); await asyncio.Queue().get()
        say('code', asyncio.run(life.serve(main=wait_for_work())))
    """,
    "run an async main": """
        async def main(word):
            say(word); await asyncio.Queue().get()
        say('code', life.run(main, 'up'))
    """,
}
WAIT_FOREVER = 'life = Lifecycle(max_wait="10m", node=Node())\nlife.cleanup(lambda: say("cleaned"))\n'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
@pytest.mark.parametrize("main", MAINS)
def test_an_idle_process_ends_at_once_and_in_order(program: Start, main, number):
    run = program(WAIT_FOREVER + textwrap.dedent(MAINS[main]))
    run.says("node start")  # the signals are ours by then
    run.says("up")
    code, seconds = run.ends_after(number)
    assert code == 0 and seconds < 5, run.err
    told = f"node leaving {number.name}"
    assert run.lines.index(told) < run.lines.index(f"node stop {number.name} 1000") < run.lines.index("cleaned")
    assert "drained, 0 lost" in run.err and "Traceback" not in run.err


@pytest.mark.parametrize("python", other_pythons())
@pytest.mark.parametrize("main", ["run a blocked main", "serve a blocked main"])
def test_the_same_on_the_oldest_and_the_newest_python(program: Start, main, python):
    run = program(WAIT_FOREVER + textwrap.dedent(MAINS[main]), python=python)
    run.says("up")
    code, seconds = run.ends_after(signal.SIGTERM)
    assert code == 0 and seconds < 5 and run.lines[-2:] == ["cleaned", "code 0"], run.err


BUSY = """
    done = threading.Event()

    def work():
        with life.task("callClaude"):
            say("working")
            done.wait()
        say("worked")

    life = Lifecycle(max_wait=LIMIT, node=Node(start=threading.Thread(target=work, daemon=True).start))
    life.cleanup(lambda: say("cleaned"))
"""


def test_work_in_flight_is_waited_for_and_the_registry_knows_at_once(program: Start):
    run = program(
        BUSY.replace("LIMIT", '"10m"')
        + """
    life.on_leaving(lambda: (say("told"), open("told", "w")))
    threading.Thread(target=lambda: [time.sleep(0.01) for _ in iter(lambda: os.path.exists("finish"), True)] and done.set()).start()
    life.run()
    """
    )
    run.says("working")
    run.signal(signal.SIGTERM)
    run.says("told")
    run.signal(signal.SIGTERM)  # twice changes nothing
    run.signal(signal.SIGTERM)
    run.signal(signal.SIGINT)  # one Ctrl-C does not, either
    time.sleep(0.5)
    assert "worked" not in run.lines and run.process.poll() is None
    (run.root / "finish").touch()
    assert run.ends() == 0
    assert run.lines[2:] == ["node leaving SIGTERM", "told", "worked", "node stop SIGTERM 1000", "cleaned"]
    assert "SIGTERM: waiting up to 10m for callClaude" in run.err and "drained, 0 lost in " in run.err


def test_work_is_abandoned_by_name_after_max_wait(program: Start):
    run = program(BUSY.replace("LIMIT", '"300ms"') + "    life.run()\n")
    run.says("working")
    code, seconds = run.ends_after(signal.SIGTERM)
    assert code == 1 and seconds >= 0.3
    assert run.lines[-2:] == ["node stop SIGTERM 1000", "cleaned"] and "lifecycle: abandoned: callClaude " in run.err


def test_a_second_ctrl_c_ends_the_wait(program: Start):
    run = program(BUSY.replace("LIMIT", '"10m"') + "    life.run()\n")
    run.says("working")
    run.signal(signal.SIGINT)
    run.says("node leaving SIGINT")
    code, seconds = run.ends_after(signal.SIGINT)
    assert code == 1 and seconds < 10 and "abandoned: callClaude" in run.err and run.lines[-1] == "cleaned"


def test_work_that_its_main_is_called_back_from_is_abandoned_too(program: Start):
    run = program("""
        life = Lifecycle(max_wait="300ms", state="left.json")
        def main():
            with life.task("slow"):
                say("up")
                time.sleep(3600)
        life.run(main)
    """)
    run.says("up")
    code, _ = run.ends_after(signal.SIGTERM)
    assert code == 1 and "abandoned: slow" in run.err, run.err
    left = json.loads((run.root / "left.json").read_text())
    assert [task["name"] for task in left["tasks"]] == ["slow"] and left["verdict"].startswith("abandoned: slow ")


def test_a_main_that_notices_is_let_finish(program: Start):
    run = program("""
        life = Lifecycle(max_wait="10m", cleanup_within="500ms")
        def main():
            say("up")
            while life.sleep(3600): pass
            time.sleep(0.7)
            say("finished")
        async def async_main():
            await life.told()
            await asyncio.sleep(0.7)
            say("async finished")
        main = main if sys.argv[0].endswith("run0/program.py") else async_main
        say("up")
        say("code", life.run(main))
    """)
    other = program((run.root / "program.py").read_text())
    for each, last in ((run, "finished"), (other, "async finished")):
        each.says("up")
        time.sleep(0.3)
        each.signal(signal.SIGTERM)
        assert each.ends() == 0 and each.lines[-2:] == [last, "code 0"], each.err


UNREACHABLE = {
    "a C call": """
        import ctypes
        lock = ctypes.create_string_buffer(64)
        libc = ctypes.CDLL(None)
        def main():
            libc.pthread_mutex_lock(lock)
            say("up")
            libc.pthread_mutex_lock(lock)  # for ever, whatever signal comes
        life.run(main)
    """,
    "a blocked loop": """
        async def main():
            say("up")
            while True:
                try: time.sleep(3600)
                except BaseException: pass
        asyncio.run(life.serve(main=main()))
    """,
    "a blocked loop without a main": """
        async def serve():
            asyncio.get_running_loop().call_later(0.1, lambda: (say("up"), [time.sleep(1) for _ in iter(int, 1)]))
            await life.serve()
        asyncio.run(serve())
    """,
    "a main that swallows everything": """
        def main():
            say("up")
            while True:
                try: time.sleep(3600)
                except BaseException: pass
        life.run(main)
    """,
}


@pytest.mark.parametrize("main", UNREACHABLE)
def test_a_main_thread_that_cannot_be_reached_holds_nothing(program: Start, main):
    run = program(
        'life = Lifecycle(cleanup_within="2s", node=Node())\nlife.cleanup(lambda: say("cleaned"))\n'
        + textwrap.dedent(UNREACHABLE[main])
    )
    run.says("up")
    began = time.monotonic()
    run.signal(signal.SIGTERM)
    run.says("node leaving SIGTERM")
    heard = time.monotonic() - began
    assert run.ends() == 0 and heard < 2, run.err
    assert run.lines[-2:] == ["node stop SIGTERM 1000", "cleaned"] and "drained, 0 lost" in run.err


def test_a_loop_that_takes_the_wakeup_descriptor_away_changes_nothing(program: Start):
    run = program("""
        import socket
        life = Lifecycle(node=Node())
        def main():  # what uvloop does while it runs
            mine, theirs = socket.socketpair()
            mine.setblocking(False)
            signal.set_wakeup_fd(mine.fileno())
            with life.task("x"):
                say("up")
                theirs.recv(1)
                while theirs.recv(1)[0] != 2: pass
                say("two")
                life.wait(1) and time.sleep(3600)
        life.run(main)
    """)
    run.says("up")
    run.signal(signal.SIGINT)
    run.says("node leaving SIGINT")
    run.signal(signal.SIGINT)
    assert run.ends() == 1 and "abandoned: x" in run.err, run.err


def test_a_signal_in_the_middle_of_the_start_keeps_main_from_beginning(program: Start):
    run = program("""
        life = Lifecycle(node=Node(start=lambda: (os.kill(os.getpid(), signal.SIGTERM), life._parts.told.wait(10))))
        life.cleanup(lambda: say("cleaned"))
        say("code", life.run(lambda: say("main")))
    """)
    assert run.ends() == 0 and "main" not in run.lines, run.err
    assert {"node leaving SIGTERM", "node stop SIGTERM 1000", "cleaned"} <= {*run.lines} and run.lines[-1] == "code 0"


def test_signals_during_the_clean_up_change_nothing(program: Start):
    run = program("""
        life = Lifecycle()
        @life.cleanup
        def slowly():
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGTERM); os.kill(os.getpid(), signal.SIGINT); time.sleep(0.05)
            say("cleaned")
        life.run(lambda: say("main"))
        say("after")
    """)
    assert run.ends() == 0 and run.lines == ["main", "cleaned", "after"], run.err


def test_what_was_there_before_is_put_back(program: Start):
    run = program("""
        before = lambda *_: None
        signal.signal(signal.SIGTERM, before)
        all_of_it = lambda: (signal.getsignal(15), signal.getsignal(2), sys.excepthook, threading.excepthook)
        was = all_of_it()
        read, write = os.pipe(); os.set_blocking(write, False)
        signal.set_wakeup_fd(write)
        with Lifecycle():
            now = all_of_it()
        say(all_of_it() == was, all(a != b for a, b in zip(now, was)), signal.set_wakeup_fd(-1) == write)
    """)
    assert run.ends() == 0 and run.lines == ["True True True"], run.err


def test_outside_of_the_main_thread_signals_stay_the_callers(program: Start):
    run = program("""
        life = Lifecycle(node=Node())
        life.cleanup(lambda: say("cleaned"))
        hook = threading.excepthook
        def elsewhere():
            life.start()
            say(signal.getsignal(15) == signal.SIG_DFL, "code", life.stop("enough"), threading.excepthook is hook)
        thread = threading.Thread(target=elsewhere); thread.start(); thread.join()
        say("after")
    """)
    assert run.ends() == 0 and "signals stay the caller's" in run.err
    assert run.lines == [
        "node start",
        "node leaving enough",
        "node stop enough 1000",
        "cleaned",
        "True code 0 True",
        "after",
    ]


def test_a_framework_with_handlers_of_its_own_gets_the_signal_once_the_work_is_done(program: Start):
    run = program("""
        life = Lifecycle()
        life.cleanup(lambda: say("cleaned"))
        stopped = []
        signal.signal(signal.SIGTERM, lambda *_: (say("framework stops"), stopped.append(1)))
        life.start()
        def work():
            with life.task("x"):
                say("up"); life.wait(); time.sleep(0.3)
            say("worked")
        threading.Thread(target=work).start()
        while not stopped: time.sleep(0.05)
        say("framework ends")
    """)
    run.says("up")
    run.signal(signal.SIGTERM)
    assert run.ends() == 0 and run.lines == ["up", "worked", "framework stops", "framework ends", "cleaned"], run.err


def test_a_loop_with_a_handler_of_its_own_hears_the_signal_once_the_work_is_done(program: Start):
    run = program("""
        life = Lifecycle()
        life.cleanup(lambda: say("cleaned"))
        async def framework():
            stopped, loop = asyncio.Event(), asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, stopped.set)
            life.start()
            say("up")
            await stopped.wait()
            say("framework ends")
        asyncio.run(framework())
    """)
    run.says("up")
    code, took = run.ends_after(signal.SIGTERM)
    assert (code, run.lines) == (0, ["up", "framework ends", "cleaned"]) and took < 10, run.err


def test_a_framework_that_dies_of_the_signal_in_the_end_is_cleaned_up_first(program: Start):
    run = program("""
        life = Lifecycle(node=Node())
        life.cleanup(lambda: say("cleaned"))
        stopped = []
        signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
        life.start()
        say("up")
        while not stopped: time.sleep(0.05)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as uvicorn does
        signal.raise_signal(signal.SIGTERM)
        say("framework ends")
    """)
    run.says("up")
    run.signal(signal.SIGTERM)
    assert run.ends() == 0 and "cleaned" in run.lines, run.err


BEGINNINGS = {
    "run": "life.run(main)",
    "with": "with life: main()",
    "start": "life.start(); main()",
    "serve": "asyncio.run(life.serve(main=async_main()))",
}


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_sys_exit_in_main_cleans_up_and_keeps_its_code(program: Start, begin):
    run = program(f"""
        life = Lifecycle(node=Node())
        life.cleanup(lambda: say("cleaned"))
        def main(): sys.exit(3)
        async def async_main(): sys.exit(3)
        {BEGINNINGS[begin]}
    """)
    assert run.ends() == 3 and run.lines[-1] == "cleaned" and "Traceback" not in run.err, run.err


def test_stop_from_within_a_task_only_tells_and_the_task_is_finished(program: Start):
    run = program("""
        life = Lifecycle()
        def main():
            with life.task("admin asks us to go"):
                life.stop("asked")
                say("went on", life.shutting_down)
        say("code", life.run(main))
    """)
    assert run.ends() == 0 and run.lines == ["went on True", "code 0"], run.err


def test_a_drained_stop_runs_atexit_and_idle_threads_do_not_hold_it(program: Start):
    run = program("""
        import atexit, queue
        from concurrent.futures import ThreadPoolExecutor
        atexit.register(lambda: say("atexit"))
        pool = ThreadPoolExecutor(2)
        pool.submit(lambda: None).result()
        threading.Thread(target=queue.Queue().get).start()  # idle for ever, and no daemon
        say("code", Lifecycle().run(lambda: say("main")))
    """)
    assert run.ends() == 0 and run.lines == ["main", "code 0", "atexit"], run.err


@pytest.mark.parametrize(
    ("begin", "end", "code"),
    [("life.start(); life.stop()", "sys.exit(3)", 3), ("with life: pass", "raise ValueError", 1)],
)
def test_a_stop_that_is_over_lends_its_exit_code_to_no_later_end(program: Start, begin, end, code):
    run = program(f"""
life = Lifecycle()
{begin}
threading.Thread(target=time.sleep, args=(1.5,)).start()
{end}
    """)
    assert run.ends() == code, run.err


def test_a_stderr_that_nobody_reads_holds_no_stop(program: Start):
    run = program("""
read, write = os.pipe()
os.set_blocking(write, False)
try:
    while os.write(write, b"x" * 4096): pass
except BlockingIOError:
    os.set_blocking(write, True)
os.dup2(write, 2)
life = Lifecycle(max_wait="10s")
life.cleanup(lambda: say("clean"))
threading.Timer(0.1, os.kill, (os.getpid(), 15)).start()
life.run()
    """)
    assert run.ends(15) == 0 and run.lines == ["clean"]


def test_a_thread_that_waits_for_work_for_a_loop_does_not_hold_it(program: Start):
    run = program("""
        import queue
        async def main():
            asyncio.get_running_loop().call_later(0.1, say, "up")
            await asyncio.to_thread(queue.Queue().get)
        say("code", asyncio.run(Lifecycle().serve(main=main())))
    """)
    run.says("up")
    code, seconds = run.ends_after(signal.SIGTERM)
    assert code == 0 and seconds < 15 and run.lines == ["up", "code 0"], run.err


def test_abandoned_work_of_an_executor_does_not_hold_the_process(program: Start):
    run = program("""
        import atexit
        from concurrent.futures import ThreadPoolExecutor
        atexit.register(lambda: sys.stdout.write("atexit, buffered"))
        def work():
            with life.task("endless"):
                say("up"); time.sleep(3600)
        life = Lifecycle(max_wait="200ms", node=Node(start=lambda: ThreadPoolExecutor(1).submit(work)))
        life.run()
    """)
    run.says("up")
    code, seconds = run.ends_after(signal.SIGTERM)
    assert code == 1 and seconds < 15 and "abandoned: endless" in run.err
    assert run.lines[-1] == "atexit, buffered", run.lines


def test_waits_and_pauses_end_early_in_threads_and_loops(program: Start):
    run = program("""
        life = Lifecycle()
        def in_thread(name, call):
            say(name, call())
        threads = [threading.Thread(target=in_thread, args=each) for each in
                   [("wait", life.wait), ("wait limited", lambda: life.wait("1h")), ("sleep", lambda: life.sleep(3600))]]
        for thread in threads: thread.start()
        async def main():
            say("short", await life.asleep("10ms"), life.sleep("10ms"), life.wait(0.01))
            say("up")
            say("asleep", await life.asleep(3600))
        asyncio.run(life.serve(main=main()))
        for thread in threads: thread.join()
    """)
    run.says("up")
    code, seconds = run.ends_after(signal.SIGTERM)
    assert code == 0 and seconds < 5, run.err
    assert sorted(run.lines) == [
        "asleep False",
        "short True True False",
        "sleep False",
        "up",
        "wait True",
        "wait limited True",
    ]


def test_a_lifecycle_serves_one_run_and_says_so(program: Start):
    run = program("""
        life = Lifecycle()
        with life:
            try: life.start()
            except RuntimeError as error: say(error)
        try: life.run()
        except RuntimeError as error: say(error)
    """)
    assert (
        run.ends() == 0
        and [*takewhile(lambda line: "started before" in line, run.lines)] == run.lines
        and len(run.lines) == 2
    )


def test_what_is_told_to_leave_is_waited_for_and_may_fail(program: Start):
    run = program("""
        life = Lifecycle()
        async def duck(): await asyncio.sleep(0.3); say("duck", threading.current_thread() is threading.main_thread())
        def broken(): raise ValueError("broken part")
        def slow(): time.sleep(0.3); say("slow", threading.current_thread() is threading.main_thread())
        for part in (duck, broken, slow): life.on_leaving(part)
        life.cleanup(lambda: say("cleaned"))
        async def main(): say("up"); await life.told()
        asyncio.run(life.serve(main=main()))
    """)
    run.says("up")
    run.signal(signal.SIGTERM)
    assert (
        run.ends() == 0
        and sorted(run.lines) == ["cleaned", "duck True", "slow False", "up"]
        and run.lines[-1] == "cleaned"
    )
    assert "broken part" in run.err


def test_a_stop_needs_no_busy_waiting(program: Start):
    run = program(
        BUSY.replace("LIMIT", '"2s"')
        + """
    life.cleanup(lambda: say("cpu", time.process_time() - used))
    used = 1e9
    def measure():
        global used
        life.wait(); used = time.process_time()
    threading.Thread(target=measure).start()
    life.run()
    """
    )
    run.says("working")
    run.signal(signal.SIGTERM)
    assert run.ends() == 1
    assert float(next(line for line in run.lines if line.startswith("cpu")).split()[1]) < 0.2, os.times()
