"""Who belongs to an instance, decided on tables written down here: no real process is touched."""

from __future__ import annotations

from host_fakes import KEEPER, MARK, OTHER, service

from deployer.host.tree import Tree


def pids(tree: Tree) -> list[int]:
    return [stat.pid for stat in tree.refresh()]


def test_children_and_their_children_belong_to_it_the_main_process_first() -> None:
    table, tree = service()
    table.add(90, 100, sid=90, start=200)
    table.add(91, 90, sid=91, start=201)
    assert pids(tree) == [100, 90, 91]


def test_orphans_belong_by_session_even_without_a_mark() -> None:
    table, tree = service()
    table.add(101, 100, sid=100)
    table.remove(100)
    assert pids(tree) == [101]


def test_orphans_in_a_session_of_their_own_belong_by_their_mark() -> None:
    table, tree = service()
    table.add(101, 1, sid=101, environ=MARK)
    table.remove(100)
    assert pids(tree) == [101]


def test_once_seen_always_a_member() -> None:
    table, tree = service(mark=None)
    table.add(101, 100, sid=101)
    assert pids(tree) == [100, 101]
    table.remove(100)
    assert pids(tree) == [101]


def test_unmarked_orphans_that_came_to_the_reaper_belong_to_it() -> None:
    table, tree = service()
    table.add(101, KEEPER, environ=b"")
    table.add(102, KEEPER, environ=OTHER)
    table.add(103, KEEPER, environ=b"DEPLOYER_ENGINE=runner\0")
    table.add(99, KEEPER, start=99, environ=b"")
    assert pids(tree) == [100]
    tree.reaper = KEEPER
    assert pids(tree) == [100, 101]  # not another instance's, not our own, not one older than the main process


def test_engine_and_strangers_never_belong_to_it() -> None:
    table, tree = service()
    table.add(101, 100, sid=100, environ=b"DEPLOYER_ENGINE=agent\0" + MARK)
    table.add(102, 101, environ=OTHER)
    assert pids(tree) == [100]


def test_another_process_with_the_main_process_number_is_a_stranger() -> None:
    table, tree = service()
    assert pids(tree) == [100]
    table.remove(100)
    table.add(100, 1, start=5000, environ=b"HOME=/\0")
    table.add(5001, 100, sid=100, environ=b"HOME=/\0")
    assert pids(tree) == []
    assert tree.handles() == []
    table.remove(100)  # the stranger's session outlives it: still a stranger's
    assert pids(tree) == []


def test_the_number_of_a_member_that_has_gone_makes_no_members_of_strangers() -> None:
    table, tree = service()
    table.add(101, 100, sid=101)
    assert pids(tree) == [100, 101]
    table.remove(101)
    assert pids(tree) == [100]
    table.add(101, 1, start=5000, environ=b"HOME=/\0")
    table.add(5001, 101, sid=101, environ=b"HOME=/\0")
    assert pids(tree) == [100]
    table.remove(101)
    assert pids(tree) == [100]


def test_a_session_is_remembered_for_as_long_as_it_has_members() -> None:
    table, tree = service(mark=None)
    table.add(101, 100, sid=101)
    table.add(102, 101, sid=101)
    assert pids(tree) == [100, 101, 102]
    table.remove(101)
    table.add(103, 102, sid=101)
    assert pids(tree) == [100, 102, 103]
    table.remove(102)
    table.add(104, 1, sid=101)
    assert pids(tree) == [100, 103, 104]


def test_a_zombie_is_no_member_and_one_with_living_threads_is() -> None:
    table, tree = service()
    table.add(101, 100, sid=100, state="Z")
    assert pids(tree) == [100]
    table.lines[101].stat = table.lines[101].stat._replace(threads=3)
    assert pids(tree) == [100, 101]


def test_nothing_of_another_boot_is_a_member() -> None:
    table, tree = service()
    table.boot = "the next"
    assert pids(tree) == []


def test_members_count_even_when_descriptors_have_run_out() -> None:
    table, tree = service()
    table.descriptors = 1
    table.add(101, 100, sid=100)
    assert pids(tree) == [100, 101]
    assert [handle.identity.pid for handle in tree.handles()] == [100]
    table.remove(100)
    table.descriptors = 1
    assert pids(tree) == [101]
    assert tree.handle(101) is not None


def test_orphan_in_the_middle_of_its_exec_is_looked_at_again() -> None:
    table, tree = service()
    table.add(101, 1, environ=b"")
    assert pids(tree) == [100]
    table.lines[101].environ = MARK
    assert pids(tree) == [100, 101]


def test_strangers_are_passed_over_between_two_looks() -> None:
    table, tree = service()
    pids(tree), pids(tree), pids(tree)
    assert 900 not in table.looked_at
    assert 100 in table.looked_at


def test_number_of_a_stranger_that_was_given_to_a_child_of_ours_is_looked_at_again() -> None:
    table, tree = service()
    for given in (880, 890, 895):
        table.last = given
        pids(tree)
    table.remove(900)
    table.add(900, 1, start=5000, environ=MARK)  # a daemon of the app: no parent, session or group tells whose it is
    table.last = 905
    assert pids(tree) == [100, 900]


def test_number_given_out_after_the_numbers_began_anew_is_looked_at_again() -> None:
    table, tree = service()
    for given in (32000, 32500, 32700):
        table.last = given
        pids(tree)
    table.remove(900)
    table.add(900, 1, start=5000, environ=MARK)
    table.last = 950
    assert pids(tree) == [100, 900]


def test_nobody_is_passed_over_where_the_kernel_does_not_tell_its_last_number() -> None:
    table, tree = service()
    table.last = None
    pids(tree), pids(tree), pids(tree)
    assert 900 in table.looked_at
