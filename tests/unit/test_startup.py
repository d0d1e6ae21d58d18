"""The start of the `deployer` command, which is tuned: what it imports, the engine that boots beside it, its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from app import alive, wait_until
from deployer import entry
from deployer.cli.app import app
from deployer.errors import LinkError
from deployer.link import local

SOURCE = Path(entry.__file__).parents[1]
ENV = {**os.environ, "PYTHONPATH": str(SOURCE)}
MAIN = "import deployer.entry; deployer.entry.main()"
WITHOUT_ENGINE = {"init", "registry", "run"}


def deployer(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deployer", *arguments]
    return subprocess.run(command, env=ENV, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60)


def test_engine_is_started_ahead_by_every_command_that_asks_it() -> None:
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert commands - WITHOUT_ENGINE <= entry.ENGINE


@pytest.mark.parametrize("line", ["push --help", "-h", "status -h", "--version push", "init", ""])
def test_engine_is_not_started_for_what_does_not_ask_it(line: str) -> None:
    assert not entry.wants_engine(line.split())


@pytest.mark.parametrize("line", ["push", "--json push production", "-c other.toml status", "deploy --ceiling 30s"])
def test_engine_is_started_wherever_the_command_stands(line: str) -> None:
    assert entry.wants_engine(line.split())


def test_engine_started_ahead_is_used_once() -> None:
    local.start_ahead()
    first, second = local.channel(), local.channel()
    try:
        assert first is not second
        first.send({"id": 1, "op": "hello", "path": "/nonexistent"})
        answer = first.receive()
        assert isinstance(answer, dict) and answer["id"] == 1
    finally:
        first.close()
        second.close()


def test_engine_that_nobody_used_ends_with_its_client() -> None:
    code = "import os; from deployer.link import local; local.start_ahead(); "
    code += "print(local._ahead.get()._process.pid, flush=True); os._exit(0)"
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True, check=True, timeout=60)
    wait_until(lambda: not alive(int(done.stdout)), what="the engine has noticed that its client is gone")


def test_engine_that_cannot_be_started_is_told_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_base_executable", "/nonexistent/python")
    local.start_ahead()
    with pytest.raises(LinkError):
        local.channel()


def test_artifact_that_is_a_directory_imports_no_archive_formats(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    code = "import sys; from pathlib import Path; import deployer.rollout.push as p\n"
    code += f"with p.open_artifact(Path({str(tmp_path)!r}), []): print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True, check=True, timeout=60)
    assert {"tarfile", "zipfile", "pathspec", "httpx", "rich"}.isdisjoint(done.stdout.split())


def test_quick_exit_keeps_the_code_and_loses_no_output() -> None:
    helped, wrong = deployer("--help"), deployer("push", "--nonsense")
    assert (helped.returncode, wrong.returncode) == (0, 2)
    assert "history" in helped.stdout and helped.stdout.endswith("\n")
    assert wrong.stderr.startswith("error:") and wrong.stderr.endswith("\n")


def test_quick_exit_does_not_hide_a_full_disk() -> None:
    with Path("/dev/full").open("w") as full:
        assert deployer("--help", stdout=full.fileno()).returncode != 0


def test_closed_streams_do_not_matter_to_the_exit() -> None:
    command = 'exec "$0" -m deployer --help >&- 2>&-'
    done = subprocess.run(["sh", "-c", command, sys.executable], env=ENV, timeout=60, check=False)
    assert done.returncode == 0


def loaded(code: str) -> set[str]:
    """The modules that are there after *code*."""
    told = f"{code}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], env=ENV, capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_paramiko_comes_without_invoke_and_without_what_no_link_needs() -> None:
    """invoke is a third of paramiko's import, tenacity 35 ms: both for what hardly ever happens."""
    assert loaded("import deployer.link.ssh.pipe") & {"paramiko", "invoke", "tenacity", "pydantic", "rich"} == {
        "paramiko"
    }
    assert "invoke" in loaded("import deployer.link.ssh.pipe, invoke")  # whoever else wants it can have it


def test_openssh_needs_no_paramiko() -> None:
    assert "paramiko" not in loaded("import deployer.link.dial, deployer.link.openssh")


def test_command_without_its_packages_or_on_an_old_python_says_what_to_do() -> None:
    bare = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(SOURCE)!r}); {MAIN}", "status"]
    without = subprocess.run(bare, capture_output=True, text=True, timeout=60)
    assert (without.returncode, without.stdout) == (2, "")
    assert "needs the package typer" in without.stderr and "Traceback" not in without.stderr
    old = [*bare[:-2], f"import sys; sys.version_info = (3, 9); sys.path.insert(0, {str(SOURCE)!r}); {MAIN}", "status"]
    refused = subprocess.run(old, capture_output=True, text=True, timeout=60)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Python 3.11 or newer" in refused.stderr and "hint: " in refused.stderr
