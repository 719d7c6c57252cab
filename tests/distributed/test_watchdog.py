"""What stands still ends, and says where."""

import subprocess
import sys
import textwrap
import threading
import time

import psutil

from mmjax.distributed.watchdog import watchdog

SCRIPT = """
    import subprocess, sys, threading, time
    from mmjax.distributed.watchdog import watchdog

    def stuck_here():
        time.sleep(600)

    child = "def stuck_there():\\n    __import__('time').sleep(600)\\nstuck_there()"
    with watchdog(1.5) as beat:
        for _ in range(4):  # longer than its patience, but it does something
            time.sleep(0.5)
            beat()
        print(subprocess.Popen([sys.executable, '-c', child]).pid, flush=True)
        threading.Thread(target=stuck_here, daemon=True).start()
        time.sleep(600)
"""


def test_a_process_that_stands_still_ends_with_its_children_and_tells_every_stack():
    began = time.monotonic()
    done = subprocess.run([sys.executable, '-c', textwrap.dedent(SCRIPT)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and 3 < time.monotonic() - began < 30
    assert 'nothing was done for 1.5 seconds' in done.stderr
    assert 'in stuck_here' in done.stderr and 'in stuck_there' in done.stderr
    child = int(done.stdout)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_what_holds_the_interpreter_is_ended_too():
    script = """
        from mmjax.distributed import watchdog as module
        module.FROZEN = 0.5
        with module.watchdog(0.5):
            pow(7, 10**9)  # in C, and no thread of Python runs meanwhile
    """
    done = subprocess.run([sys.executable, '-c', textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and 'Timeout' in done.stderr


def test_no_patience_is_for_ever():
    before = threading.active_count()
    with watchdog(0.0) as beat:
        beat()
        assert threading.active_count() == before  # nobody watches
