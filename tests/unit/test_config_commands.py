"""[target.NAME.commands] and `supervisor = "command"`: what a good one means, and what each mistake is told."""

import json

import pytest

from deployer.config.available import require_available
from deployer.config.load import load
from deployer.errors import UsageError

TOP = 'app = "my-app"\n'
TARGET = '[target.p]\nsupervisor = "command"\n'
COMMANDS = '[target.p.commands]\nstart = "run it"\nstop = ["end", "it"]\nstatus = ["look"]\n'
PID = 'pid = ["pm2", "pid", "my-app"]\n'
URL = '[health]\nurl = "http://127.0.0.1:3001/health"\n'


@pytest.fixture
def read(tmp_path):
    def loaded(text, target="p"):
        file = tmp_path / "deploy.toml"
        file.write_text(TOP + text)
        return load(file, target)

    return loaded


def test_commands_travel_with_the_target_and_no_run_command_is_needed(read):
    config = read(TARGET + COMMANDS + PID)
    require_available(config)
    commands = config.target()["commands"]
    assert json.loads(json.dumps(commands)) == {
        "start": ["sh", "-c", "run it"], "stop": ["end", "it"], "status": ["look"], "pidfile": None,
        "pid": ["pm2", "pid", "my-app"], "timeout": 60.0,
    }  # fmt: skip
    assert config.settings()["run"]["command"] == []


def test_port_of_the_health_url_tells_the_process_too(read):
    assert read(URL + TARGET + COMMANDS).target()["supervisor"] == "command"


def test_target_without_them_has_none(read):
    assert "commands" not in read('[run]\ncommand = ["a"]\n[target.p]\n').target()


@pytest.mark.parametrize(
    "text, key, why, hint",
    [
        (TARGET, "target.p.commands", "missing", "[target.p.commands]"),
        ('[run]\ncommand = ["a"]\n[target.p]\n' + COMMANDS + PID, "target.p.commands", '"builtin"', 'supervisor = "command"'),
        (TARGET + COMMANDS, "target.p.commands.pid", "nothing says which process", "pidfile ="),
        (TARGET + COMMANDS + PID + 'pidfile = "/run/a.pid"\n', "target.p.commands.pid", "stand together", "one of them"),
        (TARGET + COMMANDS.replace("status", "state") + PID, "target.p.commands.status", "missing", "status ="),
        (TARGET + COMMANDS + "pid = []\n", "target.p.commands.pid", "an empty list", "pid ="),
        (TARGET + COMMANDS + PID + "timeout = 5\n", "target.p.commands.timeout", "bare number", '"5s"'),
        (TARGET + COMMANDS + 'pidfile = "a.pid"\n', "target.p.commands.pidfile", "relative", "pidfile ="),
        ('[run]\nsocket = "127.0.0.1:3001"\n' + TARGET + COMMANDS + PID, "run.socket", "the parent of the process", "builtin"),
        ("[health]\nprivate = true\n" + TARGET + COMMANDS + PID, "health.private", "the parent of the process", "remove"),
        ("[run]\nrehearse = true\nports = [1]\n" + TARGET + COMMANDS + PID, "run.rehearse", "by run.command", "add command"),
        (
            'strategy = "overlap"\n[run]\nports = [3001, 3002]\n' + TARGET + COMMANDS + PID,
            "strategy", "under one name", 'strategy = "restart"',
        ),
    ],
)  # fmt: skip
def test_every_mistake_is_named_with_its_key_and_a_way_out(read, text, key, why, hint):
    with pytest.raises(UsageError) as caught:
        read(text)
    line = next(line for line in caught.value.cause.splitlines() if f": {key}" in line)
    assert why in line
    assert hint in str(caught.value.cause) + caught.value.hint
