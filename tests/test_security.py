"""What reads a file runs nothing that the file says: rules of the linter, and those that it has not."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for room in ('mmjax', 'configs', 'experiments', 'scripts') for path in (ROOT / room).rglob('*.py'))
PILLOW = {'MAX_IMAGE_PIXELS', 'LOAD_TRUNCATED_IMAGES'}  # its guards against bombs and torsos


def unsafe(source: str) -> list[str]:
    """Of Python, what ruff has no rule for."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == 'allow_pickle':
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                found.append('allow_pickle')
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found += [name.attr for name in targets if isinstance(name, ast.Attribute) and name.attr in PILLOW]
    return found


def test_no_file_of_ours_is_unsafe():
    assert len(FILES) > 200
    assert {str(file.relative_to(ROOT)): found for file in FILES if (found := unsafe(file.read_text()))} == {}


@pytest.mark.parametrize(
    'source, found',
    [
        ('np.load(f, allow_pickle=True)', 'allow_pickle'),
        ('np.load(f, allow_pickle=told)', 'allow_pickle'),
        ('Image.MAX_IMAGE_PIXELS = None', 'MAX_IMAGE_PIXELS'),
        ('ImageFile.LOAD_TRUNCATED_IMAGES: bool = True', 'LOAD_TRUNCATED_IMAGES'),
    ],
)
def test_what_is_unsafe_is_found(source, found):
    assert unsafe(source) == [found]


@pytest.mark.parametrize(
    'rule, source',
    [
        ('S102', 'exec(text)\n'),
        ('S307', 'eval(text)\n'),
        ('TID251', 'import pickle\n'),
        ('TID251', 'from cloudpickle import loads\n'),
        ('S202', 'import tarfile\n\ntarfile.open("x").extractall()\n'),
        ('S506', 'import yaml\n\nyaml.load(text, Loader=yaml.UnsafeLoader)\n'),
        ('S602', 'import subprocess\n\nsubprocess.run(f"ls {x}", shell=True)\n'),
    ],
)
def test_the_linter_refuses(rule, source):
    """With the rules of pyproject.toml."""
    done = subprocess.run(
        [sys.executable, '-m', 'ruff', 'check', '--stdin-filename', 'mmjax/x.py', '--output-format', 'concise', '-'],
        input=source,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert f' {rule} ' in done.stdout, done.stdout
