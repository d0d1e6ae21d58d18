"""The rules of docs/architecture.md that a machine can hold: who imports whom, and the host engine's floor."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINE_CONTRACT = "the host engine and the shared words use the standard library only"
FLOOR = "3.9"

# Compiled and not imported: what runs is tested where it lives, this asks whether the grammar is known there.
COMPILE = "import sys\nfor name in sys.argv[1:]: compile(open(name, encoding='utf-8').read(), name, 'exec')"


def contracts() -> dict[str, dict[str, list[str]]]:
    """The import-linter contracts of pyproject.toml, by name."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return {contract["name"]: contract for contract in settings["contracts"]}


def engine_paths() -> list[Path]:
    """The packages and modules that travel to a host."""
    places = [ROOT / "src" / name.replace(".", "/") for name in contracts()[ENGINE_CONTRACT]["source_modules"]]
    return [place if place.is_dir() else place.with_suffix(".py") for place in places]


def engine_files() -> list[Path]:
    return sorted(file for path in engine_paths() for file in (path.rglob("*.py") if path.is_dir() else [path]))


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """*command* with the tools of this environment, in the repository."""
    argv = [str(word) for word in command]
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
    return subprocess.run(argv, cwd=ROOT, env=variables, capture_output=True, text=True, check=False, timeout=100)


def tool(name: str) -> Path:
    return Path(sys.executable).with_name(name)


def pythons() -> dict[str, str]:
    """The interpreters of this machine that a host may have, one of each version: at the floor, and above."""
    names = [f"python3.{minor}" for minor in range(9, 15)]
    places = [shutil.which(name) for name in names]
    places += [str(path) for path in (Path.home() / ".pyenv" / "versions").glob("3.*/bin/python3")]
    at_least = f"import sys; print(*sys.version_info[:2]); sys.exit(sys.version_info < ({FLOOR.replace('.', ', ')}))"
    asked = {place: run(place, "-I", "-S", "-c", at_least) for place in places if place}
    return {one.stdout: place for place, one in asked.items() if one.returncode == 0}


@pytest.mark.full  # scripts/test asks it of scripts/lint
def test_imports_point_down() -> None:
    done = run(tool("lint-imports"), "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Contracts: {len(contracts())} kept, 0 broken" in done.stdout


@pytest.mark.full  # scripts/test asks it of scripts/lint
def test_the_host_engine_needs_nothing_newer_than_its_floor() -> None:
    done = run(tool("vermin"), f"-t={FLOOR}-", "--no-tips", "--violations", *engine_paths())
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_floor_check_sees_what_is_newer(tmp_path: Path) -> None:
    newer = tmp_path / "newer.py"
    newer.write_text("match 1:\n    case 1:\n        pass\n")
    assert run(tool("vermin"), f"-t={FLOOR}-", "--no-tips", "--violations", newer).returncode != 0


def test_scripts_lint_holds_the_same_files_to_the_floor() -> None:
    line = next(line for line in (ROOT / "scripts" / "lint").read_text().splitlines() if line.startswith("engine=("))
    listed = subprocess.run(
        ["bash", "-c", f'{line}; printf "%s\\n" "${{engine[@]}}"'], capture_output=True, text=True, check=True
    )
    assert {ROOT / name for name in listed.stdout.split()} == set(engine_paths())


def test_every_interpreter_here_compiles_the_host_engine() -> None:
    files, found = engine_files(), pythons()  # not parametrized: each test worker would look for them
    assert files and found
    done = {python: run(python, "-I", "-S", "-c", COMPILE, *files) for python in found.values()}
    assert {python: one.stderr for python, one in done.items() if one.returncode} == {}
