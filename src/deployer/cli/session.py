"""One run of a command: what it is given, how its events reach a person or a program, and how it ends."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployer.cli.options import Globals
from deployer.cli.output import Output
from deployer.cli.render.errors import alike, bug, error_text, warning_text
from deployer.cli.render.json import JsonView, encode, stamped
from deployer.cli.render.paint import Paint, colours_wanted
from deployer.errors import DeployerError, FailedError, Interrupted, UsageError

if TYPE_CHECKING:
    from deployer.config.load import Config

Event = Mapping[str, Any]
Emit = Callable[[Event], None]
Hosts = Sequence[str] | None


class Voice:
    """Errors and warnings for a person, on stderr; each of them once."""

    def __init__(self, no_color: bool = False) -> None:
        self._err = Output(sys.stderr)
        self._paint = Paint(colours_wanted(self._err.is_terminal, no_color))
        self._said: set[tuple[str, str | None]] = set()

    @property
    def out(self) -> Output:
        """Where it speaks."""
        return self._err

    def error(self, error: DeployerError) -> None:
        if self._new(error.title, error.cause):
            self._err.line(error_text(error, self._paint))

    def errors(self, errors: Sequence[tuple[str, DeployerError]]) -> None:
        """What went wrong on several hosts; the same thing once, with the hosts where it did."""
        for error in alike(errors):
            self.error(error)

    def warning(self, text: str) -> None:
        if self._new(text, None):
            self._err.line(warning_text(text, self._paint))

    def bug(self, error: BaseException) -> None:
        self.error(bug(error))
        self._err.write("".join(traceback.format_exception(error)))

    def _new(self, title: str, cause: str | None) -> bool:
        known = (title, cause) in self._said
        self._said.add((title, cause))
        return not known


def voice(arguments: list[str]) -> Voice:
    """The voice for what goes wrong before the options are understood."""
    return Voice(no_color="--no-color" in arguments)


def guarded(action: Callable[[], int], voice: Voice) -> int:
    """The exit code of *action*; whatever it raises is told, and becomes one."""
    from deployer.cli.signals import interruptible

    try:
        with interruptible():
            return action()
    except DeployerError as error:
        voice.error(error)
        return error.code
    except KeyboardInterrupt:
        voice.error(
            Interrupted("interrupted", hint="see `deployer status`; `deployer attach` follows a deploy that goes on")
        )
        return Interrupted.code
    except Exception as error:
        voice.bug(error)
        return 1


class Session:
    """The options, the streams and the voice of one command."""

    def __init__(self, options: Globals) -> None:
        self.options = options
        self.out = Output(sys.stdout)
        self.voice = Voice(options.no_color)
        self.paint = Paint(colours_wanted(self.out.is_terminal, options.no_color))

    def load(self, target: str | None, ceiling: float | None = None, hosts: Hosts = None) -> Config:
        """The config for *target*, as if it had no other hosts than *hosts*; what it warns of is told at once."""
        return self._only(self._load(target, ceiling), hosts)

    def _load(self, target: str | None, ceiling: float | None) -> Config:
        from deployer.config.load import load, with_ceiling

        config = load(Path(self.options.config) if self.options.config else None, target)
        config = config if ceiling is None else with_ceiling(config, ceiling)
        if self.options.job:
            from deployer.rollout.run import job_of

            config = job_of(config)
        for warning in config.warnings:
            self.voice.warning(str(warning))
        return config

    def _only(self, config: Config, hosts: Hosts) -> Config:
        if not hosts:
            return config
        from deployer.rollout.hosts import only

        return only(config, hosts)

    def load_either(
        self, first: str | None, second: str | None, ceiling: float | None = None, hosts: Hosts = None
    ) -> tuple[Config, str | None]:
        """The config, and the other word: one word alone is a target if one has that name, else it is the other one."""
        if first is None or second is not None:
            return self.load(first, ceiling, hosts), second
        try:
            config, other = self._load(first, ceiling), None
        except UsageError as not_a_target:
            config, other = self._without_target(ceiling, not_a_target), first
        return self._only(config, hosts), other

    def _without_target(self, ceiling: float | None, not_a_target: UsageError) -> Config:
        try:
            return self._load(None, ceiling)
        except UsageError:
            # A broken file was told by the first error too; and where no target is the default, it knows the names.
            raise not_a_target from None

    def run(self, action: Callable[[], int]) -> int:
        """The exit code of *action*, which shows something or follows a deploy."""
        code = guarded(action, self.voice)
        if self.out.failure is not None:
            self.voice.error(FailedError("the output could not be written", cause=str(self.out.failure)))
            return code or 1
        return code

    def show(self, name: str, data: Mapping[str, Any], lines: Callable[[], list[str]]) -> None:
        """One JSON object named *name*, or *lines* for a person."""
        if self.options.json:
            self.out.line(encode(stamped(name, data)))
            return
        for line in lines():
            self.out.line(line)

    def missing(self, data: Mapping[str, Any]) -> int:
        """Tell on stderr which of the `hosts` of *data* had no answer, and why; the first one's exit code, 0 where all had one."""
        failed = [(str(host["host"]), host["error"]) for host in data.get("hosts") or [] if host.get("error")]
        errors = [(host, DeployerError.from_json(error)) for host, error in failed]
        self.voice.errors(errors)
        return errors[0][1].code if errors else 0

    def json_view(self) -> JsonView:
        return JsonView(self.out, self.options.verbose)
