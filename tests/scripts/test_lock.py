"""requirements.txt against pyproject.toml, without asking an index."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.scripts.machine import ROOT


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
