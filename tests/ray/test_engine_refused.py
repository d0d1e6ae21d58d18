"""`--engine ray` where it cannot be: one clear line, and nothing was begun."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from app import SOURCE, App, clean_environment

HOSTS = '\n[target.far]\nhosts = ["nobody@127.0.0.1:1"]\npath = "/srv/app"\n'


def test_a_target_without_hosts_has_nothing_for_a_cluster_to_do(app: App) -> None:
    app.configure()
    result = app.run("push", "--engine", "ray", check=2)
    assert "target local has no hosts" in result.err
    assert not app.host.exists()


def test_an_engine_that_there_is_not_is_named(app: App) -> None:
    app.configure()
    result = app.run("push", "--engine", "celery", check=2)
    assert "there is no engine celery" in result.err and "threads, ray" in result.err


def test_without_ray_asking_for_it_is_one_clear_line(app: App, tmp_path: Path) -> None:
    app.configure(more=HOSTS)
    packages = Path(sysconfig.get_paths()["purelib"])
    without = tmp_path / "packages"
    without.mkdir()
    for package in packages.iterdir():
        if package.name.partition("-")[0] != "ray":
            os.symlink(package, without / package.name)
    env = {**clean_environment(), "PYTHONPATH": f"{SOURCE}:{without}"}
    done = subprocess.run(
        [sys.executable, "-S", "-m", "deployer", "push", "far", "--engine", "ray"], cwd=app.root, env=env,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] == 'error: ray is not installed: pip install "ray>=2.44"'


def test_ray_is_not_imported_unless_asked_for(app: App) -> None:
    app.configure(more=HOSTS)
    looked = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "deployer", "push", "far"], cwd=app.root,
        env={**clean_environment(), "PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    modules = {line.rpartition("|")[2].strip() for line in looked.stderr.splitlines()}
    assert looked.returncode == 6 and "deployer.rollout.fleet" in modules
    assert not modules & {"ray", "deployer.rollout.engine.cluster"}
