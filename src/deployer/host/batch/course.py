"""
The course of one run: gates, services, job, clean-up. The clean-up comes whatever happened, and whoever died before it.

As `host/runner.py` for a deploy: journalled step by step, resumed by the keeper or the next command.
"""

from __future__ import annotations

from typing import List, Optional

from deployer.errors import DeployerError, FailedError, GateError
from deployer.host import gates, pruning, steps
from deployer.host.batch import job, leftovers, services
from deployer.host.deploy import Deploy
from deployer.host.endings import Outcome, bug
from deployer.host.heed import Aborted, aborted_by
from deployer.host.say import say_why
from deployer.model import EXIT_DONE

GATES = {"stage": steps.stage, "install": steps.install, "check": steps.check}
SERVICES, CLEANUP = "services", "cleanup"


class Course:
    """Carries out one run, or goes on with one whose runner died (*resumed*)."""

    def __init__(self, deploy: Deploy, resumed: bool = False) -> None:
        self._deploy = deploy
        self._journal = deploy.journal
        self._resumed = resumed

    def run(self) -> Outcome:
        """Do what is left to do; tell and record how it ended. Raises DeployerError when the disk refuses that."""
        outcome = self._outcome()
        deploy, error = self._deploy, outcome.error
        self._journal.end(
            "host.finished", status=outcome.status, exit_code=outcome.exit_code, release=deploy.request.release,
            gap_ms=None, verdict=None, waited_s=None, lost=[], error=error.to_json() if error else None,
        )  # fmt: skip
        return outcome

    def _outcome(self) -> Outcome:
        begun = self._journal.has(SERVICES, "begin")
        if self._resumed and not begun:
            return self._undone(GateError("the run was interrupted before its job began", state="nothing was started"))
        try:
            if not begun:
                self._gates()
        except Aborted:
            return self._undone(self._was_aborted())
        except DeployerError as error:
            return self._undone(error)
        failed = self._worked()
        left = self._clean_up(failed)
        return self._ended(failed, left)

    def _gates(self) -> None:
        self._deploy.supervisor.status()  # a keeper that does not come up ends the run here
        leftovers.end(self._deploy)
        for step in self._deploy.request.steps:
            if step["step"] in GATES:
                self._journal.begin(step["step"])
                GATES[step["step"]](self._deploy)
                self._journal.done(step["step"])
        self._journal.common["release"] = self._deploy.request.release
        self._deploy.state.update("releases", str(self._deploy.request.release), state="good")
        job.require(self._deploy)
        services.require_all(self._deploy)

    def _worked(self) -> Optional[DeployerError]:
        """Why the run failed; None where the job has done its work."""
        try:
            if self._journal.has(CLEANUP, "begin"):
                said = (self._journal.data(CLEANUP, "begin") or {}).get("error")
                return DeployerError.from_json(said) if said else None
            if aborted_by(self._deploy):
                return self._was_aborted()
            self._journal.begin(SERVICES)
            services.start_all(self._deploy)
            self._journal.done(SERVICES)
            self._journal.begin("job")
            job.run(self._deploy)
            self._journal.done("job")
        except Aborted:
            return self._was_aborted()
        except DeployerError as error:
            return error
        except Exception as error:  # a bug of ours must still clean up
            say_why()
            return bug(error)
        return None

    def _clean_up(self, failed: Optional[DeployerError]) -> List[str]:
        """End all that was started; the names of what still runs."""
        if not self._journal.has(CLEANUP, "begin"):
            self._journal.begin(CLEANUP, error=failed.to_json() if failed else None)
        left = [] if self._job_stopped() else ["the job"]
        left += services.stop_all(self._deploy, failed is None)
        self._journal.done(CLEANUP)
        try:
            pruning.prune(self._deploy)
            job.prune_logs(self._deploy)
        except (DeployerError, OSError) as error:
            say_why()
            self._journal.event("warning", text=f"old releases were not removed: {error}")
        return left

    def _job_stopped(self) -> bool:
        try:
            return job.stop(self._deploy)
        except Exception:  # whatever it is keeps no service from its clean-up
            say_why()
            return False

    def _ended(self, failed: Optional[DeployerError], left: List[str]) -> Outcome:
        state = f"still running: {', '.join(left)}" if left else f"{self._cleaned_up()}; nothing of it runs"
        if failed is None:
            return Outcome("done", EXIT_DONE)
        failed.state = failed.state or state
        code = failed.code if isinstance(failed, GateError) else FailedError.code
        return Outcome("failed", code, failed)

    def _cleaned_up(self) -> str:
        stopped = {event["service"]: event for event in self._journal.told("service.stopped")}
        not_well = [name for name, event in stopped.items() if event["initialized"] and not event["cleanup_completed"]]
        return f"not cleaned up: {', '.join(not_well)}" if not_well else "every service was cleaned up"

    def _undone(self, error: DeployerError) -> Outcome:
        """Nothing was started: what the gates have left behind goes."""
        deploy = self._deploy
        error.state = error.state if error.state and error.state != gates.OLD_SERVES else "nothing was started"
        try:
            gates.end_all_left_behind(self._journal, deploy.processes, GATES)
            if self._journal.has("stage", "begin"):
                deploy.releases.remove(str(deploy.request.release))
                deploy.state.execute("DELETE FROM releases WHERE id=?", deploy.request.release)
                deploy.paths.secrets_of(str(deploy.request.release)).unlink(missing_ok=True)
        except (DeployerError, OSError):
            say_why()
        return Outcome("failed", error.code, error)

    def _was_aborted(self) -> FailedError:
        return FailedError(f"run aborted by {aborted_by(self._deploy)}", hint="run it again when you like")
