"""Descriptors: never closed under a user, never more than the limit, and everybody gets one."""

from pathlib import Path

from engine.backends._memory_fs import MemoryFs
from engine.open_files import LogFile, OpenFiles


class Logs:
    """Logs by name, in a file system that counts what is open."""

    def __init__(self, count_max: int) -> None:
        self.fs = MemoryFs()
        self.files = OpenFiles(self.fs, count_max=count_max)
        self.of = {name: LogFile() for name in "abcd"}
        self.opened: list[str] = []

    def open(self, name: str) -> None:
        """As soon as there is room."""

        def use() -> None:
            self.files.add(self.of[name], self.fs.open(Path("/") / name, create=True))
            self.opened.append(name)

        self.files.when_room(use)

    def release(self, name: str) -> None:
        self.files.release(self.of[name])

    def is_open(self, name: str) -> bool:
        log = self.of[name]
        if self.files.take(log) is None:
            return False
        self.files.release(log)
        return True


def test_the_log_that_was_used_longest_ago_gives_way() -> None:
    logs = Logs(2)
    for name in "ab":
        logs.open(name)
        logs.release(name)
    assert logs.is_open("a"), "just used again"
    logs.open("c")
    assert logs.fs.open_count == logs.files.count == 2
    logs.release("c")
    assert [logs.is_open(name) for name in "abc"] == [True, False, True]
    logs.files.close()
    assert logs.fs.open_count == 0


def test_who_finds_all_descriptors_in_use_waits_for_the_first_that_is_free() -> None:
    logs = Logs(2)
    for name in "abcd":
        logs.open(name)
    assert (logs.opened, logs.files.waiting_count) == (["a", "b"], 2)
    logs.release("b")
    assert (logs.opened, logs.files.waiting_count) == (["a", "b", "c"], 1)
    assert logs.fs.open_count == 2
    logs.release("a")
    assert logs.opened == ["a", "b", "c", "d"]


def test_a_log_that_cannot_be_opened_lets_the_next_one_in() -> None:
    logs = Logs(1)
    logs.files.when_room(lambda: None)
    logs.open("a")
    assert logs.opened == []
    logs.files.give_up()
    assert logs.opened == ["a"]


def test_two_openings_at_once_share_one_descriptor() -> None:
    logs = Logs(2)
    logs.open("a")
    logs.open("a")
    assert logs.fs.open_count == 1
    logs.release("a")
    logs.files.forget(logs.of["a"])
    assert logs.fs.open_count == 1, "one user is left"
    logs.release("a")
    assert logs.fs.open_count == 0
    for name in "bc":
        logs.open(name)
    assert logs.opened[-2:] == ["b", "c"], "both places are free again"


def test_a_log_that_is_deleted_is_closed_at_once_or_after_its_last_user() -> None:
    logs = Logs(4)
    logs.open("a")
    logs.release("a")
    logs.files.forget(logs.of["a"])
    logs.files.forget(logs.of["b"])
    logs.open("b")
    assert logs.fs.open_count == 1, "it was being opened when it was deleted"
    logs.release("b")
    assert logs.fs.open_count == 0
