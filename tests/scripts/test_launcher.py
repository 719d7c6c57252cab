"""The launcher: which Python it takes, when it sets up, and what it says when it cannot."""

import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

from tests.scripts.machine import Clone


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

    (clone.path / 'python3.12').unlink()  # it is not even looked for
    assert clone.run('mmjax', 'diff')[2] == []
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
    assert "'wandbb'" in err[0] and 'tpu cuda12 cuda13 gcs s3 plan wandb tb' in err[1]


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


def test_plan_has_an_environment_of_its_own(clone: Clone):
    clone.add_python('3.10.2')
    code, _, err = clone.run('mmjax', 'plan', 'a.py', '--topology', 'v5e:2x2')
    assert code == 2 and len(err) == 2 and 'plan needs a Python from 3.11' in err[0]
    clone.add_python('3.12.4')
    code, out, _ = clone.run('mmjax', 'plan', 'a.py', '--topology', 'v5e:2x2')
    assert (code, out) == (0, f'3.12.4 in {clone.root}: -m mmjax.cli plan a.py --topology v5e:2x2\n')
    assert clone.made('uv')[-1].endswith(f'-e {clone.root}[plan]') and not clone.venv.exists()
    clone.run('mmjax', 'train', 'a.py')
    assert clone.venv.exists() and f'-e {clone.root}[plan]' not in clone.made('uv')[-1]
    code, _, err = clone.run('mmjax', 'plan', 'a.py', '--topology', 'v5e:2x2')
    assert (code, err, len(clone.made('venv'))) == (0, [], 2)


def test_plan_takes_what_it_is_given_and_sets_nothing_up_to_help(clone: Clone):
    clone.add_python('3.12.4')
    for arguments, environment in ((('--help',), {}), (('a.py',), {'MMJAX_PYTHON': f'{clone.path}/python3.12'})):
        assert clone.run('mmjax', 'plan', *arguments, **environment)[0] == 0
    assert not clone.root.joinpath('.venv-plan').exists()
