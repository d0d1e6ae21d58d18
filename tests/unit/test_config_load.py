"""What a good deploy.toml means: defaults, overrides, targets, shapes."""

from pathlib import Path

import pytest

from deployer.config.available import require_available
from deployer.config.load import load, with_ceiling
from deployer.errors import UsageError

SMALL = 'app = "my-app"\n[run]\ncommand = "exec node api.js"\n'


@pytest.fixture
def config(tmp_path):
    def read(text, target=None):
        file = tmp_path / "deploy.toml"
        file.write_text(text)
        return load(file, target)

    return read


def test_smallest_config_has_the_defaults_of_the_contract(config):
    assert config(SMALL).settings() == {
        "app": "my-app",
        "strategy": "restart",
        "run": {
            "command": ["sh", "-c", "exec node api.js"],
            "env": {},
            "env_file": None,
            "secrets": [],
            "linked": [],
            "socket": None,
            "ports": [],
            "rehearse": False,
            "max_draining": 3,
        },
        "health": {
            "url": None,
            "interval": 0.2,
            "timeout": 2.0,
            "ready_within": 60.0,
            "streak": 2,
            "busy": None,
            "private": False,
            "alive_for": 2.0,
        },
        "drain": {
            "signal": "SIGTERM",
            "signal_to": "main",
            "ceiling": 660.0,
            "longest_task": None,
            "app_grace": None,
            "quiet": None,
            "wait_idle": None,
            "last_call": None,
            "last_call_before": 30.0,
            "revert_ceiling": 30.0,
        },
        "install": {"command": None, "timeout": 900.0},
        "check": {"command": None, "timeout": 60.0},
        "services": {},
    }


def test_without_targets_this_machine_is_the_target(config, tmp_path):
    here = config(SMALL, "local")
    assert here.target() == {
        "name": "local",
        "host": "local",
        "path": "~/.local/share/my-app",
        "keep": 5,
        "supervisor": "builtin",
        "adopt": None,
        "pool": None,
    }
    assert (here.file, here.directory, here.hosts) == (tmp_path / "deploy.toml", tmp_path, ())
    require_available(here)


def test_utf8_byte_order_mark_and_crlf_are_accepted(tmp_path):
    (tmp_path / "deploy.toml").write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert load(tmp_path / "deploy.toml", None).app == "my-app"


def test_no_file_means_deploy_toml_here(config, tmp_path, monkeypatch):
    config(SMALL)
    monkeypatch.chdir(tmp_path)
    assert load(None, None).directory == tmp_path


def test_relative_file_and_path_resolve_against_the_directory_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.toml").write_text(SMALL + "[target.x]\npath = '../srv/app'\n")
    monkeypatch.chdir(tmp_path)
    assert load(Path("sub/d.toml"), None).target()["path"] == str(tmp_path / "srv/app")


def test_override_merges_key_by_key_and_env_too(config):
    text = SMALL + (
        'env = { A = "1", B = "1" }\n[health]\nstreak = 5\ninterval = "1s"\n[build]\nartifact = "a"\n'
        "[target.p.run]\nenv = { B = '2' }\n[target.p.health]\nstreak = 7\n[target.p.build]\ncommand = 'make'\n"
        "[target.p.check]\ncommand = ['true']\n[target.q]\n"
    )
    p, q = config(text, "p"), config(text, "q")
    assert p.settings()["run"]["env"] == {"A": "1", "B": "2"}
    assert p.settings()["run"]["command"] == ["sh", "-c", "exec node api.js"]
    assert (p.settings()["health"]["streak"], p.settings()["health"]["interval"]) == (7, 1.0)
    assert (p.build.artifact, p.build.command) == ("a", ("sh", "-c", "make"))
    assert p.settings()["check"]["command"] == ["true"]
    assert q.settings()["health"]["streak"] == 5
    assert q.settings()["run"]["env"] == {"A": "1", "B": "1"}


def test_override_of_adopt_replaces_it(config):
    text = SMALL + "[adopt]\nport = 3001\n[target.p.adopt]\nunit = 'a.service'\n[target.q.adopt]\n[target.r]\n"
    assert config(text, "p").target()["adopt"] == {"unit": "a.service"}
    assert config(text, "q").target()["adopt"] is None
    assert config(text, "r").target()["adopt"] == {"port": 3001}


def test_override_may_mend_what_the_top_alone_would_break(config):
    text = SMALL + "[drain]\napp_grace = '15m'\n[target.p.drain]\nceiling = '20m'\n"
    assert config(text).settings()["drain"]["ceiling"] == 1200.0


def test_default_target_and_single_target_are_chosen(config):
    assert config(SMALL + "[target.only]\n").target_name == "only"
    two = 'default_target = "b"\n' + SMALL + "[target.a]\n[target.b]\n"
    assert (config(two).target_name, config(two, "a").target_name) == ("b", "a")


def test_commands_signals_and_urls_keep_their_kind(config):
    def drain(line):
        return config(SMALL + "[drain]\n" + line).settings()["drain"]

    assert drain('quiet = "SIGTSTP"')["quiet"] == "SIGTSTP"
    assert drain('quiet = "http://127.0.0.1/q"')["quiet"] == "http://127.0.0.1/q"
    assert drain('quiet = "./quiet"')["quiet"] == ["sh", "-c", "./quiet"]
    assert drain('last_call = ["./save"]')["last_call"] == ["./save"]
    assert drain('wait_idle = "0s"')["wait_idle"] is None


def test_rehearsal_is_the_default_with_overlap(config):
    overlap = 'strategy = "overlap"\n' + SMALL
    assert config(overlap + "ports = [1, 2]").settings()["run"]["rehearse"] is True
    assert config(overlap + "ports = [1, 2]\nrehearse = false").settings()["run"]["rehearse"] is False
    assert config(overlap + 'socket = "[::1]:80"').settings()["run"]["socket"] == "[::1]:80"


def test_linked_paths_are_written_plainly(config):
    assert config(SMALL + 'linked = ["./data/", "a//b"]').settings()["run"]["linked"] == ["data", "a/b"]


def test_the_contract_s_own_example_loads(config):
    contract = Path("/work/shared/CONTRACT.md")
    if not contract.exists():
        pytest.skip("the contract lies outside the repository")
    text = contract.read_text().split("```toml\n")[1].split("```")[0]
    production = config(text, "production")
    assert production.hosts == ("deploy@web1.example.com", "deploy@web2.example.com:2222")
    assert production.target_table["rollout"]["batch"] == "25%"
    assert production.target_table["ssh"].items() >= {"client": "paramiko", "host_keys": "strict"}.items()
    assert production.target_table["become"] == "sudo"
    assert [str(rung) for rung in production.rungs()] == [
        "drain.longest_task = 8m",
        "drain.app_grace = 10m",
        "drain.ceiling = 11m",
    ]
    assert config(text).target_name == "local"


def test_services_and_job_arrive_complete(config):
    job = config(
        'app = "j"\n[services.cache]\nclass = "m:Cache"\n[services.cache.drain]\nceiling = "1m"\n'
        '[job]\ncommand = "run"\nenv = { A = "1" }\ntimeout = "1h"\n'
    )
    cache = job.settings()["services"]["cache"]
    assert (cache["class"], cache["command"], cache["cleanup_timeout"]) == ("m:Cache", None, 5.0)
    assert (cache["drain"]["ceiling"], cache["health"]["streak"]) == (60.0, 2)
    table = {"command": ["sh", "-c", "run"], "env": {"A": "1"}, "timeout": 3600.0, "stop_within": 30.0}
    assert job.job() == job.settings()["job"] == table
    assert job.settings()["run"]["command"] == ["sh", "-c", "run"] and job.settings()["run"]["env"] == {"A": "1"}


def test_job_beside_an_app_has_a_directory_of_its_own(config):
    both = config(SMALL + 'env = { A = "1", B = "2" }\n[job]\ncommand = "run"\nenv = { A = "3" }\n')
    assert "job" not in both.settings() and both.batch is None
    job = both.of_the_job(autostop=False)
    assert job.path == f"{both.path}/job" and job.target()["beside"] and not job.target()["autostop"]
    assert job.settings()["run"]["env"] == {"A": "3", "B": "2"}


def test_warnings_name_keys_without_effect(config):
    warnings = config(SMALL + "[health]\nbusy = '/b'\n[drain]\nwait_idle = '1m'\n[services.x]\n").warnings
    assert [warning.split()[0] for warning in warnings] == ["health.busy", "drain.wait_idle", "services.x"]


def test_ceiling_of_a_person_warns_instead_of_failing(config):
    base = config(SMALL + "[drain]\nlongest_task = '8m'\napp_grace = '10m'\nlast_call = 'x'\n")
    short = with_ceiling(base, 30)
    assert short.settings()["drain"]["ceiling"] == 30.0
    assert "drain.app_grace = 10m" in short.warnings[0] and "--ceiling = 30s" in short.warnings[0]
    assert "drain.last_call_before = 30s" in short.warnings[1]
    assert base.settings()["drain"]["ceiling"] == 660.0
    between = with_ceiling(base, 540)
    assert len(between.warnings) == 1 and "app_grace" in between.warnings[0]
    assert with_ceiling(base, 700).warnings == ()


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_ceiling_that_is_no_duration_is_refused(config, seconds):
    with pytest.raises(UsageError):
        with_ceiling(config(SMALL), seconds)


@pytest.mark.parametrize(
    "text, word",
    [
        (SMALL + "socket = '127.0.0.1:3001'\n[target.p]\nsupervisor = 'launchd'", "run.socket"),
        (SMALL + "[health]\nprivate = true\n[target.p]\nsupervisor = 'launchd'", "health.private"),
        (SMALL + "[services.a]\ncommand = 'x'\n[target.p]\nsupervisor = 'systemd'", "services"),
    ],
)
def test_what_is_not_available_yet_is_refused_by_name(config, text, word):
    with pytest.raises(UsageError) as caught:
        require_available(config(text))
    assert word in caught.value.cause
    assert "not available" in caught.value.title and "{t}" not in caught.value.hint


def test_validated_config_cannot_be_changed(config):
    with pytest.raises(AttributeError):
        config(SMALL).app = "other"
    with pytest.raises(ValueError, match="frozen"):
        config(SMALL).tables.drain.ceiling = 1.0
