"""What compiles for TPU: `mmjax plan` in a process of its own, by a Python that has libtpu."""

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get('MMJAX_PLAN_PYTHON', ROOT / '.venv-plan/bin/python'))
WAIT = 120  # seconds for another process to be done with libtpu

# What conftest sets for tests that compute: here the programs themselves are looked at.
HIDDEN = {'XLA_FLAGS', 'JAX_DISABLE_MOST_OPTIMIZATIONS', 'JAX_COMPILATION_CACHE_DIR'}


def needs_libtpu(test: Any) -> Any:
    missing = pytest.mark.skipif(not PYTHON.exists(), reason='no .venv-plan: `scripts/mmjax plan` makes it')
    return pytest.mark.libtpu(missing(test))


def plan(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    until = time.monotonic() + WAIT
    while True:
        done = subprocess.run(
            [PYTHON, '-m', 'mmjax.cli', 'plan', *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment | {'PYTHONPATH': str(ROOT)},
            timeout=300,
            check=False,
        )
        if 'for one process at a time' not in done.stderr or time.monotonic() > until:
            return done
        time.sleep(1)
