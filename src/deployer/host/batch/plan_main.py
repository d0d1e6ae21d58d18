"""
The job of a RemoteEnvironment: the pipelines of its plan, with functions that are found by name in the release.

Run as a script by the Python of the release, in the release. The plan is DEPLOYER_JOB_PLAN (jobs/plan.py). Exit code 0 when the
job is done, 1 when it failed; its report is in DEPLOYER_JOB_REPORT.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import traceback
from typing import Any


def main() -> int:
    sys.path[0] = os.getcwd()  # instead of this script's: names are found in the release
    _beside("package").reach()
    perform = importlib.import_module("deployer.jobs.plan").perform  # by name: this is no part of the engine
    plan = json.loads(os.environ.pop("DEPLOYER_JOB_PLAN"))
    try:
        report, failed = perform(plan)
    except Exception:  # a name that leads nowhere
        traceback.print_exc()
        error = sys.exc_info()[1]
        _write({"ok": False, "error": f"{type(error).__name__}: {error}"})
        return 1
    if failed is not None:
        traceback.print_exception(type(failed), failed, failed.__traceback__)
    _write(report)
    return 0 if failed is None else 1


def _beside(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(
        f"_deployer_{name}", f"{os.path.dirname(os.path.abspath(__file__))}/{name}.py"
    )
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def _write(report: object) -> None:
    path = os.environ.get("DEPLOYER_JOB_REPORT")
    if path:
        with open(path, "w") as file:
            json.dump(report, file)


if __name__ == "__main__":
    sys.exit(main())
