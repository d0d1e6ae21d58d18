"""
The process around a service that is a class: built here, closed when it is asked to stop, with a report of how that went.

`class_main.py PKG.MOD:CLASS REPORT LIMIT`, run as a script by the Python of the release, in the release. LIMIT: seconds that
`stop()` may take, and `cleanup()` after it. Says READY=1 (sd_notify) once the class is built.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any, Dict, List, Tuple

LEAVES_WITHIN = 1.0
"""Seconds that threads which are no daemons, and exit handlers, have once the service is closed."""


def main(name: str, report: str, limit: float) -> int:
    """The exit code: 0 once the service is closed well."""
    asked = threading.Event()
    _heed(asked)
    sys.path[0] = os.getcwd()  # instead of the engine's: the class is found in the release
    ours = ("DEPLOYER_JOB_PLAN", "DEPLOYER_SERVICE_RAY")
    if any(name in os.environ for name in ours) or importlib.util.find_spec("deployer") is None:
        _ours("host/batch/package.py").reach()
    try:
        module, _, path = name.partition(":")
        built: Any = importlib.import_module(module)
        for part in path.split("."):
            built = getattr(built, part)
        args, kwargs = _arguments()
        on_ray = json.loads(os.environ.get("DEPLOYER_SERVICE_RAY") or "null")
        service = _OnRay(built, args, kwargs, limit, on_ray) if on_ray else built(*args, **kwargs)
        calls = _ours("jobs/calls.py").answering(service, os.environ.get("DEPLOYER_SERVICE_SOCKET"))
    except BaseException:  # a constructor that leaves by SystemExit has not built anything either
        traceback.print_exc()
        _leave_soon(1)  # whatever threads it has begun
        return _told(report, {"initialized": False, "error": _last_line()}, 1)
    _heed(asked)  # once more: a class, or what it builds upon, may have set handlers of its own
    _told(report, {"initialized": True}, 0)
    _ready()
    asked.wait()
    closed = service.closed() if on_ray else _ours("jobs/closing.py").close(service, limit)
    if calls is not None:
        calls.close()
    code = 0 if closed.completed else 1
    told = {"cleanup_called": closed.called, "cleanup_completed": closed.completed, "error": closed.error}
    _told(report, {"initialized": True, **told}, code)
    _leave_soon(code)
    return code


def _heed(asked: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: asked.set())


class _OnRay:
    """The service as an actor of the cluster at RAY_ADDRESS: it ends with this process, whatever becomes of that."""

    def __init__(
        self, cls: Any, args: List[Any], kwargs: Dict[str, Any], limit: float, options: Dict[str, Any]
    ) -> None:
        # By name: what runs here is the release's Python, and no part of the engine.
        self._env = importlib.import_module("deployer.jobs").LocalEnvironment("service")
        more: Dict[str, Any] = {"remote": True, "options": options, "cleanup_timeout": f"{limit:g}s"}
        self._env.register_service("service", _with_env(cls, _own_env()), args, kwargs, **more)
        self._env.submit(autostop=False)

    def __getattr__(self, method: str) -> Any:
        return getattr(self._env.service("service"), method)

    def closed(self) -> Any:
        """As closing.py tells it."""
        report = self._env.stop().services["service"]
        facts = (report.cleanup_called, report.cleanup_completed, report.running, report.seconds, report.error)
        return _ours("jobs/closing.py").Closed(*facts)


def _own_env() -> Dict[str, str]:
    """What the service was given, and no node has by itself. It travels in a call: a runtime_env could be read by everybody."""
    known = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "TMPDIR", "NOTIFY_SOCKET")
    of_others = ("LC_", "LANG", "PYTHON", "RAY_", "DEPLOYER_", "LISTEN_", "XDG_")
    return {name: value for name, value in os.environ.items() if name not in known and not name.startswith(of_others)}


def _with_env(cls: Any, env: Dict[str, str]) -> Any:
    def built(*args: Any, **kwargs: Any) -> Any:
        os.environ.update(env)
        return cls(*args, **kwargs)

    return built


def _arguments() -> Tuple[List[Any], Dict[str, Any]]:
    """What a RemoteEnvironment builds the class with (jobs/plan.py)."""
    plan = json.loads(os.environ.pop("DEPLOYER_JOB_PLAN", "{}"))
    own = plan.get("services", {}).get(os.environ.get("DEPLOYER_SERVICE"), {})
    return own.get("args", []), own.get("kwargs", {})


def _ours(name: str) -> Any:
    # By its file: an app may have a package `deployer` of its own beside it, as `scripts/vendor` makes one.
    package = os.path.abspath(f"{__file__}/../../..")
    spec = importlib.util.spec_from_file_location(f"_deployer_{os.path.basename(name)[:-3]}", f"{package}/{name}")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def _ready() -> None:
    address = os.environ.pop("NOTIFY_SOCKET", None)
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            try:
                told.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)
            except OSError:
                pass  # the keeper has just died: whoever comes next sees that it lives


def _leave_soon(code: int) -> None:
    def leave() -> None:
        time.sleep(LEAVES_WITHIN)
        os._exit(code)

    threading.Thread(target=leave, daemon=True).start()


def _last_line() -> str:
    error = sys.exc_info()[1]
    return f"{type(error).__name__}: {error}"


def _told(report: str, told: Dict[str, Any], code: int) -> int:
    try:
        with open(f"{report}.new", "w") as file:
            json.dump(told, file)
        os.replace(f"{report}.new", report)
    except OSError as error:
        sys.stderr.write(f"deployer: how it went could not be written down: {error}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
