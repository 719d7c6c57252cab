"""When a process takes the group for gone: a service of JAX's, and this process's end, put in its place."""

import threading
from types import SimpleNamespace

import pytest

from mmjax.distributed import group


class Left(Exception):
    """In place of the end of the process."""


class Service:
    """Answers each look by the next of these: what it says, or an error; the last one again and again."""

    def __init__(self, *answers):
        self.answers, self.looks = list(answers), 0

    def key_value_try_get(self, key):
        self.looks += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        raise RuntimeError(answer)


@pytest.fixture
def watched(monkeypatch):
    """A look of the watch after the other, without waiting; returns the pauses before each."""

    def watch(service, *, processes=2, looks=100):
        pauses = []

        class Stop(threading.Event):
            def wait(self, timeout=None):
                pauses.append(timeout)
                return len(pauses) > looks

        def leave(code):
            raise Left(code)

        state = SimpleNamespace(client=service, num_processes=processes, process_id=1)
        monkeypatch.setattr(group.distributed, 'global_state', state)
        monkeypatch.setattr(group.os, '_exit', leave)
        group._watch(Stop())
        return pauses

    return watch


def test_one_look_that_fails_ends_nothing(watched):
    nothing, silent = 'NOT_FOUND: no such key', 'UNAVAILABLE: connection reset'
    pauses = watched(Service(silent, nothing, *4 * [silent], nothing), looks=20)
    assert len(pauses) == 21
    assert pauses[:3] == [0.3, 0.06, 0.3]  # again soon, then as before


def test_a_service_that_stays_silent_ends_the_process(watched, capsys):
    service = Service('NOT_FOUND: no such key', 'UNAVAILABLE: connection reset')
    with pytest.raises(Left):
        watched(service)
    assert service.looks == 1 + group.TRIES
    assert 'process 0 is gone' in capsys.readouterr().err


def test_many_processes_look_less_often(watched):
    assert watched(Service('NOT_FOUND: no such key'), processes=1000, looks=1) == [2.0, 2.0]


def test_what_all_bring_is_read_by_the_first_alone(monkeypatch):
    """Threads in place of processes, each with its own count of turns."""
    kept, reads, there = {}, [], threading.Condition()

    class Store:
        def __init__(self, me):
            self.me = me

        def key_value_set(self, key, value):
            with there:
                kept[key] = value
                there.notify_all()

        def blocking_key_value_get(self, key, _):
            reads.append(self.me)
            with there:
                there.wait_for(lambda: key in kept)
                return kept[key]

    mine = threading.local()

    class Turns:
        def __next__(self):
            mine.turn = getattr(mine, 'turn', -1) + 1
            return mine.turn

    class State:
        num_processes = 5
        process_id = property(lambda self: mine.me)
        client = property(lambda self: Store(mine.me))

    monkeypatch.setattr(group, '_turns', Turns())
    monkeypatch.setattr(group.distributed, 'global_state', State())
    found = {}

    def process(me):
        mine.me = me
        found[me] = [group.gathered(me * 10), group.gathered(str(me))]

    threads = [threading.Thread(target=process, args=[me]) for me in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert found == {me: [[0, 10, 20, 30, 40], ['0', '1', '2', '3', '4']] for me in range(5)}
    assert sorted(reads) == [0] * 10 + [1, 1, 2, 2, 3, 3, 4, 4]
