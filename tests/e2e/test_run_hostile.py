"""`deployer run` on a bad day: a job and services that do what nobody should, and people who press Ctrl-C twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import wait_until
from batch import BatchApp, make_batch, printed, services
from victims import unfinished

CLASSES = """
import os, signal, threading, time
def note(*words):
    with open(os.environ["HERE"] + "/services", "a") as file:
        file.write(" ".join(words) + "\\n")
class Thread:
    def __init__(self):
        threading.Thread(target=time.sleep, args=(60,)).start()
        raise ValueError("no model file")
class Handler:
    def __init__(self):
        signal.signal(signal.SIGTERM, lambda number, frame: note("cache", "own"))
    def cleanup(self):
        note("cache", "cleanup")
class Slow:
    def __init__(self):
        note("cache", "begun")
        time.sleep(60)
    def cleanup(self):
        note("cache", "cleanup")
"""


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[BatchApp]:
    with make_batch(tmp_path) as app:
        yield app


def only(batch: BatchApp, cache: str = "batch_services:Cache", job: str = "") -> None:
    """One service, which is the class *cache*, and a job that is the Python *job*."""
    batch.batch(cache=cache)
    path = batch.root / "deploy.toml"
    text = path.read_text().replace('"batch_services:', '"' if ":" in cache else '"batch_services:')
    begin, end = text.index("[services.queue]"), text.index("[target.local]")
    (batch.dist / "classes.py").write_text(CLASSES)
    if job:
        (batch.dist / "batch_job.py").write_text(job)
    path.write_text(text[:begin] + text[end:])


@pytest.mark.parametrize(
    "report",
    [
        "open(path, 'w').write('[' * 100_000)",
        """open(path, 'w').write('{"a":' * 400 + '1' + '}' * 400)""",
        "os.makedirs(f'{path}/here')",
        "os.mkfifo(path)",
    ],
    ids=["deep", "deeper-than-we-go", "directory", "fifo"],
)
def test_odd_report_of_a_job_keeps_no_service_from_its_clean_up(batch: BatchApp, report: str) -> None:
    only(batch, job=f"import os\npath = os.environ['DEPLOYER_JOB_REPORT']\n{report}\n")
    result = batch.run("run", "--json", timeout=30, check=0)
    assert result.event("job.finished")["exit_code"] == 0
    assert batch.told() == {"cache": ["built", "stop", "cleanup"]} and batch.gone()


def test_secret_in_a_line_that_is_told_in_pieces(batch: BatchApp) -> None:
    line = "import os, time\nprint('x' * 65530 + os.environ['TOKEN'], end='', flush=True)\ntime.sleep(0.3)\n"
    only(batch, job=f"{line}print('y' * 65530, flush=True)\n")
    path = batch.root / "deploy.toml"
    path.write_text(path.read_text().replace("[run]", '[run]\nsecrets = ["TOKEN"]'))
    result = batch.run("run", "--json", env={"TOKEN": "sesame-open-door"}, check=0)
    assert "".join(printed(result.events)) == "x" * 65530 + "***" + "y" * 65530


def test_minus_one_is_an_exit_code_and_no_signal(batch: BatchApp) -> None:
    only(batch, job="raise SystemExit(-1)")
    assert "exited with code 255" in batch.run("run", check=1).err


def test_class_that_fails_with_a_thread_of_its_own_is_told_at_once(batch: BatchApp) -> None:
    only(batch, "classes:Thread")
    result = batch.run("run", "--json", check=1)
    stopped = services(result.events)["cache"]
    assert stopped["error"] == "ValueError: no model file" and stopped["verdict"] is None
    assert not stopped["cleanup_called"] and batch.gone()


def test_class_with_a_handler_of_its_own_is_cleaned_up(batch: BatchApp) -> None:
    only(batch, "classes:Handler")
    result = batch.run("run", "--json", check=0)
    assert services(result.events)["cache"]["cleanup_completed"] and batch.told() == {"cache": ["cleanup"]}


def test_clean_up_of_what_was_never_built_is_not_said_to_be_called(batch: BatchApp) -> None:
    only(batch, "classes:Slow")
    running = batch.start("run", "--json")
    wait_until(batch.told, what="the class is being built")
    batch.run("abort", check=0)
    out, _ = running.communicate(timeout=40)
    stopped = services(batch.events_of(out))["cache"]
    assert stopped["verdict"] == "killed" and not stopped["initialized"] and not stopped["cleanup_called"]
    assert batch.told() == {"cache": ["begun"]} and batch.gone()


def test_second_ctrl_c_at_once_does_not_leave_the_job_running(batch: BatchApp) -> None:
    batch.batch("wait")
    running = batch.started()
    os.kill(running.pid, signal.SIGINT)
    wait_until(lambda: not_pending(running.pid), what="the first one has arrived")
    os.kill(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=40)
    assert running.returncode == 130 and "the host stops the job" in err
    wait_until(lambda: not unfinished(batch), what="the host has stopped it")
    assert (batch.root / "asked").exists() and batch.gone()


def test_ctrl_c_says_which_services_are_kept(batch: BatchApp) -> None:
    batch.batch("wait")
    running = batch.started("--no-autostop")
    os.kill(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=40)
    assert running.returncode == 130 and "cleaned up" not in err and "still running: queue, cache" in err


def not_pending(pid: int) -> bool:
    """Two signals of one kind that are both pending are one."""
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    return not (int(lines["ShdPnd"], 16) | int(lines["SigPnd"], 16)) >> (signal.SIGINT - 1) & 1
