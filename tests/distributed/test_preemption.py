"""SIGTERM: taken where a state is whole."""

import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from mmjax.distributed.preemption import Preemption
from mmjax.errors import Preempted


def test_a_signal_interrupts_and_waits_for_the_end_of_a_shielded_block():
    done = []
    preemption, before = Preemption(), signal.getsignal(signal.SIGTERM)
    with preemption.listening():
        with pytest.raises(Preempted), preemption.shielded():
            with preemption.shielded():
                signal.raise_signal(signal.SIGTERM)
                done.append('inner')
            done.append('outer')
        assert done == ['inner', 'outer']
        with pytest.raises(Preempted):
            signal.raise_signal(signal.SIGTERM)
            done.append('never')
    assert done == ['inner', 'outer'] and signal.getsignal(signal.SIGTERM) is before
    assert not Preemption().due(3)  # alone there is nothing to agree on


@pytest.mark.parametrize('loses', [False, True])
def test_what_does_not_come_back_to_python_ends_where_nothing_is_lost(loses):
    """As in a compiler: the handler cannot run. With something to lose it is waited for."""
    script = f"""
        import hashlib, os, signal, threading
        from mmjax.distributed import preemption as module
        from mmjax.distributed.preemption import Preemption
        module.TAKES = 0.2
        preemption = Preemption()
        preemption.loses = {loses}
        with preemption.listening():
            threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
            hashlib.pbkdf2_hmac('sha256', b'a word', b'salt', 4_000_000)  # seconds in one call
            print('never')
    """
    done = subprocess.run([sys.executable, '-c', textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == (1 if loses else 143), done.stderr
    assert ('Preempted' if loses else 'nothing that is not saved') in done.stderr and not done.stdout


def test_elsewhere_than_in_the_main_thread_it_is_left_alone():
    found = []

    def work() -> None:
        with Preemption().listening():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
