"""A Ray cluster of two nodes as a place to deploy to: what is replaced loses no call, and what dies leaves nothing over."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from app import SOURCE, heard, wait_until
from ray_rig import app_on, ray_box

HERE = Path(__file__).parent
SECRET = "s3cret-of-the-test"
LOOK = """
import json, ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
from ray._private.state import actors, jobs
print(json.dumps({"named": [one["name"] for one in ray.util.list_named_actors(all_namespaces=True)],
                  "state": repr(actors()) + repr(jobs())}))
"""
CALL = """
import sys, ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
from deployer.ray import service
print("calling", flush=True)
print("answer", getattr(service(sys.argv[1], app="t-app"), sys.argv[2])(*sys.argv[3:]), flush=True)
"""


@pytest.fixture(scope="module")
def box():
    with ray_box() as made:
        del made.env["PYTHONPATH"]  # on its nodes there is no deployer but the one that a push brings along
        made.head(first=1)
        made.second = made.node(second=1)
        yield made


@pytest.fixture
def app(box, tmp_path):
    with app_on(box, tmp_path / "app") as made:
        made.env = {"PYTHONPATH": str(SOURCE), "TOKEN": SECRET}
        shutil.copy(HERE / "services.py", made.dist / "my_services.py")
        configure(made)
        yield made
        made.run("stop", "--ceiling", "100ms")


def configure(app, plain="{}", more=""):
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
ready_within = "20s"
[services.soon]
class = "my_services:Soon"
[target.ray]
ray = "auto"
{more}"""
    )


def calling(box, *words):
    begun = box.popen([sys.executable, "-c", CALL, *map(str, words)], env={"PYTHONPATH": str(SOURCE)})
    heard(begun, "calling")
    return begun


def call(box, *words):
    out = box.python(CALL, *map(str, words), env={"PYTHONPATH": str(SOURCE)}).out
    return out.partition("answer ")[2].strip()


def answer(begun):
    out, err = begun.communicate(timeout=60)
    return out.partition("answer ")[2].strip(), err


def look(box):
    return json.loads(box.python(LOOK).out)


def services(app):
    facts = app.run("status", "--json", check=0).events[0]["hosts"][0]["facts"]
    return {one["service"]: one for one in facts["services"]}, facts


def holds(app, box, name, path):
    """A call that lasts until *path* exists, once it is in flight."""
    begun = calling(box, name, "hold", path)
    wait_until(lambda: any(task["name"] == "hold" for task in services(app)[0][name]["tasks"]), what="the call is in flight")
    return begun


def event_of(process, name):
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == name:
            return json.loads(line)
    raise AssertionError(f"{name} never came: {process.stderr.read()}")


def rest(process):
    out, err = process.communicate(timeout=90)
    return [json.loads(line) for line in out.splitlines()], err


def directory(box):
    """The pid of the directory's process, as the machine outside knows it."""
    from ray_rig import _namespace_members
    from app import read

    found = [pid for pid in _namespace_members(box.realm.init) if read(f"/proc/{pid}/cmdline").startswith(b"ray::Directory")]
    assert len(found) == 1, found
    return found[0]


def test_no_call_is_lost_while_what_answers_is_replaced_and_a_long_call_ends_where_it_began(app, box):
    first = app.push()
    assert first.event("push.finished")["status"] == "done"
    long, enough = app.root / "long", app.root / "enough"
    callers = box.popen([sys.executable, str(HERE / "callers.py"), "t-app", str(enough)], env={"PYTHONPATH": str(SOURCE)})
    heard(callers, "calling")
    held = holds(app, box, "soon", long)
    app.release("v2")
    push = app.start("push", "--json")
    started = event_of(push, "drain.progress")
    assert started["service"] == "soon" and "hold" in [task["name"] for task in started["tasks"]]
    long.touch()
    events, err = rest(push)
    verdicts = {one["service"]: (one["verdict"], one["lost"]) for one in events if one["event"] == "drain.finished"}
    assert (push.returncode, verdicts["soon"]) == (0, ("clean", [])), err
    assert answer(held)[0] == "v1"
    enough.touch()
    out, err = callers.communicate(timeout=60)
    told = json.loads(out.splitlines()[-1])
    assert (told["wrong"], told["seen"]) == ([], ["v1", "v2"]), err
    assert all(count > 10 for count in told["made"]), told["made"]
    said = (app.root / "said.txt").read_text().splitlines()
    assert [line for line in said if line.endswith("v1") and "clean" in line or line == "stop v1"] == [
        "stop v1", "cleanup v1", "cleanup soon v1"
    ]  # fmt: skip
    # The values of secrets came to the code, and stand nowhere in what Ray knows, writes down or shows.
    assert SECRET in call(box, "plain", "who")
    assert SECRET not in look(box)["state"] + "".join(box.processes())
    assert box.run(["grep", "-rl", SECRET, "/tmp/ray/"], check=False).out == ""
    app.run("stop", check=0)
    assert look(box)["named"] == []
    assert box.processes("ray::Instance") + box.processes("ray::Directory") == []


def test_a_call_past_the_ceiling_is_cut_and_named(app, box):
    app.push()
    held = holds(app, box, "plain", app.root / "never")
    app.release("v2")
    push = app.push("--ceiling", "1s", check=5)
    ended = next(one for one in push.events if one["event"] == "drain.finished" and one["service"] == "plain")
    assert (ended["verdict"], [task["name"] for task in ended["lost"]]) == ("killed", ["hold"])
    assert "ActorDiedError" in answer(held)[1]
    assert call(box, "plain", "work", 1) == "('v2', '1')"
    assert len(box.processes("ray::Instance")) == 2


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
    app.push()
    before = call(box, "plain", "who")
    (app.dist / "trouble.txt").write_text(trouble)
    text = (app.root / "deploy.toml").read_text()
    (app.root / "deploy.toml").write_text(text.replace('"20s"', '"3s"'))
    push = app.push(check=7)
    error = push.event("host.finished")["error"]
    assert cause in error["cause"] and "not touched" in error["state"]
    assert call(box, "plain", "who") == before
    assert len(look(box)["named"]) == 3 and len(box.processes("ray::Instance")) == 2


def test_a_second_push_is_told_and_a_killed_client_ends_nothing(app, box):
    app.push()
    long = app.root / "long"
    held = holds(app, box, "plain", long)
    app.release("v2")
    push = app.start("push", "--json")
    event_of(push, "drain.started")
    other = app.push(check=3)
    assert "another deploy is under way" in other.event("host.finished")["error"]["title"]
    push.kill()
    assert services(app)[1]["under_way"]["step"] == "drain"
    long.touch()
    assert answer(held)[0] == "v1"
    wait_until(lambda: services(app)[1]["under_way"] is None, what="the cluster has finished the push by itself")
    assert services(app)[1]["leaving"] == [] and call(box, "plain", "work", 1) == "('v2', '1')"
    assert len(box.processes("ray::Instance")) == 2


def test_a_directory_that_dies_finds_again_what_it_knew(app, box):
    app.push()
    long, gate = app.root / "long", app.root / "gate"
    held = holds(app, box, "plain", long)
    app.release("v2")
    push = app.start("push", "--json")
    event_of(push, "drain.progress")
    os.kill(directory(box), signal.SIGKILL)
    event_of(push, "resumed")
    long.touch()
    events, err = rest(push)
    assert push.returncode == 0, (events, err)
    assert answer(held)[0] == "v1"
    assert SECRET in call(box, "plain", "who")
    # Before the names have moved, a push that lost its directory is undone.
    (app.dist / "trouble.txt").write_text(f"until {gate}")
    push = app.start("push", "--json")
    wait_until(lambda: (app.root / "said.txt").read_text().count("building v2") == 2, what="the new one is being built")
    os.kill(directory(box), signal.SIGKILL)
    events, err = rest(push)
    assert (push.returncode, events[-1]["status"]) == (1, "failed"), err
    assert call(box, "plain", "work", 1) == "('v2', '1')"
    wait_until(lambda: len(box.processes("ray::Instance")) == 2, what="nothing of the push is left")
    gate.touch()
    app.push()
    assert len(look(box)["named"]) == 3


def test_a_node_that_dies_with_the_old_instance_does_not_hold_the_push_up(app, box):
    configure(app, plain="{ resources = { second = 1 } }")
    app.push()
    held = holds(app, box, "plain", app.root / "never")
    configure(app, plain="{ resources = { first = 1 } }")
    app.release("v2")
    push = app.start("push", "--json")
    event_of(push, "drain.started")
    box.kill(box.second)
    events, err = rest(push)
    verdicts = {one["service"]: one["verdict"] for one in events if one["event"] == "drain.finished"}
    assert (push.returncode, verdicts["plain"]) == (0, "exited"), (events, err)
    assert "Actor" in answer(held)[1]
    assert call(box, "plain", "work", 1) == "('v2', '1')"
    app.release("v3")
    app.push()
    assert (call(box, "soon", "work", 1), len(look(box)["named"])) == ("('v3', '1')", 3)
    assert len(box.processes("ray::Instance")) == 2
