"""nginx: one file with an `upstream`, which is ours; tested, then loaded, then waited for."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence

from deployer.errors import PoolError, PreflightError
from deployer.host.pools import files, upstream
from deployer.host.pools.base import POLL, UNTOUCHED, ByAddress, preflight
from deployer.host.pools.nginx_config import Command, sections
from deployer.host.pools.nginx_master import Master, Workers


class Nginx(ByAddress):
    """
    Sends by `file`. Workers from before a reload finish what they have, with the servers that they knew.

    Settings: `file`, `upstream` (the app's name), `command` (["nginx"]), `pidfile` (what the config says), `timeout`.
    """

    def __init__(self, settings: Dict[str, Any], app: str) -> None:
        self._path = Path(os.path.expanduser(settings["file"]))
        self._name = settings.get("upstream") or app
        self._note = f"Written by deployer for {app}. It changes the servers of its own and keeps everything else."
        self._nginx = Command(settings)
        self._timeout = float(settings["timeout"])
        self._known: Optional[Master] = None

    def check(self, addresses: Sequence[str]) -> None:
        """nginx accepts its config as it is, reads our file and uses it, runs, and we may write there."""
        try:
            if self._text() is None:
                raise self._not_there()
            self._require_used(self._nginx.test())
            self._master().workers()
        except PoolError as error:
            raise preflight(error) from error
        if not os.access(self._file().parent, os.W_OK | os.X_OK):
            raise PreflightError(
                f"{self._path} cannot be written",
                cause=f"{self._file().parent} is not writable for this user; the file is replaced as a whole",
                state=UNTOUCHED,
                hint="give the login user a directory of its own, and nginx: include /etc/nginx/deployer/*.conf;",
            )

    def send_to(self, addresses: Sequence[str], leaving: Sequence[str] = ()) -> None:
        """The file is put back as it was when nginx refuses it, or does not load it within `timeout`."""
        master = self._master()
        with self._alone(master):
            text = self._text()
            wanted = (
                upstream.first(self._name, addresses, leaving, self._note)
                if text is None
                else upstream.change(text, addresses, leaving)
            )
            self._keep(text, master)
            try:
                self._write(wanted)
                self._require_used(self._nginx.test())
            except BaseException:
                self._put_back(text)
                raise
            try:
                self._load(master)
            except BaseException:
                self._put_back(text)
                self._reload_quietly()
                raise
            self._kept().unlink(missing_ok=True)

    def in_flight(self, address: str) -> Optional[int]:
        """
        Workers from before a reload that still finish something: each has at least one request, perhaps at *address*.

        None while *address* takes traffic, or when nginx does not run.
        """
        try:
            text = self._text()
            if text is None or address in upstream.live(text):
                return None
            return len(self._master().workers().leaving)
        except PoolError:
            return None

    def _not_there(self) -> PoolError:
        return PoolError(
            f"{self._path} is not there",
            cause="deployer changes the servers in this file, and asks nginx before whether it reads it",
            hint=f"include it in http {{}} of nginx's config, and begin it with the three lines `upstream {self._name} {{`, "
            "`server 127.0.0.1:1 down;` and `}`",
        )

    def _file(self) -> Path:
        return Path(os.path.realpath(self._path))  # a link stays one

    def _text(self) -> Optional[str]:
        """What stands in the file; None when it is not there. Raises PoolError when it cannot be ours."""
        try:
            text = self._file().read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeError) as error:
            raise PoolError(f"{self._path} cannot be read", cause=str(error), state=UNTOUCHED) from error
        why = upstream.fault(text, self._name)
        if why:
            hint = f"leave nothing but `upstream {self._name} {{ ... }}` in it, or name another `file` in the pool"
            raise PoolError(f"{self._path} cannot be changed by deployer", cause=why, state=UNTOUCHED, hint=hint)
        return text

    def _require_used(self, dump: str) -> None:
        read, file = sections(dump), self._path
        if read.pop(str(self._file()), None) is None and self._file().exists():
            hint = f"add `include {file};` to http {{}} in nginx.conf"
            raise PoolError(f"nginx does not read {file}", cause="no include names it", state=UNTOUCHED, hint=hint)
        word = re.compile(rf"(?<![\w.-]){re.escape(self._name)}(?![\w.-])")
        if not any(word.search(text) for text in read.values()):
            cause, hint = f"nothing passes to upstream {self._name}", f"add `proxy_pass http://{self._name};`"
            raise PoolError(f"nginx does not use {file}", cause=cause, state=UNTOUCHED, hint=hint)

    def _master(self) -> Master:
        if self._known is None:
            self._known = Master(self._nginx.pidfile())
        return self._known

    @contextmanager
    def _alone(self, master: Master) -> Iterator[None]:
        """No other deploy reloads this nginx meanwhile: its new workers could be taken for ours."""
        master.pid()
        deadline = time.monotonic() + self._timeout
        with master.path.open("rb") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        cause = f"the lock on {master.path} was not free for {self._timeout:g}s"
                        raise PoolError("another deploy reloads nginx", cause=cause, state=UNTOUCHED) from None
                    time.sleep(POLL)
            yield

    def _load(self, master: Master) -> None:
        """
        Reload, and wait until every worker from before has been told to finish and new ones serve.

        A reload is a signal: nginx answers nothing, and when it cannot load the config it only writes to its log.
        """
        before = master.workers()
        self._nginx.reload()
        deadline = time.monotonic() + self._timeout
        while not _switched(before, master.workers()):
            if time.monotonic() > deadline:
                raise PoolError(
                    f"nginx did not load its configuration within {self._timeout:g}s",
                    cause="no new worker serves; nginx's error log says why",
                    state=_STANDS,
                    hint="look into nginx's error log, or raise `timeout` in the pool of this target",
                )
            time.sleep(POLL)

    def _kept(self) -> Path:
        return files.beside(self._file(), "before")

    def _keep(self, text: Optional[str], master: Master) -> None:
        """
        Keep the file as nginx took it last. What a killed deploy kept stays, unless nginx has loaded what that one wrote.
        """
        if text is None or (self._kept().exists() and not master.loaded_since(self._file().stat().st_mtime)):
            return
        copy = files.beside(self._file(), "copy")
        try:
            shutil.copy2(self._file(), copy)
            os.replace(copy, self._kept())
        except OSError as error:
            raise self._unwritable(error) from error

    def _write(self, text: str) -> None:
        try:
            files.replace(self._file(), text.encode())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> PoolError:
        hint = f"give this user the directory {self._file().parent}: the file is replaced as a whole"
        return PoolError(f"{self._path} could not be written", cause=str(error), state=UNTOUCHED, hint=hint)

    def _put_back(self, text: Optional[str]) -> None:
        if text is None:
            self._file().unlink(missing_ok=True)
        elif self._kept().exists():
            os.replace(self._kept(), self._file())

    def _reload_quietly(self) -> None:
        # nginx may have read the new file and only been slow: the last reload must find the old one.
        try:
            self._nginx.reload()
        except PoolError:
            pass


_STANDS = "the file is as it was"


def _switched(before: Workers, now: Workers) -> bool:
    return bool(now.serving - before.serving) and not (before.serving & now.serving)
