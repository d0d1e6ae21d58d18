"""Releases: artifacts of every form, linked paths, settings; kept, pruned, named, pushed again, rolled back to."""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile

import pytest

from app import App
from evidence import faults, running, signals


def test_unchanged_push_changes_nothing_and_says_so(app: App) -> None:
    app.push()
    before = running(app)
    result = app.push()
    assert result.event("push.finished")["status"] == "unchanged"
    assert result.event("push.finished")["hosts"][0] == {
        "host": "local",
        "status": "unchanged",
        "release": before["release"],
    }
    assert faults(result) == []
    assert running(app)["pid"] == before["pid"]
    assert signals(app) == []
    assert os.listdir(app.host / "releases") == [before["release"]]
    assert "nothing to do" in app.run("push", check=0).out


def test_changed_settings_alone_are_a_new_release(app: App) -> None:
    app.configure(args=["--version-text", "one"])
    app.push()
    first = running(app)
    app.configure(args=["--version-text", "two"])
    app.push()
    second = running(app)
    assert (first["version"], second["version"]) == ("one", "two")
    assert first["release"] != second["release"]
    app.configure(args=["--version-text", "two"], drain="ceiling = '5m'")
    assert app.push().event("push.finished")["status"] == "done"  # the drain belongs to it as well


@pytest.mark.parametrize("form", ["file", "tar.gz", pytest.param("zip", marks=pytest.mark.full), "whl"])
def test_artifact_of_every_form_is_unpacked_and_run(app: App, form: str) -> None:
    service = app.dist / "service.py"
    artifact = app.root / f"made-1.0-py3-none-any.{form}"
    if form == "file":
        artifact = service
    elif form == "tar.gz":
        with tarfile.open(artifact, "w:gz") as tar:
            tar.add(service, "service.py")
    else:
        with zipfile.ZipFile(artifact, "w") as zipped:
            zipped.write(service, "service.py")
    app.configure(build=f'artifact = "{artifact}"')
    app.push()
    if form == "whl":  # a wheel is installed, not unpacked: what is asked of it here is that it arrives
        assert list((app.host / "current").iterdir())
    assert running(app)["release"] == app.current()


def test_artifact_of_the_command_line_is_pushed_and_nothing_is_built(app: App) -> None:
    other = app.root / "other"
    shutil.copytree(app.dist, other)
    (other / "version.txt").write_text("from the command line")
    app.configure(build="artifact = 'dist'\ncommand = 'touch built; false'")
    app.push("--artifact", str(other))
    assert (app.host / "current" / "version.txt").read_text() == "from the command line"
    app.push("--no-build")
    assert (app.host / "current" / "version.txt").read_text() == "v1"
    assert not (app.root / "built").exists()


def test_excluded_files_are_not_pushed(app: App) -> None:
    (app.dist / "node_modules").mkdir()
    (app.dist / "node_modules" / "huge.js").write_text("x")
    (app.dist / "debug.log").write_text("x")
    app.configure(build="artifact = 'dist'\nexclude = ['node_modules/', '*.log']")
    app.push()
    assert sorted(os.listdir(app.host / "current")) == ["service.py", "version.txt"]


def test_linked_paths_outlive_every_release(app: App) -> None:
    (app.dist / "data").mkdir()
    (app.dist / "data" / "seed.txt").write_text("seed")
    app.configure(run='linked = ["data", "uploads"]')
    app.push()
    data = app.host / "current" / "data"
    assert data.resolve() == (app.host / "shared" / "data").resolve()
    (data / "user.txt").write_text("written by the app")
    (data / "seed.txt").write_text("changed by the app")
    app.release("v2")
    app.push()
    assert (app.host / "current" / "data" / "user.txt").read_text() == "written by the app"
    assert (app.host / "current" / "data" / "seed.txt").read_text() == "changed by the app"
    assert (app.host / "current" / "uploads").is_dir()
    app.run("rollback", check=0)
    assert (app.host / "current" / "data" / "user.txt").exists()


def push_versions(app: App, *versions: str) -> list[str]:
    """Push each of *versions*; their release ids."""
    found = []
    for version in versions:
        app.release(version)
        found.append(app.push().event("host.finished")["release"])
    return found


def keep(app: App, count: int) -> None:
    app.configure()
    config = app.root / "deploy.toml"
    config.write_text(config.read_text() + f"keep = {count}\n")


def test_old_releases_are_pruned_and_their_secrets_with_them(app: App) -> None:
    keep(app, 2)
    ids = push_versions(app, "v1", "v2", "v3", "v4")
    assert sorted(os.listdir(app.host / "releases")) == sorted(ids[2:])
    listed = app.run("releases", "--json").event("releases")["hosts"][0]["releases"]
    assert [release["id"] for release in listed] == [ids[3], ids[2]]
    assert (app.host / "current" / "version.txt").read_text() == "v4"


def test_what_runs_and_what_would_be_rolled_back_to_are_never_pruned(app: App) -> None:
    keep(app, 1)
    ids = push_versions(app, "v1", "v2", "v3")
    assert sorted(os.listdir(app.host / "releases")) == sorted(ids[1:])
    app.run("rollback", check=0)
    assert running(app)["release"] == ids[1]
    assert ids[2] in os.listdir(app.host / "releases")


def test_rollback_goes_to_the_release_before_or_to_the_named_one(app: App) -> None:
    ids = push_versions(app, "v1", "v2", "v3")
    result = app.run("rollback", "--json", check=0)
    assert faults(result) == []
    assert result.event("push.finished")["hosts"][0]["release"] == ids[1] == running(app)["release"] == app.current()
    assert result.event("drain.finished")["verdict"] == "clean"
    app.run("rollback", ids[0], check=0)
    assert (app.host / "current" / "version.txt").read_text() == "v1"
    app.run("rollback", "local", ids[2], check=0)
    assert running(app)["release"] == ids[2]
    assert len(signals(app)) == 5


def test_rollback_to_a_release_that_is_not_there_is_refused(app: App) -> None:
    ids = push_versions(app, "v1", "v2")
    result = app.run("rollback", "20200101T000000Z-abcdef", "--json", check=2)
    assert all(release in result.err for release in ids)
    assert running(app)["release"] == ids[1]
    assert len(signals(app)) == 1


def test_rollback_check_proves_without_changing_anything(app: App) -> None:
    ids = push_versions(app, "v1", "v2")
    checked = app.run("rollback", "--check", "--json", check=0)
    assert faults(checked) == []
    assert checked.event("rollback")["hosts"][0]["release"] == ids[0]
    os.unlink(app.host / "releases" / ids[0] / "service.py")
    broken = app.run("rollback", "--check", "--json", check=1)
    assert "service.py" in broken.out
    assert running(app)["release"] == ids[1]
    assert len(signals(app)) == 1


def test_release_of_a_chosen_name_is_pushed_and_pushed_again_by_that_name(app: App) -> None:
    app.push("--release", "build-1041")
    assert running(app)["release"] == "build-1041" == app.current()
    push_versions(app, "v2")
    app.configure(build="")  # nothing to build and nothing to send: the host has it
    result = app.push("--release", "build-1041")
    assert result.event("push.finished")["hosts"][0]["release"] == "build-1041" == running(app)["release"]
    assert "stage.finished" not in result.names()
    assert app.push("--release", "build-1041").event("push.finished")["status"] == "unchanged"
    assert app.push("--release", "../evil", check=2).err.startswith("error:")


def test_two_apps_cannot_share_one_path(app: App) -> None:
    app.push()
    before = running(app)
    config = app.root / "deploy.toml"
    config.write_text(config.read_text().replace('app = "t-app"', 'app = "other"'))
    for command in ("push", "stop", "restart", "start"):
        result = app.run(command, "--json", check=6)
        assert 'belongs to the app "t-app", not to "other"' in result.err
    assert running(app)["pid"] == before["pid"]
    config.write_text(config.read_text().replace('app = "other"', 'app = "t-app"'))


def test_old_engines_and_outputs_are_pruned_and_the_one_in_use_stays(app: App) -> None:
    app.push()
    [used] = [path.name for path in (app.host / ".deployer/engine").iterdir() if not path.name.startswith(".")]
    for number in range(5):
        old = app.host / f".deployer/engine/{number:016d}"
        old.mkdir()
        os.utime(old, (number, number))
    for number in range(30):
        (app.host / f".deployer/deploys/2020010{number}T000000Z-push-0000").mkdir()
    app.release("v2")
    app.push()
    kept = {path.name for path in (app.host / ".deployer/engine").iterdir()}
    assert used in kept and len(kept) == 3
    assert len(list((app.host / ".deployer/deploys").iterdir())) <= 21
    app.run("restart", check=0)


def test_rollback_after_a_push_goes_to_what_that_push_replaced(app: App) -> None:
    ids = push_versions(app, "v1", "v2")
    app.run("rollback", check=0)
    newest = push_versions(app, "v3")
    assert running(app)["release"] == newest[-1]
    app.run("rollback", check=0)
    assert running(app)["release"] == ids[0]
