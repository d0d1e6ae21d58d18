"""A target that is a Ray cluster: what it must have, and what makes no sense there."""

import pytest

from deployer.config.load import load, with_ceiling
from deployer.errors import UsageError
from deployer.rollout.raytarget.order import bare_order

GOOD = """
app = "my-app"
[build]
artifact = "dist"
[drain]
ceiling = "7m"
[services.model]
class = "my_app:Model"
[services.cache]
class = "my_app:Cache"
ray = { num_cpus = 1, resources = { gpu_node = 1 } }
[services.cache.drain]
ceiling = "3m"
[target.x]
ray = "auto"
"""


def written(tmp_path, text):
    file = tmp_path / "deploy.toml"
    file.write_text(text)
    return file


def test_a_cluster_and_its_classes_are_all_that_it_takes(tmp_path):
    config = load(written(tmp_path, GOOD), None)
    assert (config.ray, config.warnings) == ("auto", ())
    assert config.tables.services["cache"].service.ray == {
        "num_cpus": 1, "num_gpus": 0, "resources": {"gpu_node": 1}, "max_concurrency": 1
    }  # fmt: skip


def test_the_ceiling_of_a_service_is_its_own_else_that_of_drain_and_a_person_decides_last(tmp_path):
    config = load(written(tmp_path, GOOD), None)
    assert bare_order(config, "d", "stop")["ceilings"] == {"model": 420, "cache": 180}
    assert bare_order(with_ceiling(config, 2), "d", "stop")["ceilings"] == {"model": 2, "cache": 2}


@pytest.mark.parametrize(
    "old, new, said",
    [
        ('ray = "auto"', 'ray = "http://x"', "not the address of a Ray cluster"),
        ('ray = "auto"', 'ray = "auto"\nhosts = ["web1"]\npath = "/srv/x"', "target.x.hosts"),
        ('ray = "auto"', 'ray = "auto"\nsupervisor = "systemd"', "nobody but Ray"),
        ('ray = "auto"', 'ray = "auto"\n[target.x.pool]\nkind = "registry"', "target.x.pool"),
        ('class = "my_app:Model"', 'command = ["redis"]', "Ray runs classes"),
        ("num_cpus = 1", "num_cpus = -1", "num_cpus is not a number"),
        ("num_cpus = 1", "cpus = 1", "'cpus' is not known"),
        ("[services.model]", "[services.deployer]", "deployer's own"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(tmp_path, old, new, said):
    with pytest.raises(UsageError) as refused:
        load(written(tmp_path, GOOD.replace(old, new, 1)), None)
    assert said in str(refused.value.cause)


def test_without_services_there_is_nothing_to_deploy(tmp_path):
    with pytest.raises(UsageError, match="services cannot be used"):
        load(written(tmp_path, 'app = "my-app"\n[target.x]\nray = "auto"\n'), None)


def test_what_stands_there_for_other_targets_has_no_effect_and_says_so(tmp_path):
    text = GOOD + '[target.local]\n[run]\ncommand = ["x"]\n[check]\ncommand = ["y"]\n'
    config = load(written(tmp_path, text), "x")
    assert config.warnings == ("run.command has no effect on Ray", "check.command has no effect on Ray")
