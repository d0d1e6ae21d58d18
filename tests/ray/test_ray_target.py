"""A Ray cluster of two nodes as a place to deploy to: what is replaced loses no call, and what dies leaves nothing over."""

import itertools
import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest

from app import SOURCE, heard, read, wait_until
from evidence import SCHEMA
from ray_rig import _namespace_members, app_on, ray_box
from read_ahead import whole

pytestmark = pytest.mark.timeout(400)  # the first waits for its turn: one cluster at a time on a machine

HERE = Path(__file__).parent
SECRET = "s3cret-of-the-test"
RELEASES = itertools.count(1)
HOLDS = itertools.count(1)


@pytest.fixture(scope="module")
def box():
    with ray_box() as made:
        del made.env["PYTHONPATH"]  # on its nodes there is no deployer but the one that a push brings along
        made.head(first=1)
        made.second = made.node(second=1)
        made.driver = made.popen(
            [sys.executable, str(HERE / "driver.py")], env={"PYTHONPATH": str(SOURCE)}, stdin=-1, stderr=None
        )
        yield made


@pytest.fixture(scope="module")
def app(box, tmp_path_factory):
    """One app for all tests: each of them leaves a good release serving."""
    with app_on(box, tmp_path_factory.mktemp("ray") / "app") as made:
        made.env = {"PYTHONPATH": str(SOURCE), "TOKEN": SECRET}
        shutil.copy(HERE / "services.py", made.dist / "my_services.py")
        configure(made)
        renewed(made)
        made.push()
        yield made


def configure(app, plain="{}", within="20s", address="auto"):
    said = app.root / "said.txt"
    (app.root / "deploy.toml").write_text(
        f"""
app = "t-app"
[build]
artifact = "dist"
[run]
secrets = ["TOKEN"]
env = {{ SAID = "{said}" }}
[services.plain]
class = "my_services:Plain"
cleanup_timeout = "3s"
ray = {plain}
[services.plain.health]
interval = "50ms"
ready_within = "{within}"
[services.soon]
class = "my_services:Soon"
[target.ray]
ray = "{address}"
"""
    )


def renewed(app, trouble=""):
    """Another release: what its services answer from now on."""
    name = f"v{next(RELEASES)}"
    app.release(name)
    (app.dist / "trouble.txt").write_text(trouble)
    return name


def ask(box, *what):
    box.driver.stdin.write(json.dumps([one if isinstance(one, int) else str(one) for one in what]) + "\n")
    box.driver.stdin.flush()
    answer = json.loads(box.driver.stdout.readline())
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["answer"]


def version(box, name="plain"):
    return ask(box, "call", name, "work", 1)[0]


def hold(box, name, path):
    """A call that lasts until *path* exists, once it is in flight; its key."""
    key = f"hold {next(HOLDS)}"
    ask(box, "hold", key, name, path)
    wait_until(
        lambda: "hold" in [task["name"] for task in ask(box, "observe")["services"][name]["tasks"]], what="in flight"
    )
    return key


def event_of(process, name):
    assert whole(process).stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == name:
            return json.loads(line)
    raise AssertionError(f"{name} never came: {process.stderr.read()}")


def rest(process):
    out, err = process.communicate(timeout=90)
    return [json.loads(line) for line in out.splitlines()], err


def verdicts(events):
    return {one["service"]: one["verdict"] for one in events if one["event"] == "drain.finished"}


def process(box, mark):
    """The pid of the process with *mark* in its command line, as the machine outside knows it."""
    lines = {pid: read(f"/proc/{pid}/cmdline") for pid in _namespace_members(box.realm.init)}
    found = [pid for pid, line in lines.items() if mark in line]
    assert len(found) == 1, lines
    return found[0]


def directory(box):
    return process(box, b"ray::Directory")


def only_what_serves(box):
    """The two instances and the directory are all that there is."""
    return len(box.processes("ray::Instance")) == 2 and len(ask(box, "look")["named"]) == 3


def test_no_call_is_lost_while_what_answers_is_replaced_and_a_long_call_ends_where_it_began(app, box):
    old, long, enough = version(box), app.root / "long", app.root / "enough"
    callers = box.popen(
        [sys.executable, str(HERE / "callers.py"), "t-app", str(enough)], env={"PYTHONPATH": str(SOURCE)}
    )
    heard(callers, "calling")
    key, new = hold(box, "soon", long), renewed(app)
    push = app.start("push", "--json")
    progress = event_of(push, "drain.progress")
    assert progress["service"] == "soon" and "hold" in [task["name"] for task in progress["tasks"]]
    long.touch()
    events, err = rest(push)
    assert (push.returncode, verdicts(events)["soon"]) == (0, "clean"), err
    assert ask(box, "held_answer", key) == old
    enough.touch()
    out, err = callers.communicate(timeout=60)
    told = json.loads(out.splitlines()[-1])
    assert (told["wrong"], told["seen"]) == ([], [old, new]), err
    assert all(count > 10 for count in told["made"]), told["made"]
    said = (app.root / "said.txt").read_text().splitlines()
    assert [said.count(f"{what} {old}") for what in ("stop", "cleanup", "cleanup soon")] == [1, 1, 1]
    assert only_what_serves(box)


def test_secrets_come_to_the_code_and_stand_nowhere_in_what_ray_knows(app, box):
    assert ask(box, "call", "plain", "who")[1] == SECRET
    assert SECRET not in ask(box, "look")["state"] + "".join(box.processes())
    assert "my_services" in box.run(["ls", "-R", "/tmp/ray/"]).out  # what is looked through is the right place
    assert box.run(["grep", "-rl", SECRET, "/tmp/ray/"], check=False).out == ""


def test_a_call_past_the_ceiling_is_cut_and_named(app, box):
    key, new = hold(box, "plain", app.root / "never"), renewed(app)
    push = app.push("--ceiling", "1s", check=5)
    ended = next(one for one in push.events if one["event"] == "drain.finished" and one["service"] == "plain")
    assert (ended["verdict"], [task["name"] for task in ended["lost"]]) == ("killed", ["hold"])
    with pytest.raises(RuntimeError, match="ActorDiedError"):
        ask(box, "held_answer", key)
    assert version(box) == new and only_what_serves(box)


@pytest.mark.parametrize(
    "trouble, cause",
    [
        ("raises", "migrations pending; token ***"),
        ("until /never", "its constructor has not returned"),
        pytest.param("ill", "health() is not true", marks=pytest.mark.full),
        pytest.param("import", "no such library", marks=pytest.mark.full),
    ],
)
def test_a_broken_release_leaves_the_old_one_serving(app, box, trouble, cause):
    before = ask(box, "call", "plain", "who")
    renewed(app, trouble)
    configure(app, within="3s")
    push = app.push(check=7)
    error = push.event("host.finished")["error"]
    assert cause in error["cause"] and "not touched" in error["state"]
    assert ask(box, "call", "plain", "who") == before and only_what_serves(box)
    assert not [problem.message for event in push.events for problem in SCHEMA.iter_errors(event)]
    configure(app)


def test_a_second_push_is_told_and_a_killed_client_ends_nothing(app, box):
    old, long, new = version(box), app.root / "long2", renewed(app)
    key = hold(box, "plain", long)
    push = app.start("push", "--json")
    event_of(push, "drain.started")
    other = app.push(check=3)
    assert "another deploy is under way" in other.event("host.finished")["error"]["title"]
    push.kill()
    push.communicate()
    assert ask(box, "observe")["under_way"]["step"] == "drain" and version(box) == new
    attached = app.start("attach", "--json")
    waiting = app.start("push", "--json", "--wait-lock", "60s")
    assert event_of(waiting, "lock.waiting")["behind"]["kind"] == "push"
    long.touch()
    assert ask(box, "held_answer", key) == old
    events, err = rest(attached)
    assert (attached.returncode, events[-1]["event"], events[-1]["status"]) == (0, "push.finished", "done"), err
    events, err = rest(waiting)
    assert (waiting.returncode, verdicts(events)["plain"]) == (0, "clean"), (events, err)
    assert version(box) == new and only_what_serves(box)


def test_a_directory_that_dies_while_the_old_one_drains_finds_again_what_it_knew(app, box):
    old, long, new = version(box), app.root / "long3", renewed(app)
    key = hold(box, "plain", long)
    push = app.start("push", "--json")
    event_of(push, "drain.progress")
    os.kill(directory(box), signal.SIGKILL)
    event_of(push, "resumed")
    long.touch()
    events, err = rest(push)
    assert (push.returncode, verdicts(events)["plain"]) == (0, "clean"), (events, err)
    assert ask(box, "held_answer", key) == old
    assert version(box) == new and only_what_serves(box)


def test_a_caller_that_is_held_up_has_the_result_of_its_one_call(app, box):
    """The old instance waits for it: killed with its reply on the way, the call would run a second time on the new one."""
    old, long, new = version(box), app.root / "long4", renewed(app)
    key = hold(box, "plain", long)
    push = app.start("push", "--json")
    event_of(push, "drain.progress")
    caller = process(box, b"/driver.py")
    os.kill(caller, signal.SIGSTOP)
    threading.Timer(2.5, os.kill, (caller, signal.SIGCONT)).start()
    long.touch()
    events, err = rest(push)
    assert (push.returncode, verdicts(events)["plain"]) == (0, "clean"), (events, err)
    assert not [one for one in events if one["event"] == "warning"]
    assert ask(box, "held_answer", key) == old
    assert version(box) == new and only_what_serves(box)


@pytest.mark.full
def test_a_push_whose_directory_dies_before_the_names_have_moved_is_undone(app, box):
    old, gate = version(box), app.root / "gate"
    new = renewed(app, f"until {gate}")
    push = app.start("push", "--json")
    wait_until(lambda: f"building {new}" in (app.root / "said.txt").read_text(), what="the new one is being built")
    os.kill(directory(box), signal.SIGKILL)
    events, err = rest(push)
    assert (push.returncode, events[-1]["status"]) == (1, "failed"), (events, err)
    assert version(box) == old
    wait_until(lambda: only_what_serves(box), what="nothing of the push is left")


def test_a_node_that_dies_with_the_old_instance_does_not_hold_the_push_up(app, box):
    configure(app, plain="{ resources = { second = 1 } }")
    renewed(app)
    app.push()
    key = hold(box, "plain", app.root / "never")
    configure(app, plain="{ resources = { first = 1 } }")
    new = renewed(app)
    push = app.start("push", "--json")
    event_of(push, "drain.started")
    box.kill(box.second)
    events, err = rest(push)
    assert (push.returncode, verdicts(events)["plain"]) == (0, "exited"), (events, err)
    with pytest.raises(RuntimeError, match="Actor"):
        ask(box, "held_answer", key)
    assert version(box) == new
    configure(app)
    newest = renewed(app)
    app.push()
    assert version(box, "soon") == newest and only_what_serves(box)


def test_stop_leaves_nothing_behind(app, box):
    app.run("stop", check=0)
    assert ask(box, "look")["named"] == []
    assert box.processes("ray::Instance") + box.processes("ray::Directory") == []
    assert app.run("status", "--json", check=0).events[0]["hosts"][0]["status"] == "stopped"
