"""The launcher on a private PATH: fake Pythons that say what they are asked, the tools of POSIX, and nothing else.

A fake `-m venv` makes an environment out of copies of itself, so a set-up takes a moment and needs no network.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
TOOLS = ('bash', 'cat', 'chmod', 'cp', 'date', 'dirname', 'env', 'grep', 'head', 'ls', 'mkdir', 'mv', 'rm', 'rmdir')
TOOLS += ('sleep', 'tail', 'touch', 'wc')

PYTHON = """#!/usr/bin/env bash
# a fake Python: what the launcher asks of one, and a line in calls.txt for each thing that it made
case "$*" in
  *version_info*) printf '{version}' ;;
  *'import venv, ensurepip') exit {venv} ;;
  *'-m venv '*)
    venv=${{!#}}
    echo "venv {version}" >>"$CALLS"
    mkdir -p "$venv/bin" && cp "$0" "$venv/bin/python"
    printf 'home = /x\\nversion = {version}\\n' >"$venv/pyvenv.cfg" ;;
  *'-m pip install'*)
    printf '%s\\n' '#!/usr/bin/env bash' 'echo "uv $*" >>"$CALLS"; sleep "${{SLOW:-0}}"; touch "${{0%/*}}/whole"' \\
      >"${{0%/*}}/uv"
    chmod +x "${{0%/*}}/uv" ;;
  *'-m pytest'*) echo "pytest {version} $*" >>"$CALLS" ;;
  *'-m mmjax.cli'*) echo "{version} in $PWD: $*" ;;
esac
"""


class Clone:
    """A clone of the repository's scripts, and a machine of which we know every program."""

    def __init__(self, directory: Path):
        self.root, self.path, self.calls = directory / 'clone', directory / 'bin', directory / 'calls.txt'
        self.venv = self.root / '.venv'
        shutil.copytree(ROOT / 'scripts', self.root / 'scripts')
        shutil.copy(ROOT / 'pyproject.toml', self.root)
        (self.root / 'requirements.txt').write_text('uv==0.9.0\n')
        self.path.mkdir()
        for tool in TOOLS:
            (self.path / tool).symlink_to(str(shutil.which(tool)))
        self.calls.touch()

    def add(self, name: str, text: str) -> None:
        program = self.path / name
        program.parent.mkdir(exist_ok=True)
        program.unlink(missing_ok=True)  # it may be a link to a program of the machine, which nobody must write through
        program.write_text(text)
        program.chmod(0o755)

    def add_python(self, version: str, *, name: str = '', venv: bool = True) -> None:
        self.add(name or f'python{version.rsplit(".", 1)[0]}', PYTHON.format(version=version, venv=0 if venv else 1))

    def start(self, *args: str, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.root / 'scripts' / args[0], *args[1:]],
            cwd=cwd or self.root,
            env={'PATH': str(self.path), 'HOME': str(self.path), 'CALLS': str(self.calls), **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *args: str, cwd: Path | None = None, **env: str) -> tuple[int, str, list[str]]:
        """Returns the exit code, standard output and the lines of standard error."""
        process = self.start(*args, cwd=cwd, **env)
        out, err = process.communicate(timeout=25)
        return process.returncode, out, err.splitlines()

    def made(self, what: str) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if line.startswith(what)]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def wait_until(condition, *, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.02)


def test_first_use_sets_up_and_later_ones_say_nothing(clone: Clone, tmp_path: Path):
    clone.add_python('3.12.4')
    elsewhere = tmp_path / 'else where'
    elsewhere.mkdir()
    code, out, err = clone.run('mmjax', 'train', 'a b.py', cwd=elsewhere)
    assert (code, out) == (0, f'3.12.4 in {elsewhere}: -m mmjax.cli train a b.py\n')
    assert err[0].startswith(f'mmjax: setting up {clone.venv} with Python 3.12.4')
    lock, package = clone.made('uv')
    assert f'-r {clone.root}/requirements.txt' in lock
    assert '--no-deps' in package and f'-e {clone.root}' in package

    start = time.perf_counter()
    assert clone.run('mmjax', 'diff')[2] == []
    assert time.perf_counter() - start < 1  # 0.03 s on an idle machine
    assert len(clone.made('venv')) == 1
    assert not list(clone.root.glob('.venv.lock*'))


def test_takes_the_newest_that_runs_and_that_the_lock_supports(clone: Clone):
    clone.add_python('3.9.18', name='python3')
    clone.add_python('3.11.2')
    clone.add_python('3.13.1')
    clone.add_python('3.15.0')
    clone.add('python3.14', '#!/usr/bin/env bash\necho "pyenv: python3.14: command not found" >&2; exit 127\n')
    clone.add('python3.13-config', '#!/usr/bin/env bash\necho 3.14.0\n')
    clone.add('python', '#!/usr/bin/env bash\necho 2.7.18\n')
    assert clone.run('mmjax')[1].startswith('3.13.1 in')


def test_looks_behind_a_shim_that_fails(clone: Clone):
    clone.add('shims/python3.12', '#!/usr/bin/env bash\nexit 127\n')
    clone.add_python('3.12.4')
    code, out, _ = clone.run('mmjax', PATH=f'{clone.path}/shims:{clone.path}')
    assert code == 0 and out.startswith('3.12.4 in')


def test_does_not_build_an_environment_from_the_one_it_replaces(clone: Clone):
    clone.add_python('3.12.4')
    clone.run('mmjax')
    (clone.venv / 'mmjax.stamp').unlink()
    shutil.copy(clone.venv / 'bin/python', clone.venv / 'bin/python3.12')
    code, _, err = clone.run('mmjax', PATH=f'{clone.venv}/bin:{clone.path}')
    assert code == 0 and f'({clone.path}/python3.12)' in err[0]


def test_no_suitable_python_is_told_in_two_lines(clone: Clone):
    clone.add_python('3.9.18', name='python3')
    clone.add_python('2.7.18', name='python')
    clone.add('python3.12', '#!/usr/bin/env bash\nexit 127\n')
    code, _, err = clone.run('mmjax')
    assert code == 2 and len(err) == 2
    assert 'no Python from 3.11 to 3.14 runs here' in err[0]
    for seen in ('python3 (3.9.18)', 'python (2.7.18)', 'python3.12 (does not run)'):
        assert seen in err[0]
    assert 'Install one' in err[1]
    assert not clone.venv.exists()


def test_no_python_at_all(clone: Clone):
    code, _, err = clone.run('mmjax')
    assert code == 2 and len(err) == 2 and 'none at all' in err[0]


def test_missing_venv_module_is_told_in_two_lines(clone: Clone):
    clone.add_python('3.12.4', venv=False)
    code, _, err = clone.run('mmjax')
    assert code == 2 and len(err) == 2
    assert f'{clone.path}/python3.12 (3.12.4)' in err[0] and 'venv' in err[0]
    assert 'apt install python3.12-venv' in err[1]


def test_unreachable_index_is_told_in_two_lines(clone: Clone):
    pytest.importorskip('ensurepip')
    with socket.socket() as taken:  # bound and not listening: whoever calls is refused
        taken.bind(('127.0.0.1', 0))
        index = f'http://127.0.0.1:{taken.getsockname()[1]}/simple'
        clone.add('python3.11', f'#!/usr/bin/env bash\nexec {sys.executable} "$@"\n')
        code, _, err = clone.run('mmjax', PIP_INDEX_URL=index, PIP_RETRIES='0', PIP_CONFIG_FILE=os.devnull)
    assert code == 2 and len(err) == 4
    assert "set-up failed at 'installing uv': no package index could be reached" in err[2]
    assert f'{clone.venv}/mmjax.log' in err[3]
    assert 'pip install' in (clone.venv / 'mmjax.log').read_text()
    assert not (clone.venv / 'mmjax.stamp').exists()


def test_another_failure_is_told_with_its_reason(clone: Clone):
    clone.add_python('3.12.4')
    python = clone.path / 'python3.12'
    full = 'echo one; echo "ERROR: the disk is full"; echo "the end"; exit 1'
    python.write_text(python.read_text().replace('case "$*" in', f'case "$*" in\n  *"pip install"*) {full} ;;'))
    code, _, err = clone.run('mmjax')
    assert code == 2 and len(err) == 4
    assert err[2] == "mmjax: set-up failed at 'installing uv': ERROR: the disk is full"
    assert f'{clone.venv}/mmjax.log' in err[3]
    assert not list(clone.root.glob('.venv.lock*'))


@pytest.mark.parametrize('change', ['requirements.txt', 'pyproject.toml', 'extras', 'python', 'gone', 'moved'])
def test_a_change_of_any_input_rebuilds(clone: Clone, change: str):
    clone.add_python('3.12.4')
    clone.run('mmjax')
    env = {}
    if change.endswith('.txt') or change.endswith('.toml'):
        with (clone.root / change).open('a') as file:
            file.write('# changed\n')
    elif change == 'extras':
        env = {'MMJAX_EXTRAS': 'tb, wandb'}
    elif change == 'python':
        (clone.venv / 'pyvenv.cfg').write_text('version = 3.12.5\n')
    elif change == 'gone':
        (clone.venv / 'bin/python').unlink()
    else:
        clone.root = clone.root.rename(clone.root.parent / 'moved')
    assert clone.run('mmjax', **env)[0] == 0
    assert len(clone.made('venv')) == 2
    assert clone.run('mmjax')[2] == []  # without MMJAX_EXTRAS the environment keeps those that it has
    if change == 'extras':
        assert f'-c {clone.root}/requirements.txt -e {clone.root}[tb,wandb]' in clone.made('uv')[-1]


def test_an_unknown_extra_names_the_known(clone: Clone):
    clone.add_python('3.12.4')
    code, _, err = clone.run('mmjax', MMJAX_EXTRAS='cuda12,wandbb')
    assert code == 2 and len(err) == 2
    assert "'wandbb'" in err[0] and 'tpu cuda12 cuda13 wandb tb' in err[1]


def test_an_interrupted_setup_heals(clone: Clone):
    clone.add_python('3.12.4')
    process = clone.start('mmjax', SLOW='1.5')
    wait_until(lambda: clone.made('uv'))
    process.kill()  # the launcher alone: its uv goes on writing, and the next set-up must not run beside it
    process.communicate()
    assert not (clone.venv / 'bin/whole').exists() and (clone.root / '.venv.lock').exists()
    code, out, err = clone.run('mmjax')
    assert code == 0 and out.startswith('3.12.4 in')
    assert err[0].startswith('mmjax: waiting') and sum('setting up' in line for line in err) == 1
    assert len(clone.made('venv')) == 2
    assert not list(clone.root.glob('.venv.lock*'))


def test_ctrl_c_ends_the_work_and_frees_the_lock(clone: Clone):
    clone.add_python('3.12.4')
    process = clone.start('mmjax', SLOW='20')
    wait_until(lambda: clone.made('uv'))
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=5)
    assert process.returncode == 130 and not (clone.root / '.venv.lock').exists()
    assert clone.run('mmjax')[0] == 0


def test_two_that_start_at_once_both_succeed(clone: Clone):
    clone.add_python('3.12.4')
    first, second = (clone.start('mmjax', SLOW='0.5') for _ in range(2))
    results = [process.communicate(timeout=20) for process in (first, second)]
    assert first.returncode == second.returncode == 0
    assert all(out.startswith('3.12.4 in') for out, _ in results)
    assert len(clone.made('venv')) == 1
    assert sorted('waiting for the set-up' in err for _, err in results) == [False, True]


@pytest.mark.parametrize('owner', ['dead', 'old', 'live'])
def test_a_stale_lock_is_taken_over(clone: Clone, owner: str):
    clone.add_python('3.12.4')
    host = subprocess.run(['bash', '-c', 'printf %s "$HOSTNAME"'], capture_output=True, text=True, check=True).stdout
    lock = clone.root / '.venv.lock'
    lock.mkdir()
    dead = subprocess.Popen(['true'])
    dead.wait()
    (lock / 'owner').write_text(
        {
            'dead': f'{host} {dead.pid} -{dead.pid} {int(time.time())}\n',
            'old': f'another-host 1 - {int(time.time()) - 16 * 60}\n',
            'live': f'another-host 1 - {int(time.time())}\n',
        }[owner]
    )
    process = clone.start('mmjax')
    if owner == 'live':
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=1.5)
        shutil.rmtree(lock)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 0 and not lock.exists()
    assert ('process 1 on another-host' in err) == (owner == 'live')


def test_two_that_find_a_stale_lock_set_up_once(clone: Clone):
    clone.add_python('3.12.4')
    (clone.root / '.venv.lock').mkdir()
    (clone.root / '.venv.lock/owner').write_text('another-host 1 - 0\n')
    processes = [clone.start('mmjax', SLOW='0.3') for _ in range(4)]
    for process in processes:
        process.communicate(timeout=20)
    assert [process.returncode for process in processes] == [0] * 4
    assert len(clone.made('venv')) == 1


def test_mmjax_python_skips_the_setup(clone: Clone):
    clone.add_python('3.10.1', name='own/my-python')
    code, out, err = clone.run('mmjax', 'eval', MMJAX_PYTHON=f'{clone.path}/own/my-python')
    assert (code, err) == (0, []) and out.startswith('3.10.1 in')
    assert not clone.venv.exists()
    code, _, err = clone.run('mmjax', MMJAX_PYTHON='/nowhere/python')
    assert code == 2 and len(err) == 2 and '/nowhere/python' in err[0]


def test_mmjax_venv_names_the_place_and_removes_nothing_of_others(clone: Clone, tmp_path: Path):
    clone.add_python('3.12.4')
    assert clone.run('mmjax', MMJAX_VENV=f'{tmp_path}/disk/env')[0] == 0
    assert (tmp_path / 'disk/env/mmjax.stamp').exists() and not clone.venv.exists()

    (tmp_path / 'home').mkdir()
    (tmp_path / 'home/thesis').touch()
    code, _, err = clone.run('mmjax', MMJAX_VENV=f'{tmp_path}/home')
    assert code == 2 and len(err) == 2 and 'was not made by this set-up' in err[0]
    assert (tmp_path / 'home/thesis').exists()


def test_a_place_that_cannot_be_written_is_told_in_two_lines(clone: Clone):
    clone.add_python('3.12.4')
    (clone.root / 'file').touch()
    for place in ('file/env', 'file'):  # a file is in the way: permissions would not stop root
        code, _, err = clone.run('mmjax', MMJAX_VENV=place)
        assert code == 2 and len(err) == 2 and 'MMJAX_VENV' in ''.join(err)
    assert (clone.root / 'file').is_file()


def test_test_runs_the_other_jax_line_where_it_is_present(clone: Clone):
    clone.add_python('3.11.2')
    code, _, err = clone.run('test')
    assert code == 0 and err[-1].endswith('is left out: no Python from 3.12 to 3.14 runs here')
    clone.add_python('3.12.4')  # the environment of 3.11 stands, so this is now the other one
    assert clone.run('test')[0] == 0
    clone.run('test', 'tests/nn', '-k', 'mask')
    assert clone.made('pytest') == [
        'pytest 3.11.2 -m pytest -n 2 --dist worksteal',
        'pytest 3.11.2 -m pytest -n 2 --dist worksteal',
        'pytest 3.12.4 -m pytest -n 2 --dist worksteal -m short',
        'pytest 3.11.2 -m pytest tests/nn -k mask',
    ]


@pytest.mark.short
def test_the_lock_answers_to_pyproject():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())
    text = (ROOT / 'requirements.txt').read_text()
    assert 'scripts/lock' in text.splitlines()[1]
    assert not re.search(r'://|--(extra-)?index-url|--find-links', text)
    locked: dict[str, list[Requirement]] = {}
    for line in text.splitlines():
        if line and not line.lstrip().startswith('#'):
            requirement = Requirement(line)
            locked.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    for wish in map(Requirement, project['project']['dependencies'] + project['dependency-groups']['dev']):
        pins = locked.get(canonicalize_name(wish.name), [])
        assert pins, f'{wish.name} is in pyproject.toml and not in requirements.txt: run scripts/lock'
        for pin in pins:
            version = next(iter(pin.specifier)).version
            assert wish.specifier.contains(version), f'{pin} does not answer to {wish}: run scripts/lock'
    for minor, jax in ((11, '0.10.'), (12, '0.12.'), (14, '0.12.')):
        environment = {'python_version': f'3.{minor}', 'python_full_version': f'3.{minor}.0'}
        (pin,) = (pin for pin in locked['jax'] if pin.marker is None or pin.marker.evaluate(environment))
        assert next(iter(pin.specifier)).version.startswith(jax)
