"""A Ray target behind `ray://`: Ray's client server, whose half of the connection runs on the head."""

import shutil
import sys

import pytest
from test_ray_target import (
    HERE,
    SECRET,
    ask,
    configure,
    event_of,
    hold,
    only_what_serves,
    renewed,
    rest,
    verdicts,
    version,
)

from app import SOURCE
from ray_rig import app_on, ray_box

pytest.importorskip("grpc", reason="the client server needs pip install 'ray[client]'")
pytestmark = [pytest.mark.full, pytest.mark.timeout(400)]


def test_releases_follow_one_another_over_the_client_server_and_stop_leaves_nothing(tmp_path):
    with ray_box() as box, app_on(box, tmp_path / "app") as app:
        del box.env["PYTHONPATH"]  # on its nodes there is no deployer but the one that a push brings along
        box.head(first=1)
        box.driver = box.popen([sys.executable, str(HERE / "driver.py")], env={"PYTHONPATH": str(SOURCE)}, stdin=-1)
        ask(box, "look")  # Ray starts a server for each client, and has just been started itself
        app.env = {"PYTHONPATH": str(SOURCE), "TOKEN": SECRET}
        shutil.copy(HERE / "services.py", app.dist / "my_services.py")
        configure(app, address="ray://127.0.0.1:10001")
        old = renewed(app)
        first = app.push()
        assert first.event("host.finished")["host"] == "ray://127.0.0.1:10001" and version(box) == old
        key, new = hold(box, "plain", app.root / "long"), renewed(app)
        push = app.start("push", "--json")
        event_of(push, "drain.progress")
        (app.root / "long").touch()
        events, err = rest(push)
        assert (push.returncode, verdicts(events)["plain"]) == (0, "clean"), (events, err)
        assert (ask(box, "held_answer", key), version(box)) == (old, new) and only_what_serves(box)
        assert app.run("status", "--json", check=0).events[0]["hosts"][0]["status"] == "serving"
        app.run("stop", check=0)
        assert ask(box, "look")["named"] == [] and box.processes("ray::Instance") == []
