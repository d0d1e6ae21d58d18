"""The child of a fork answers for nothing of its parent's."""

from __future__ import annotations

import signal

from living import Start


def test_a_forked_child_is_no_part_of_its_parents_life(program: Start):
    run = program("""
        life = Lifecycle(node=Node(), state=os.path.abspath("state.json"))
        life.cleanup(lambda: say("cleaned", os.getpid() == parent))
        parent = os.getpid()
        def main():
            with life.task("parent's"):
                if os.fork() == 0:
                    assert life.busy == 0 and not life.shutting_down
                    with life.task("child's"):
                        say("child", life.busy)
                    if os.fork() == 0:
                        return  # through run(): nothing to stop here
                    os.wait()
                    time.sleep(3600)
                say("up")
                pid, status = os.wait()
                say("child ended by", os.WTERMSIG(status), life.busy, life.shutting_down)
        life.run(main)
        say("after", os.getpid() == parent)
        sys.stdout.flush(); os._exit(0)
    """)
    run.says("up")
    run.says("after False")  # the grandchild
    (child,) = _children(run.process.pid)
    __import__("os").kill(child, signal.SIGTERM)  # the default again: it dies, and its parent does not drain
    assert run.ends() == 0, run.err
    assert run.lines.count("node leaving main returned") == 1 and run.lines[-2:] == ["cleaned True", "after True"], (
        run.lines
    )
    assert "child ended by 15 1 False" in run.lines and "child 1" in run.lines


def test_multiprocessing_workers_and_a_child_that_begins_a_life_of_its_own(program: Start):
    run = program("""
        import multiprocessing
        life = Lifecycle(node=Node())
        life.cleanup(lambda: say("cleaned"))
        def work():
            life.cleanup(lambda: say("child cleaned"))
            life.run(lambda: say("child ran"))
        def main():
            process = multiprocessing.get_context("fork").Process(target=work)
            process.start(); process.join(); say("child", process.exitcode)
        life.run(main)
    """)
    assert run.ends() == 0, run.err
    assert run.lines == ["node start", "child ran", "child cleaned", "child 0", "node leaving main returned",
                         "node stop main returned 1000", "cleaned"]  # fmt: skip


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(each) for each in file.read().split()]
