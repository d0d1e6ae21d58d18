"""
A launchd for tests on Linux: the few subcommands that deployer uses, with the answers and the delays of recorded ones.

It is no proof of what macOS does. What it imitates, because somebody was bitten by it: bootout returns at once and kills at
the exit timeout, which is held to 60 s in a user's session; a label stays taken for a while afterwards (bootstrap says 5); a
plist is read once; a process that ends is started again while its KeepAlive says so; the whole process group goes with its
main process unless AbandonProcessGroup.
"""

import json
import os
import plistlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(sys.argv[0]).resolve().parent.parent / "launchd"
LOOK_EVERY, SETTLES = 0.01, 0.4
GUI_LIMIT, DEFAULT_LIMIT = 60, 5


def main(args: list[str]) -> int:
    if args[0] == "--job":
        Job(Path(args[1])).run()
        return 0
    with open(STATE / "calls", "a") as calls:
        calls.write(" ".join(args) + "\n")
    verb, *rest = args
    if verb == "bootstrap":
        return bootstrap(rest[0], Path(rest[1]))
    target = rest[-1]
    domain, _, label = target.rpartition("/")
    if verb in ("enable", "disable"):
        mark = STATE / f"disabled-{label}"
        mark.unlink(missing_ok=True) if verb == "enable" else mark.touch()
        return 0
    if domain == "gui":
        print(f"{target} = {{\n\ttype = login\n}}")
        return 0
    place = STATE / label
    if not (place / "print").exists():
        print(f'Could not find service "{label}" in domain for user {domain.replace("/", ": ")}', file=sys.stderr)
        return 3 if verb == "bootout" else 113
    if verb == "print":
        sys.stdout.write((place / "print").read_text())
    elif verb == "kill":
        (place / "signal").write_text(str(int(getattr(signal, rest[0]))))
    else:
        (place / verb).touch()
    return 0


def bootstrap(domain: str, path: Path) -> int:
    plist = plistlib.loads(path.read_bytes())
    if (STATE / f"disabled-{plist['Label']}").exists():
        print("Bootstrap failed: 119: Service is disabled", file=sys.stderr)
        return 119
    place = STATE / plist["Label"]
    try:
        place.mkdir()
    except FileExistsError:
        print(
            "Bootstrap failed: 5: Input/output error\nTry re-running the command as root for richer errors.",
            file=sys.stderr,
        )
        return 5
    (place / "job.json").write_text(json.dumps({"domain": domain, "path": str(path), "plist": plist}))
    subprocess.Popen(
        [sys.executable, "-S", sys.argv[0], "--job", str(place)], start_new_session=True, cwd="/",
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"PATH": os.defpath},
    )  # fmt: skip
    while not (place / "print").exists():
        time.sleep(LOOK_EVERY)
    return 0


class Job:
    def __init__(self, place: Path) -> None:
        self.place = place
        made = json.loads((place / "job.json").read_text())
        self.domain, self.path, self.plist = made["domain"], made["path"], made["plist"]
        limit = self.plist.get("ExitTimeOut", DEFAULT_LIMIT)
        self.limit = min(limit, GUI_LIMIT) if self.domain.startswith("gui/") else limit
        self.child: subprocess.Popen[bytes] | None = None
        self.runs, self.ended = 0, "\tlast exit code = (never exited)"
        self.state, self.due, self.kill_at = "not running", None, None

    def run(self) -> None:
        if self.plist.get("RunAtLoad"):
            self.spawn()
        self.tell()
        while self.turn():
            time.sleep(LOOK_EVERY)
        os.rename(self.place, f"{self.place}.gone-{os.getpid()}")
        shutil.rmtree(f"{self.place}.gone-{os.getpid()}")

    def turn(self) -> bool:
        before = (self.state, self.child, self.runs, self.ended)
        leaving = self.told("bootout")
        if self.child is not None and self.child.poll() is not None:
            self.bury()
        if self.child is not None:
            self.look_after(leaving)
        elif leaving:
            self.state = "SIGTERMed"
            self.tell()
            time.sleep(SETTLES)
            return False
        elif self.due is not None and time.monotonic() >= self.due:
            self.spawn()
        elif self.due is None and (self.told("kickstart", take=True) or (self.runs and self.kept_by_path())):
            self.due, self.state = time.monotonic() + self.plist.get("ThrottleInterval", 10), "spawn scheduled"
        if (self.state, self.child, self.runs, self.ended) != before:
            self.tell()
        return True

    def look_after(self, leaving: bool) -> None:
        assert self.child is not None
        if leaving and self.kill_at is None:
            self.state, self.kill_at = "SIGTERMed", time.monotonic() + self.limit
            self.child.terminate()
        if self.kill_at is not None and time.monotonic() >= self.kill_at:
            self.child.kill()
        if (self.place / "signal").exists():
            self.child.send_signal(int((self.place / "signal").read_text()))
            (self.place / "signal").unlink()

    def bury(self) -> None:
        assert self.child is not None
        code = self.child.returncode
        if not self.plist.get("AbandonProcessGroup"):
            try:
                os.killpg(self.child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        said = (
            f"last terminating signal = {signal.strsignal(-code)}: {-code}" if code < 0 else f"last exit code = {code}"
        )
        self.ended, self.child, self.state = f"\t{said}", None, "not running"
        keep = self.plist.get("KeepAlive")
        again = keep is True or (isinstance(keep, dict) and keep.get("SuccessfulExit") is False and code != 0)
        if again or self.kept_by_path():
            self.due, self.state = time.monotonic() + self.plist.get("ThrottleInterval", 10), "spawn scheduled"

    def kept_by_path(self) -> bool:
        keep = self.plist.get("KeepAlive")
        paths = keep.get("PathState", {}) if isinstance(keep, dict) else {}
        return any(os.path.exists(path) is wanted for path, wanted in paths.items())

    def spawn(self) -> None:
        mine = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "XPC_SERVICE_NAME": self.plist["Label"]}
        self.runs, self.due, self.state = self.runs + 1, None, "running"
        with open(self.plist.get("StandardOutPath", os.devnull), "ab") as output:
            self.child = subprocess.Popen(
                self.plist["ProgramArguments"], cwd=self.plist.get("WorkingDirectory", "/"), stdin=subprocess.DEVNULL,
                env={**mine, **self.plist.get("EnvironmentVariables", {})}, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def told(self, what: str, take: bool = False) -> bool:
        found = (self.place / what).exists()
        if found and take:
            (self.place / what).unlink()
        return found

    def tell(self) -> None:
        lines = [
            f"{self.domain}/{self.plist['Label']} = {{", f"\tactive count = {int(self.child is not None)}",
            f"\tpath = {self.path}", "\ttype = LaunchAgent", f"\tstate = {self.state}", "",
            f"\tprogram = {self.plist['ProgramArguments'][0]}", "\targuments = {",
            *(f"\t\t{word}" for word in self.plist["ProgramArguments"]), "\t}", "", "\tminimum runtime = 10",
            f"\texit timeout = {self.limit}", f"\truns = {self.runs}",
            *([f"\tpid = {self.child.pid}"] if self.child is not None else []), self.ended, "",
            "\tevent triggers = {", "\t\tstate = active", "\t\tpid = 1", "\t}", "}", "",
        ]  # fmt: skip
        temporary = self.place / "print.next"
        temporary.write_text("\n".join(lines))
        os.replace(temporary, self.place / "print")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
