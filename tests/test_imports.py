"""The order of the house (DESIGN: imports go one way only), read from the source without importing it."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / 'mmjax').rglob('*.py'))

# room: what it may import. The rooms on one line of the house never import one another.
BASE = {'errors', 'types', 'config', 'sharding', 'paths', 'storage', 'distributed', 'failpoints'}
PARTS = {'encoders', 'fusion', 'decoders'}
BESIDE = {'objectives', 'data', 'optim', 'evals', 'guard'}
VIEWS = {'views'}
EXPERIMENT = BASE | VIEWS | {'nn', 'model', 'balance', 'generate'} | PARTS | BESIDE
ALLOWED = {
    'errors': set(),
    **{room: {'errors'} for room in BASE - {'errors'}},
    'views': BASE,
    'balance': BASE,
    'nn': BASE,
    **{room: BASE | {'nn'} for room in PARTS},
    'model': BASE | {'nn'} | PARTS,
    'generate': BASE | {'nn', 'model'} | PARTS,
    **{room: BASE | VIEWS for room in BESIDE},
    'experiment': EXPERIMENT,
    'train': EXPERIMENT | {'experiment'},
    'plan': EXPERIMENT | {'experiment', 'train'},
    'attribution': EXPERIMENT | {'experiment', 'train'},
    'study': EXPERIMENT | {'experiment', 'train', 'attribution'},
    'faults': EXPERIMENT | {'experiment', 'train', 'study', 'cli'},
    'cli': EXPERIMENT | {'experiment', 'train', 'attribution', 'plan', 'study'},
}
# library: where alone it may be imported (a room, or one file).
ONLY = {
    'orbax': ['train/checkpoint.py'],
    'grain': ['data'],
    'tokenizers': ['data'],
    'tensorflow_datasets': ['data'],
    'array_record': ['data'],
    'pyarrow': ['data'],
    'fsspec': ['storage.py'],
    'etils': ['storage.py'],
    'tyro': ['config', 'cli'],
}
LINEN_FREE = {'data', 'evals', 'plan', 'study', 'cli'}


def room(file):
    return file.relative_to(ROOT / 'mmjax').parts[0].removesuffix('.py')


@functools.cache
def tree(file):
    return ast.parse(file.read_text())


def imports(file):
    """Dotted names of all modules that a file imports, anywhere in it; of `from a import b`, both a and a.b."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{file}: imports are absolute'
            yield node.module
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


def rooms_imported(file):
    inside = [name.split('.')[1] for name in imports(file) if name.startswith('mmjax.')]
    return {name for name in inside if not name.startswith('__')} - {room(file)}


each_file = pytest.mark.parametrize('file', FILES, ids=lambda file: str(file.relative_to(ROOT)))


@each_file
def test_imports_go_one_way(file):
    if file == ROOT / 'mmjax' / '__init__.py':
        assert not rooms_imported(file)
        return
    assert room(file) in ALLOWED, f'{room(file)} has no place in the order of the house'
    assert rooms_imported(file) <= ALLOWED[room(file)]


@each_file
def test_libraries_stay_in_their_room(file):
    path = str(file.relative_to(ROOT / 'mmjax'))
    for library, homes in ONLY.items():
        if any(name.split('.')[0] == library for name in imports(file)):
            assert path in homes or room(file) in homes, f'{library} belongs into {homes}'
    if room(file) in LINEN_FREE:
        assert not any(name == 'flax.linen' or name.startswith('flax.linen.') for name in imports(file))


@each_file
def test_only_sharding_knows_the_mesh(file):
    if room(file) == 'sharding':
        return
    assert not {name.rpartition('.')[2] for name in imports(file)} & {'PartitionSpec', 'NamedSharding', 'AxisType'}
    constants = {node.value for node in ast.walk(tree(file)) if isinstance(node, ast.Constant)}
    assert not constants & {'fsdp', 'tensor'}


@each_file
def test_layout_is_changed_by_einops(file):
    calls = {
        node.func.attr
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    if room(file) != 'data':  # bytes of a file take the shape that its header says: no axis has a name before
        assert not calls & {'reshape', 'transpose'}
    assert 'transpose' not in calls


@each_file
def test_files_are_short(file):
    assert len(file.read_text().splitlines()) < 300


@each_file
def test_files_say_what_they_are(file):
    assert ast.get_docstring(tree(file))
