"""Following a deploy: its events to the right view, its errors to stderr, its end to an exit code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from deployer.cli.render.course import is_result
from deployer.cli.render.json import stamped
from deployer.cli.session import Emit, Session
from deployer.errors import DeployerError, Interrupted

if TYPE_CHECKING:
    from deployer.config.load import Config


class EventView(Protocol):
    def event(self, event: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...


@dataclass
class Follower:
    """
    Takes every event of a deploy, from any thread, and never raises for one.

    A view that fails on an event must not cost anybody a deploy: the failure is told, the deploy goes on.
    """

    session: Session
    view: EventView
    count: int = 0
    ended: bool = False
    errors: list[tuple[str, DeployerError]] = field(default_factory=list)
    one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def emit(self, event: Mapping[str, Any]) -> None:
        with self.one_at_a_time:
            self._emit(event)

    def _emit(self, event: Mapping[str, Any]) -> None:
        self.count += 1
        self.ended = self.ended or is_result(event)
        if event.get("event") == "host.finished" and isinstance(event.get("error"), Mapping):
            self.errors.append((str(event.get("host") or "local"), DeployerError.from_json(dict(event["error"]))))
        try:
            self.view.event(event)
        except Exception as error:
            self.session.voice.warning(f"{event.get('event')} could not be shown ({type(error).__name__}: {error})")


@dataclass(frozen=True)
class Following:
    """What to follow: a deploy of *kind*, on *config*, started by *action*."""

    kind: str
    config: Callable[[], Config]
    action: Callable[[Config, Emit], int]
    detached: bool = False


def follow(session: Session, what: Following) -> int:
    """
    Run *what* to its end and return its exit code.

    Under `--json` the last object is always `<kind>.finished`, also when the config was refused. Only `attach` and an
    interrupted client have no last word of their own: the host goes on.
    """
    followers: list[Follower] = []

    def action() -> int:
        config = what.config()
        followers.append(Follower(session, _view(session, config, what.kind)))
        return _followed(followers[0], what, config)

    code = session.run(action)
    ended = any(follower.ended for follower in followers)
    if session.options.json and not ended and what.kind != "attach" and code not in (0, Interrupted.code):
        failed: dict[str, Any] = {"deploy": None, "status": "failed", "exit_code": code, "hosts": []}
        session.json_view().event(stamped(f"{what.kind}.finished", failed))
    return code


def _followed(follower: Follower, what: Following, config: Config) -> int:
    try:
        code = what.action(config, follower.emit)
    finally:
        follower.view.close()
        follower.session.voice.errors(follower.errors)
    _last_word(follower, what, config)
    return code


def _last_word(follower: Follower, what: Following, config: Config) -> None:
    """What to say where no event said it."""
    if follower.session.options.json:
        return
    if what.kind == "attach" and not follower.count:
        follower.session.out.line(f"nothing under way on {config.target_name}")
    elif what.detached and not follower.ended:
        follower.session.out.line(f"next   deployer attach {config.target_name}")


def _view(session: Session, config: Config, kind: str) -> EventView:
    if session.options.json:
        return session.json_view()
    from deployer.cli.render.human import HumanView, View
    from deployer.cli.render.lines import Layout

    layout = Layout(config.hosts or ((config.ray,) if config.ray else ()), session.paint)
    view = View(config.target_name, session.options.quiet, session.options.verbose)
    if kind == "run" and config.batch is None:  # beside an app: what is asked of it afterwards is asked of the job
        view = View(f"{config.target_name} --job", session.options.quiet, session.options.verbose)
    if kind == "run":  # stdout is the job's, as it would be without us
        return HumanView(session.voice.out, layout, view, session.voice.warning, job=session.out)
    return HumanView(session.out, layout, view, session.voice.warning)
