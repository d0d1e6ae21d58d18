"""Commands that the app started: work until they have exited, asked once, killed only when the time is over."""

from __future__ import annotations

import signal

from living import Start

from app import alive, wait_until


def test_children_are_tasks_asked_once_and_waited_for(program: Start):
    run = program(
        """
    import subprocess
    life = Lifecycle()
    life.cleanup(lambda: say("cleaned", life.busy))
    def main():
        encoder = life.popen(child(), name="encode")
        adopted = life.child(subprocess.Popen(child()))
        say([task["name"] for task in life.tasks], os.getsid(encoder.pid) == encoder.pid, os.getsid(adopted.pid) == os.getsid(0))
        time.sleep(3600)
    life.run(main)
    """
    )
    wait_until(lambda: run.lines.count("child up") == 2)
    run.signal(signal.SIGTERM)
    run.signal(signal.SIGTERM)
    assert run.ends() == 0, run.err
    assert any(line.endswith("True True") and "encode" in line for line in run.lines)
    assert run.lines[-3:] == ["child asked 1", "child asked 1", "cleaned 0"]


def test_a_part_of_other_work_is_not_asked_unless_it_shall_be(program: Start):
    run = program(
        """
    life = Lifecycle()
    def main():
        with life.task("callClaude"):
            quiet = life.popen([sys.executable, "-c", "import time; time.sleep(1); print('finished', flush=True)"])
            life.popen(child(), ask=True)
            life.wait()
            say("code", quiet.wait())
    life.run(main)
    """
    )
    run.says("child up")
    run.signal(signal.SIGTERM)
    assert run.ends() == 0 and sorted(run.lines) == ["child asked 1", "child up", "code 0", "finished"], run.err


def test_a_child_that_stays_is_killed_with_its_group_when_the_time_is_over(program: Start):
    run = program("""
        life = Lifecycle(max_wait="500ms")
        def main():
            life.popen("trap '' TERM; sleep 3600 & echo up $!; wait; wait", shell=True, name="stubborn")
            time.sleep(3600)
        life.run(main)
    """)
    (line,) = wait_until(lambda: [line for line in run.lines if line.startswith("up ")])
    run.signal(signal.SIGTERM)
    assert run.ends() == 1 and "abandoned: stubborn" in run.err
    wait_until(lambda: not alive(int(line.split()[1])), 10, "the group is gone")


def test_asyncios_processes_keep_their_exit_code_and_leave_no_zombie(program: Start):
    run = program("""
        life = Lifecycle()
        async def main():
            process = life.child(await asyncio.create_subprocess_exec("sh", "-c", "exit 7"), name="seven")
            say("code", await process.wait())
            kept = life.popen(["true"])  # and never waited for
            while life.busy: await asyncio.sleep(0.01)
            say("zombies", open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read() or "none", kept.pid > 0)
        asyncio.run(life.serve(main=main()))
    """)
    assert run.ends() == 0 and run.lines == ["code 7", "zombies none True"], run.err


def test_a_command_that_cannot_be_started_is_no_task(program: Start):
    run = program("""
        life = Lifecycle()
        def main():
            try: life.popen(["/nonexistent/command"])
            except FileNotFoundError: say("refused", life.busy)
        life.run(main)
        try: life.popen(["true"])
        except ShuttingDown: say("too late")
    """)
    assert run.ends() == 0 and run.lines == ["refused 0", "too late"], run.err
