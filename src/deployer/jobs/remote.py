"""`RemoteEnvironment`: a batch job and its services on another host, which finishes and cleans up by itself when we are gone."""

from __future__ import annotations

import json
import logging
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployer.errors import DeployerError, Interrupted, UsageError
from deployer.jobs import limits
from deployer.jobs.plan import Written, name_of, plain
from deployer.jobs.report import JobError, Report, ServiceReport
from deployer.jobs.spec import ALWAYS, POLICIES

if TYPE_CHECKING:
    from deployer.config.model import Config

PLAN = "DEPLOYER_JOB_PLAN"
LARGEST = 100_000
"""Characters of a plan: it travels as one variable of an environment, which takes 128 KiB on Linux."""
LEFT_OUT = (".git/", ".venv/", "venv/", "__pycache__/", "*.pyc", ".mypy_cache/", ".ruff_cache/", ".pytest_cache/")


class RemoteEnvironment:
    """
    As `LocalEnvironment`, on *host* ("user@name", as ssh has it; None: this machine, by its host engine). The *project* directory
    is shipped as a release to *path* (default: ~/.local/share/NAME), without what *exclude* says (gitignore patterns); *install*
    is run in it once for each new content, as `["python3", "-m", "venv", ".venv"]`. Classes and functions are named by their
    import path and imported there, by the release's `.venv/bin/python` where it has one, else by `python3`: nothing is pickled
    over the wire. Each service is a process of its own; functions call it as `deployer.jobs.service(name)`.

    *env*, *secrets* (values: never in argv, logs or events), *ssh* (the keys of `[target.X.ssh]`) and *on_event* (each event of
    the run, as under `--json`) are as in deploy.toml.
    """

    def __init__(
        self,
        name: str,
        host: str | None = None,
        *,
        path: str | None = None,
        project: str | Path = ".",
        install: Sequence[str] | str | None = None,
        env: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        exclude: Sequence[str] = (),
        ssh: Mapping[str, Any] | None = None,
        workers: int | None = None,
        task_grace: str = "10s",
        on_event: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        self.name = limits.name(name, "a job")
        self.report: Report | None = None
        limits.seconds(task_grace, "task_grace")
        if workers is not None:
            limits.count(workers, "workers")
        self._project = Path(project)
        self._secrets = {name: limits.text(value, f"secret {name}") for name, value in (secrets or {}).items()}
        self._on_event = on_event
        self._tables: dict[str, dict[str, Any]] = {
            "build": {"artifact": str(self._project.absolute()), "exclude": [*LEFT_OUT, *exclude]},
            "install": {"command": _command(install)} if install else {},
            "run": {"env": dict(env or {}), "secrets": list(self._secrets)},
            "target.remote": {
                key: value for key, value in (("hosts", [host] if host else None), ("path", path)) if value
            },
            "target.remote.ssh": dict(ssh or {}) if host else {},
        }
        self._services: dict[str, dict[str, Any]] = {}
        self._arguments: dict[str, dict[str, Any]] = {}
        self._pipelines: list[Written] = []
        self._plan = {"name": self.name, "workers": workers, "task_grace": task_grace}
        self._busy = threading.Lock()

    def register_service(
        self,
        name: str,
        cls: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        cleanup_timeout: str = "5s",
        cleanup: str = ALWAYS,
        ready_within: str = "5m",
    ) -> None:
        """
        A service that is built there by `cls(*args, **kwargs)`, in a process of its own, in the order of registration; closed as in
        a LocalEnvironment. *args* and *kwargs* travel as JSON. Raises UsageError for what cannot.
        """
        limits.name(name, "a service")
        if name in self._services:
            raise UsageError(f'service "{name}" is registered already')
        limits.seconds(cleanup_timeout, f'cleanup_timeout of service "{name}"')
        limits.seconds(ready_within, f'ready_within of service "{name}"')
        what = f'service "{name}"'
        self._arguments[name] = {"args": plain(list(args), what), "kwargs": plain(dict(kwargs or {}), what)}
        self._services[name] = {
            "class": name_of(cls, what), "cleanup_timeout": cleanup_timeout,
            "cleanup": limits.choice(cleanup, POLICIES, "cleanup"), "health": {"ready_within": ready_within},
        }  # fmt: skip

    def from_batch(
        self, source: Any, *, ordered: bool = True, chunk: int = 1, window: int | None = None, retries: int = 0
    ) -> Written:
        """
        A pipeline, as in a LocalEnvironment. *source*: a function of the project that gives an iterable, or a list that JSON can
        carry. The functions of `map`, `filter` and `sink` are of the project, and run there.
        """
        limits.count(chunk, "chunk")
        options = {"ordered": ordered, "chunk": chunk, "window": window, "retries": retries}
        self._pipelines.append(Written(source, options))
        return self._pipelines[-1]

    def submit(self, autostop: bool = True, timeout: str | None = None) -> Report:
        """
        Ship, start the services, run the pipelines, clean up; as `LocalEnvironment.submit`. The host does it to the end though this
        process be killed. Raises JobError with the report when the job failed, DeployerError where it did not begin.
        """
        if timeout is not None:
            limits.seconds(timeout, "timeout")
        with self._alone():
            pipelines, self._pipelines = self._pipelines, []
            plan = {**self._plan, "timeout": timeout, "services": self._arguments}
            written = json.dumps({**plan, "pipelines": [one.to_json() for one in pipelines]})
            if len(written) > LARGEST:
                raise UsageError(
                    f"the job is too large to travel as a plan: {len(written)} characters", cause=f"{LARGEST} at most",
                    hint="let the source be a function of the project, which reads its items there",
                )  # fmt: skip
            return self._submit(autostop, written)

    def stop(self) -> Report | None:
        """End the services that `submit(autostop=False)` has left running there, and give the report; again it changes nothing."""
        from deployer.rollout.commands import lifecycle
        from deployer.rollout.order import PushOptions

        with self._alone():
            if self.report is not None:
                heard = _Heard(self.report, self._on_event)
                lifecycle(self._config(), "stop", PushOptions(), heard)
                heard.require_ended()
            return self.report

    def _submit(self, autostop: bool, plan: str) -> Report:
        from deployer.rollout.order import PushOptions
        from deployer.rollout.run import RunOptions, run

        report = self.report = Report(self.name, services={name: ServiceReport(name) for name in self._services})
        heard = _Heard(report, self._on_event)
        options = RunOptions(PushOptions(), autostop, secrets={**self._secrets, PLAN: plan})
        try:
            code = run(self._config(), options, heard)
        except Interrupted:
            raise KeyboardInterrupt from None
        if code == 0 and report.ok:
            return report
        raise heard.failure()

    def _config(self) -> Config:
        """The deploy.toml that says the same, for the one that does the work."""
        from deployer.config.load import load

        with tempfile.TemporaryDirectory(prefix="deployer-job-") as directory:
            file = Path(directory, "deploy.toml")
            file.write_text(self._text(), "utf-8")
            try:
                config = load(file, "remote")
            except UsageError as error:  # it was never written by a person
                told = [
                    text and text.replace(str(file), f"RemoteEnvironment {self.name}")
                    for text in (error.title, error.cause)
                ]
                raise UsageError(str(told[0]), cause=told[1], hint=error.hint) from None
        run = config.tables.run.model_copy(update={"secrets": [PLAN, *self._secrets]})
        tables, batch = replace(config.tables, run=run), {**(config.batch or {}), "plan": True}
        return replace(config, directory=self._project.absolute(), tables=tables, batch=batch)

    def _text(self) -> str:
        app = "".join(letter if letter.isalnum() else "-" for letter in self.name.lower())
        lines = [f"app = {json.dumps(app)}"]
        for table, keys in {**self._tables, "job": {"command": ["deployer.jobs"]}}.items():
            lines += [f"[{table}]", *_lines(keys)]
        for name, keys in self._services.items():
            own = {key: value for key, value in keys.items() if key != "health"}
            lines += [f"[services.{name}]", *_lines(own), f"[services.{name}.health]", *_lines(keys["health"])]
        return "\n".join(lines) + "\n"

    def _alone(self) -> _Alone:
        return _Alone(self._busy, self.name)

    def __enter__(self) -> RemoteEnvironment:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Alone:
    def __init__(self, lock: threading.Lock, name: str) -> None:
        self._lock, self._name = lock, name

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise UsageError(f'job "{self._name}" is being submitted or stopped already')

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class _Heard:
    """Makes the report of the events of a run, and hands them on."""

    def __init__(self, report: Report, hook: Callable[[dict[str, Any]], Any] | None) -> None:
        self._report = report
        self._hook = hook
        self._error: DeployerError | None = None
        self._failed_there: str | None = None
        self._hook_failed = False

    def __call__(self, event: dict[str, Any]) -> None:
        name = event["event"]
        if name == "service.started":
            self._service(event).initialized = True
            self._service(event).running = True
        elif name == "service.stopped":
            self._stopped(event)
        elif name == "service.kept":
            self._service(event).kept = self._service(event).running = True
        elif name == "job.finished":
            self._job(event)
        elif name == "host.finished" and event.get("error"):
            self._error = DeployerError.from_json(event["error"])
        self._tell(event)

    def _tell(self, event: dict[str, Any]) -> None:
        if self._hook is None:
            return
        try:
            self._hook(event)
        except Exception:
            if not self._hook_failed:
                text = "on_event raised at %s; the job goes on"
                logging.getLogger("deployer.jobs").warning(text, event["event"], exc_info=True)
            self._hook_failed = True

    def failure(self) -> DeployerError:
        """Why the job failed; JobError, with the report, where it began."""
        error = self._error or DeployerError("the job failed")
        self._report.error = self._failed_there or error.title
        cause = self._failed_there or error.cause
        return JobError(error.title, self._report, cause=cause, hint=error.hint)

    def require_ended(self) -> None:
        if self._error is not None:
            raise self._error

    def _service(self, event: dict[str, Any]) -> ServiceReport:
        return self._report.services.setdefault(event["service"], ServiceReport(event["service"]))

    def _stopped(self, event: dict[str, Any]) -> None:
        if event.get("left_by_an_earlier_run") and not self._service(event).initialized:
            return  # of another submit
        service = self._service(event)
        for fact in ("initialized", "cleanup_called", "cleanup_completed", "running"):
            setattr(service, fact, bool(event.get(fact)))
        service.seconds, service.error, service.kept = float(event.get("seconds") or 0.0), event.get("error"), False

    def _job(self, event: dict[str, Any]) -> None:
        there = event.get("report") or {}
        self._report.ok = bool(there.get("ok")) and event.get("exit_code") == 0
        self._report.took_s = float(event.get("took_s") or 0.0)
        self._report.items_in, self._report.items_out = (
            int(there.get("items_in") or 0),
            int(there.get("items_out") or 0),
        )
        self._report.left = list(there.get("left") or [])
        self._failed_there = there.get("error")


def _command(command: Sequence[str] | str) -> list[str] | str:
    return command if isinstance(command, str) else list(command)


def _lines(keys: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in keys.items()]


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(str(key))} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    try:
        text = json.dumps(
            value, ensure_ascii=False
        )  # TOML's basic strings, numbers and booleans are JSON's, but for DEL
        text.encode()
    except (TypeError, ValueError) as error:
        text, why = "null", str(error)
    else:
        why = "deploy.toml has no such thing"
    if text == "null":
        raise UsageError(f"{value!r} cannot be sent to another host", cause=why, hint="texts, numbers and lists can")
    return text.replace("\x7f", "\\u007f")
