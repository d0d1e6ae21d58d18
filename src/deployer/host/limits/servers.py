"""What a program has set for the end of its own work: by its options, its environment, its config files, or by default."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from deployer.host.limits.files import Texts
from deployer.host.limits.table import INNER, LIMITS, OUTER, PM2, SYNC, Limit

_PART = r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?"
_SCALES = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def found(name: str, args: Sequence[str], env: Mapping[str, str], texts: Texts) -> List[Dict[str, Any]]:
    """
    What the program *name*, started with *args* and *env* where *texts* reads its files, sets for itself.

    `name`, `seconds` (None: waits for ever), `acts`, `kind`, `from` ("its option", "its default", a file's name) and
    `certain`: False for a default, which a file that we do not see may change.
    """
    if name == "timeout":
        return _timeout(args)
    program = _program(name, args)
    return [_one(limit, args, env, texts) for limit in LIMITS.get(program, ()) if _applies(limit, args, env, texts)]


def _program(name: str, args: Sequence[str]) -> str:
    if name in ("docker-compose", "podman-compose"):
        return "compose"
    if name not in ("docker", "podman"):
        return name
    verbs = [word for word in args if word in ("run", "compose", "start")]
    return {"compose": "compose", "run": "docker"}.get(verbs[0] if verbs else "", "")


def _applies(limit: Limit, args: Sequence[str], env: Mapping[str, str], texts: Texts) -> bool:
    if limit is SYNC:  # other workers beat while they work
        words = [*args, *env.get("GUNICORN_CMD_ARGS", "").split()]
        kind = _option(words, ("-k", "--worker-class"))
        threads = _option(words, ("--threads",))
        in_file = any(texts.value(file, key) for file in _files(limit, args) for key in ("worker_class", "threads"))
        return kind in (None, "sync") and threads in (None, "1") and not in_file
    if limit.key == "worker_shutdown_timeout":  # only a cluster has workers to shut down
        workers = _option(args, ("-w", "--workers")) or env.get("WEB_CONCURRENCY")
        set_in_file = any(texts.value(file, key) for file in _files(limit, args) for key in ("workers", limit.key))
        return set_in_file or (workers is not None and workers != "0")
    return True


def _one(limit: Limit, args: Sequence[str], env: Mapping[str, str], texts: Texts) -> Dict[str, Any]:
    seconds, source = _set(limit, args, env, texts)
    if source is None:
        seconds = limit.default
    if seconds == 0:
        seconds = limit.zero
    named = _option(args, limit.file_options)
    unread = f", unless {named} says otherwise" if named and limit.key else ""
    return {
        "name": limit.name, "seconds": seconds, "acts": limit.acts, "kind": limit.kind,
        "from": source or f"its default{unread}", "certain": source is not None and seconds is not None,
    }  # fmt: skip


def _set(
    limit: Limit, args: Sequence[str], env: Mapping[str, str], texts: Texts
) -> Tuple[Optional[float], Optional[str]]:
    """The limit where somebody has set it, in the order in which programs believe: option, environment, file."""
    seconds = _number(_option(args, limit.options), limit.per)
    if seconds is not None:
        return seconds, "its option"
    words = env.get(limit.env_args or "", "").split()
    seconds = _number(_option(words, limit.options), limit.per) if words else None
    seconds = seconds if seconds is not None else _number(env.get(limit.env or ""), limit.per)
    if seconds is not None:
        return seconds, str(limit.env or limit.env_args)
    for file in _files(limit, args) if limit.key else ():
        values = [number for text in texts.values(file, str(limit.key))
                  if (number := _number(text, limit.per)) is not None]  # fmt: skip
        if values:
            return min(values), file  # of several services the one that is cut first
    return None, None


def _files(limit: Limit, args: Sequence[str]) -> List[str]:
    named = _option(args, limit.file_options)
    configs = [word for word in args if limit is PM2 and re.search(r"\.(json|c?js|ya?ml)$", word)]
    return [named.split(":", 1)[-1] if named.startswith(("file:", "toml:")) else named] if named else [
        *configs, *limit.files,
    ]  # fmt: skip


def _option(args: Sequence[str], names: Sequence[str]) -> Optional[str]:
    """The value of the last of *names* among *args*, as `--name value`, `--name=value`, `-n value` or `-nvalue`."""
    value = None
    for place, word in enumerate(args):
        if word == "--":
            break
        for name in names:
            if word == name and place + 1 < len(args):
                value = args[place + 1]
            elif word.startswith(f"{name}=") and name.startswith("--"):
                value = word[len(name) + 1 :]
            elif not name.startswith("--") and word.startswith(name) and re.fullmatch(r"\d+", word[len(name) :]):
                value = word[len(name) :]
    return value


def _number(text: Optional[str], per: float) -> Optional[float]:
    """Seconds in *text*: "30", where a bare number counts *per* seconds, or "1m30s"."""
    compact = (text or "").strip().strip("\"'")
    if not re.fullmatch(rf"(?:{_PART}\s*)+", compact):
        return None
    return sum(float(number) * (_SCALES[unit] if unit else per) for number, unit in re.findall(_PART, compact))


def _timeout(args: Sequence[str]) -> List[Dict[str, Any]]:
    """`timeout [-k AFTER] SECONDS COMMAND`: it ends the service itself, and -k also cuts a drain."""
    after = _number(_option(args, ("-k", "--kill-after")), 1.0)
    valued = ("-k", "--kill-after", "-s", "--signal")
    words = [
        word for place, word in enumerate(args) if word[:1] != "-" and (not place or args[place - 1] not in valued)
    ]
    whole = _number(words[0] if words else None, 1.0)
    found = []
    if whole:
        found.append({"name": "timeout", "seconds": whole, "acts": "timeout ends the app, drain or not", "kind": OUTER})
    if after:
        found.append({"name": "timeout -k", "seconds": after, "acts": "timeout kills what drains", "kind": INNER})
    return [{**one, "from": "its option", "certain": True} for one in found]
