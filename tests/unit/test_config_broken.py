"""A broken deploy.toml ends in one UsageError: the key, why, and what to write. Never in anything else."""

import pytest

from deployer.config.load import load
from deployer.errors import UsageError

GOOD = """
app = "my-app"
[run]
command = ["node", "api.js"]
"""

SSH = GOOD + '[target.p]\nhosts = ["h"]\npath = "/a"\n[target.p.ssh]\n'


def refusal(tmp_path, text, target=None):
    file = tmp_path / "deploy.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as caught:
        load(file, target)
    error = caught.value
    assert error.code == 2
    assert error.title and error.cause and error.hint
    assert "{key}" not in error.hint and "{path}" not in error.hint
    assert str(file) in error.cause
    return error


def run(line):
    return f'app = "my-app"\n[run]\ncommand = "x"\n{line}\n'


# (what is written, the key path that must be named, a part of the cause, a part of the hint)
BROKEN = [
    ("", "app", "missing", 'app = "my-app"'),
    ("app = 3", "app", "a name is made of", 'app = "my-app"'),
    ('app = "My App"', "app", "a name is made of", 'app = "my-app"'),
    ('app = "-x"', "app", "a name is made of", 'app = "x"'),
    (f'app = "{"a" * 64}"', "app", "63 characters", "a" * 63),
    ('app = "a\\n"', "app", "a name is made of", 'app = "a"'),
    ('app = "ok"', "run.command", "missing", "command ="),
    (GOOD + "[health]\ninterval = 200", "health.interval", "= 200: a bare number; durations carry a unit", '"200s"'),
    (GOOD + "[health]\ninterval = 0.5", "health.interval", "= 0.5: a bare number", '"0.5s" or "0.5ms"'),
    (GOOD + "[health]\ninterval = nan", "health.interval", "not a duration", '"90s"'),
    (GOOD + "[health]\ninterval = true", "health.interval", "= true: not a duration", '"90s"'),
    (GOOD + '[health]\ninterval = "200"', "health.interval", "not a duration", '"200s" or "200ms"'),
    (GOOD + '[health]\ninterval = "0s"', "health.interval", "zero", '"30s"'),
    (GOOD + '[health]\ninterval = "-5s"', "health.interval", "negative", '"5s"'),
    (GOOD + '[health]\ninterval = ""', "health.interval", "not a duration", '"90s"'),
    (GOOD + f'[health]\ninterval = "{"9" * 400}s"', "health.interval", "longer than a year", '"11m"'),
    (GOOD + '[health]\nintervall = "1s"', "health.intervall", "unknown key", '"interval"'),
    (GOOD + "[health]\nceiling = 1", "health.ceiling", "unknown key", "[drain]"),
    (GOOD + "[health]\nqqq = 1", "health.qqq", "unknown key", "known here: url"),
    (GOOD + "[health]\nstreak = 0", "health.streak", "out of range", "streak = 1"),
    (GOOD + "[health]\nstreak = true", "health.streak", "= true: not a whole number", "streak = 1"),
    (GOOD + "[health]\nstreak = 1.5", "health.streak", "not a whole number", "streak = 1"),
    (GOOD + f"[health]\nstreak = {10**100}", "health.streak", "a very large number", "streak = 1"),
    (GOOD + '[health]\nurl = "127.0.0.1:3001"', "health.url", "not an http or https URL", "http://"),
    (GOOD + '[health]\nurl = "ftp://a/b"', "health.url", "not an http or https URL", "http://"),
    (GOOD + '[health]\nurl = "http:///health"', "health.url", "without a host", "http://"),
    (GOOD + '[health]\nurl = "http://a:99999/"', "health.url", "not a URL", "http://"),
    (GOOD + '[health]\nurl = "http://[::1/"', "health.url", "not a URL", "http://"),
    (GOOD + '[health]\nurl = "http://a/b c"', "health.url", "no spaces", "percent-encode"),
    (GOOD + '[health]\nurl = "http://a:{prot}/"', "health.url", "unknown placeholder", "{port}"),
    (GOOD + '[health]\nurl = "http://127.0.0.1:{port}/"', "health.url", "neither is set", "ports = [3001]"),
    (GOOD + '[health]\nbusy = "claudeBusy"', "health.busy", "JSON pointer", '"/claudeBusy"'),
    (GOOD + '[health]\nbusy = "/a~2"', "health.busy", "JSON pointer", '"/claudeBusy"'),
    (GOOD + "[health]\nurl = []", "health.url", "not a string", "http://"),
    (GOOD + "[drain]\nceiling = 660", "drain.ceiling", "= 660: a bare number", '"660s"'),
    (GOOD + '[drain]\nsignal = "SIGKILL"', "drain.signal", "no process can catch", '"SIGTERM"'),
    (GOOD + '[drain]\nsignal = "SIGSTOP"', "drain.signal", "no process can catch", '"SIGTERM"'),
    (GOOD + '[drain]\nsignal = "SIGTRM"', "drain.signal", "not a known signal", '"SIGTERM"'),
    (GOOD + '[drain]\nsignal = "USR1"', "drain.signal", "not a known signal", '"SIGUSR1"'),
    (GOOD + "[drain]\nsignal = 15", "drain.signal", "not the name", '"SIGTERM"'),
    (GOOD + '[drain]\nsignal_to = "all"', "drain.signal_to", "not one of main, tree", '"tree"'),
    (GOOD + '[drain]\nquiet = "SIGSTOP"', "drain.quiet", "no process can catch", '"SIGTERM"'),
    (GOOD + '[drain]\nquiet = "TSTP"', "drain.quiet", "not a known signal", '"SIGTSTP"'),
    (GOOD + '[drain]\nquiet = "ftp://x/"', "drain.quiet", "not an http", "http://"),
    (GOOD + '[drain]\nlast_call = "SIGUSR1"', "drain.last_call", "a signal", "save-work"),
    (GOOD + '[drain]\nlast_call = "http://127.0.0.1:{port}/"', "drain.last_call", "placeholder", "number"),
    (GOOD + '[drain]\nlast_call = "x"\nlast_call_before = "11m"', "drain.last_call_before", "ceiling = 11m", "11m"),
    (GOOD + '[drain]\nlast_call = "x"\nceiling = "20s"', "drain.last_call_before", "ceiling = 20s", "20s"),
    (GOOD + '[drain]\napp_grace = "11m"', "drain.app_grace", "drain.ceiling = 11m does not outlast", "11m"),
    (GOOD + '[drain]\nlongest_task = "12m"', "drain.longest_task", "drain.longest_task = 12m", "drain.ceiling"),
    (GOOD + '[drain]\nlongest_task = "9m"\napp_grace = "8m"', "drain.longest_task", "drain.longest_task = 9m", "lower"),
    (run("env = { A = 1 }"), "run.env.A", "not a string", 'A = "1"'),
    (run("env = { A = true }"), "run.env.A", "not a string", "quote"),
    (run('env = { "A=B" = "x" }'), "run.env", '"=" or a space', "NODE_ENV"),
    (run('env = { "" = "x" }'), "run.env", "empty variable name", "NODE_ENV"),
    (run('env = { "A\\u0000" = "x" }'), "run.env", "control character", "NODE_ENV"),
    (run('env = { A = "x\\u0000" }'), "run.env.A", "NUL", "remove"),
    (run('env = { DEPLOYER_APP = "x" }'), "run.env.DEPLOYER_APP", "set by deployer", "rename"),
    (run('env = "A=B"'), "run.env", "not a table", "[run.env]"),
    (run('env_file = "/etc/env"'), "run.env_file", "absolute", "relative"),
    (run('env_file = "../env"'), "run.env_file", "leaves", "without .."),
    (run('secrets = ["1A"]'), "run.secrets[0]", "not a variable name", "names only"),
    (run('secrets = ["A", "A"]'), "run.secrets", "A stands twice", "remove one A"),
    (run('secrets = ["DEPLOYER_X"]'), "run.secrets[0]", "set by deployer", "rename"),
    (run('secrets = ["A"]\nenv = { A = "x" }'), "run.secrets", "A stands in run.env too", "remove A"),
    (run('secrets = "A"'), "run.secrets", "not a list", "brackets"),
    (run('linked = ["/data"]'), "run.linked[0]", "absolute", "relative"),
    (run('linked = ["a/../.."]'), "run.linked[0]", "leaves", "without .."),
    (run('linked = [""]'), "run.linked[0]", "empty", "relative"),
    (run('linked = ["."]'), "run.linked[0]", "leaves, or is", "relative"),
    (run('linked = ["data", "data/x"]'), "run.linked", "data/x lies inside data", "remove data/x"),
    (run('linked = ["data", "./data/"]'), "run.linked", "data stands twice", "remove"),
    (run('socket = "3001"'), "run.socket", "no port", "127.0.0.1:3001"),
    (run('socket = ":3001"'), "run.socket", "no host", "0.0.0.0:3001"),
    (run('socket = "a:0"'), "run.socket", "1 to 65535", "127.0.0.1"),
    (run('socket = "a:65536"'), "run.socket", "1 to 65535", "127.0.0.1"),
    (run('socket = "::1:80"'), "run.socket", "form host:port", "[::1]:3001"),
    (run('socket = "[::g]:80"'), "run.socket", "IPv6", "[::1]:3001"),
    (run("socket = 3001"), "run.socket", "not a string", "127.0.0.1"),
    (run("ports = [0]"), "run.ports[0]", "1 to 65535", "3001"),
    (run('ports = ["3001"]'), "run.ports[0]", "not a port number", "without quotes"),
    (run("ports = [true]"), "run.ports[0]", "not a port number", "without quotes"),
    (run("ports = [3001, 3001]"), "run.ports", "stands twice", "3002"),
    (run("ports = 3001"), "run.ports", "not a list", "brackets"),
    (run('rehearse = "yes"'), "run.rehearse", "neither true nor false", "rehearse = true"),
    (run("max_draining = 0"), "run.max_draining", "out of range", "max_draining = 1"),
    ('app = "a"\n[run]\ncommand = ""', "run.command", "empty command", '["node"'),
    ('app = "a"\n[run]\ncommand = []', "run.command", "empty list", '["node"'),
    ('app = "a"\n[run]\ncommand = [""]', "run.command", "empty program name", '["node"'),
    ('app = "a"\n[run]\ncommand = ["a", 1]', "run.command", "not a string", "quotes"),
    ('app = "a"\n[run]\ncommand = "a\\u0000"', "run.command", "NUL", "remove"),
    ('app = "a"\n[run]\ncommand = 7', "run.command", "= 7: neither a string nor a list", '["node"'),
    ('app = "a"\nrun = "node"', "run", "not a table", "[run]"),
    ('strategy = "rolling"\n' + GOOD, "strategy", "not one of restart, overlap", '"restart"'),
    ('strategy = "overlap"\n' + GOOD, "strategy", "needs run.socket or two run.ports", "socket ="),
    ('strategy = "overlap"\n' + run("ports = [1]"), "strategy", "needs run.socket", "socket ="),
    ('stratgy = "restart"\n' + GOOD, "stratgy", "unknown key", '"strategy"'),
    (GOOD + "[drian]\nceiling = '1m'", "drian", "unknown key", '"drain"'),
    (GOOD + "[build]\nartifact = 3", "build.artifact", "not a string", '"dist"'),
    (GOOD + "[build]\nexclude = ['']", "build.exclude[0]", "empty", ".git/"),
    (GOOD + "[build]\ntimeout = '0m'", "build.timeout", "zero", '"30s"'),
    (GOOD + "[install]\ncommand = {}", "install.command", "neither a string", '["node"'),
    (GOOD + "[check]\ntimeout = 60", "check.timeout", "bare number", '"60s"'),
    (GOOD + "[adopt]\nmatch = '('", "adopt.match", "not a regular expression", "api"),
    (GOOD + "[adopt]\nmatch = '.*'", "adopt.match", "every process", "api"),
    (GOOD + "[adopt]\nport = 70000", "adopt.port", "1 to 65535", "3001"),
    (GOOD + "[adopt]\npidfile = 'a.pid'", "adopt.pidfile", "relative", "/run/"),
    (GOOD + "[adopt]\nunit = '-x'", "adopt.unit", "systemd unit", "agent.service"),
    (GOOD + "[adopt]\nport = 1\nunit = 'a.service'", "adopt", "port and unit", "keep port"),
    (GOOD + "[target]\nlocal = 3", "target.local", "= 3: not a table", "[target.local]"),
    (GOOD + '[target."-x"]', "target.-x", "a name is made of", "rename"),
    (GOOD + "[target.p]\nkeep = 0", "target.p.keep", "out of range", "keep = 1"),
    (GOOD + "[target.p]\nhosts = ['a']", "target.p.path", "missing", "/srv/my-app"),
    (GOOD + "[target.p]\nhosts = ['a']\npath = 'x'", "target.p.path", "relative", "/srv/my-app"),
    (GOOD + "[target.p]\npath = '/'", "target.p.path", "not a directory for one app", "/srv/my-app"),
    (GOOD + "[target.p]\npath = '~bob/x'", "target.p.path", "another user", "/srv/my-app"),
    (GOOD + "[target.p]\npath = ''", "target.p.path", "empty", "/srv/my-app"),
    (GOOD + "[target.p]\npath = '/x'\nhosts = ['-oProxyCommand=x']", "target.p.hosts[0]", "not a host name", "deploy@"),
    (GOOD + "[target.p]\npath = '/x'\nhosts = ['-l@web']", "target.p.hosts[0]", "not a login name", "deploy@"),
    (GOOD + "[target.p]\npath = '/x'\nhosts = ['a b']", "target.p.hosts[0]", "not a host name", "deploy@"),
    (GOOD + "[target.p]\npath = '/x'\nhosts = [\"a\\n\"]", "target.p.hosts[0]", "control character", "deploy@"),
    (GOOD + "[target.p]\npath = '/x'\nhosts = ['a:x']", "target.p.hosts[0]", "1 to 65535", "deploy@"),
    (GOOD + "[target.p]\npath = '/x'\nhosts = ['a', 'a']", "target.p.hosts", "a stands twice", "remove one a"),
    (GOOD + "[target.p]\npath = '/x'\nhosts = []", "target.p.hosts", "empty list", "this machine"),
    (GOOD + "[target.p]\npath = '/x'\nhosts = 'a'", "target.p.hosts", "not a list", "brackets"),
    (GOOD + "[target.p]\nsupervisor = 'systemd_user'", "target.p.supervisor", "not one of", '"systemd-user"'),
    (GOOD + "[target.p]\nbecome = 'root'", "target.p.become", "not one of sudo", '"sudo"'),
    (GOOD + "[target.p.ssh]\nclient = 'opensh'", "target.p.ssh.client", "not one of", '"openssh"'),
    (GOOD + "[target.p.ssh]\nhost_keys = 'off'", "target.p.ssh.host_keys", "always checked", '"strict"'),
    (GOOD + "[target.p.rollout]\nbatch = '0%'", "target.p.rollout.batch", "share from 1%", '"25%"'),
    (GOOD + "[target.p.rollout]\nbatch = 0", "target.p.rollout.batch", "neither a number", '"25%"'),
    (GOOD + "[target.p.rollout]\ncanary = -1", "target.p.rollout.canary", "out of range", "canary = 1"),
    (GOOD + "[target.p.rollout]\non_failure = 'stop'", "target.p.rollout.on_failure", "not one of", '"hold"'),
    (GOOD + "[target.p.pool]\nkind = 'haprxy'", "target.p.pool.kind", "not one of", '"haproxy"'),
    (GOOD + "[target.p.pool]", "target.p.pool.kind", "missing", 'kind = "haproxy"'),
    (GOOD + "[target.p.verify]\nurl = 'agent'", "target.p.verify.url", "not an http", "http://"),
    (GOOD + "[target.p.verify]", "target.p.verify.url", "missing", "https://"),
    (
        GOOD + "[target.p.verify]\nurl = 'http://a/'\nrate = 51",
        "target.p.verify.rate",
        "1 or more, up to 50",
        "rate = 50",
    ),
    (GOOD + "[target.p.verify]\nurl = 'http://a/'\nrate = 0", "target.p.verify.rate", "out of range", "rate = 1"),
    (GOOD + "[target.p.verify]\nurl = 'http://a/'\ntimeout = 5", "target.p.verify.timeout", "bare number", '"5s"'),
    (GOOD + "[target.p.health]\ninterval = 200", "target.p.health.interval", "bare number", '"200s"'),
    (GOOD + "[target.p.helth]", "target.p.helth", "unknown key", '"health"'),
    (GOOD + "[target.p.run]\nenv = { A = 1 }", "target.p.run.env.A", "not a string", "quote"),
    (GOOD + "[target.p.drain]\napp_grace = '20m'", "target.p.drain.app_grace", "drain.ceiling = 11m", "raise"),
    (
        GOOD + "[drain]\napp_grace = '5m'\n[target.p.drain]\nceiling = '1m'",
        "target.p.drain.ceiling",
        "target.p.drain.ceiling = 1m does not outlast drain.app_grace = 5m",
        "raise target.p.drain.ceiling above 5m",
    ),
    (SSH + 'silent_after = "2s"', "target.p.ssh.silent_after", "heartbeat = 2s", "above 2s"),
    (SSH + 'heartbeat = "20s"', "target.p.ssh.heartbeat", "silent_after = 15s", "lower heartbeat"),
    (SSH + "heartbeat = 2", "target.p.ssh.heartbeat", "a bare number", '"2s"'),
    (SSH + 'connect_timeout = "0s"', "target.p.ssh.connect_timeout", "zero", '"30s"'),
    (SSH + "config = 3", "target.p.ssh.config", "path", "config ="),
    ('default_target = "prod"\n' + GOOD + "[target.production]", "default_target", "no such target", '"production"'),
    ("default_target = 3\n" + GOOD, "default_target", "= 3: not a string", "quotes"),
    (GOOD + "[services.a]\ncommand = 'x'\nclass = 'm:C'", "services.a", "stand together", "keep one"),
    (GOOD + "[services.a]\nenv = {}", "services.a", "neither command nor class", "command ="),
    (GOOD + "[services.a]\nclass = 'no class'", "services.a.class", "module:Class", "my_app.services:Cache"),
    (GOOD + "[services.a]\ncommand = 'x'\ncleanup_timeout = 5", "services.a.cleanup_timeout", "bare", '"5s"'),
    (GOOD + "[services.a]\ncommand = 'x'\n[services.a.drain]\nsignal = 'X'", "services.a.drain.signal", "known", "SIG"),
    (
        GOOD + "[services.a]\ncommand = 'x'\n[services.a.health]\nurl = 'http://a:{port}/'",
        "services.a.health.url",
        "a service has none",
        "number",
    ),
    (GOOD + "[services]\na = 1", "services.a", "= 1: not a table", "[services.a]"),
    (GOOD + "[job]\ntimeout = '1h'", "job.command", "missing", "[job]"),
    (GOOD + "[job]\ncommand = 'x'\nenv = []", "job.env", "not a table", "[job.env]"),
]


@pytest.mark.parametrize("text, path, cause, hint", BROKEN, ids=[f"{n}-{row[1]}" for n, row in enumerate(BROKEN)])
def test_every_mistake_is_named_with_its_key_and_a_way_out(tmp_path, text, path, cause, hint):
    error = refusal(tmp_path, text)
    first = error.cause.splitlines()[0]
    assert first.startswith(f"{tmp_path}/deploy.toml: {path}")
    assert path in error.title
    assert cause in first
    assert hint in error.hint


@pytest.mark.parametrize(
    "data, cause",
    [
        (b"\xff\xfea\0p\0p\0", "UTF-16"),
        ("app = 'a'".encode("utf-16-be"), "UTF-16"),
        (b'app = "\xff"', "line 1: byte 0xff"),
        (b'\napp = "\xc3', "line 2: byte 0xc3"),
        (b'app = "x"\n[run\n', "line 2, column 5: expected"),
        (b"app = ", "line 1, column 7"),
        (b'app = "x"\napp = "y"', "line 2, column 10"),
        (b"a = " + b"[" * 5000, "nested too deeply"),
        (b"a = " + b"9" * 5000, "limit"),
        (b"#" * ((1 << 20) + 1), "larger than 1 MiB"),
        (b"\x00", "binary"),
    ],
)
def test_bytes_that_are_no_toml_are_placed(tmp_path, data, cause):
    assert cause in refusal(tmp_path, data).cause


@pytest.mark.parametrize("name", ["missing.toml", ".", "a\0b", "n" * 300, "deploy.toml/x"])
def test_what_cannot_be_opened_is_a_usage_error(tmp_path, name):
    (tmp_path / "deploy.toml").write_text(GOOD)
    with pytest.raises(UsageError) as caught:
        load(tmp_path / name, None)
    assert caught.value.code == 2
    assert "-c FILE" in caught.value.hint


def test_missing_default_file_says_how_to_write_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        load(None, None)
    assert "deploy.toml" in caught.value.title
    assert "[run]" in caught.value.hint


def test_all_problems_are_reported_at_once_with_their_hints(tmp_path):
    error = refusal(tmp_path, "app = 3\n[health]\ninterval = 200\n[target.p.drain]\ncieling = '1m'\n")
    assert error.title.endswith("and 2 more problems")
    lines = error.cause.splitlines()
    assert len(lines) == 3
    assert "health.interval = 200" in lines[1] and '"200s"' in lines[1]
    assert "target.p.drain.cieling" in lines[2] and '"ceiling"' in lines[2]


def test_a_flood_of_problems_is_cut_and_counted(tmp_path):
    error = refusal(tmp_path, GOOD + "".join(f"k{n} = 1\n" for n in range(100)))
    assert len(error.cause.splitlines()) == 21
    assert error.cause.endswith("... and 80 more")


@pytest.mark.parametrize(
    "line",
    [
        'secrets = ["TOKEN=hunter2"]',
        'secrets = { TOKEN = "hunter2" }',
        'secrets = "hunter2!"',
        'env = { TOKEN = ["hunter2"] }',
        'env = { "TOKEN=hunter2" = "" }',
        'env = { TOKEN = "hunter2\\u0000" }',
        'password = "hunter2"',
        'env = "TOKEN=hunter2"',
    ],
)
def test_what_may_be_a_secret_is_never_repeated(tmp_path, line):
    error = refusal(tmp_path, run(line))
    assert "hunter2" not in f"{error.title}{error.cause}{error.hint}"


@pytest.mark.parametrize(
    "text",
    [
        GOOD + "[health]\nurl = 'http://me:hunter2@host/'",
        GOOD + "[target.p]\npath = '/x'\nhosts = ['me:hunter2@host']",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(tmp_path, text):
    error = refusal(tmp_path, text)
    assert "hunter2" not in f"{error.title}{error.cause}{error.hint}"


def test_control_characters_never_reach_the_terminal(tmp_path):
    error = refusal(tmp_path, GOOD + '[health]\nbusy = "\\u001b[2J\\u202e"\n"\\u001b[2J" = 1')
    assert "\x1b" not in f"{error.title}{error.cause}{error.hint}"
    assert "\u202e" not in error.cause


def test_unknown_target_names_the_nearest_and_the_known(tmp_path):
    error = refusal(tmp_path, GOOD + "[target.production]\n[target.staging]\n", "prodution")
    assert '"production"' in error.hint and "staging" in error.hint


def test_several_targets_and_no_default_ask_which(tmp_path):
    error = refusal(tmp_path, GOOD + "[target.production]\n[target.staging]\n")
    assert error.title == "which target?"
    assert "production, staging" in error.hint
