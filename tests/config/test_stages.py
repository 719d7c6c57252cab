"""One command line over several configs."""

import pytest

from mmjax import config
from mmjax.errors import UserError
from tests.parts import Crop, FewTokens, Settings

STAGES = {'first': Settings(), 'last_one': Settings(steps=7)}


def override(*args):
    changed = config.override_stages(STAGES, args, known_flags=('--workdir',))
    assert list(changed) == ['first', 'last_one']
    return changed['first'], changed['last_one']


def test_nothing_changes_nothing():
    assert override() == (Settings(), Settings(steps=7))


@pytest.mark.parametrize('args', [['--seed', '3'], ['--seed=3'], ['seed=3']])
def test_a_plain_path_changes_every_stage(args):
    assert override(*args) == (Settings(seed=3), Settings(steps=7, seed=3))


@pytest.mark.parametrize(
    'args', [['--last-one.steps', '9'], ['--last_one.steps=9'], ['last_one.steps=9'], ['last-one.steps=9']]
)
def test_a_path_that_begins_with_a_stage_changes_that_stage(args):
    assert override(*args) == (Settings(), Settings(steps=9))


def test_several_values_switches_and_swaps_stay_what_they_are():
    first, last = override(
        '--betas', '0.1', '0.2', 'steps=5', '--first.verbose', 'seed=4', '--name', 'a=b', 'crop=crop'
    )
    assert (first.betas, first.steps, first.verbose, first.seed, first.name, first.crop) == (
        (0.1, 0.2),
        5,
        True,
        4,
        'a=b',
        Crop(),
    )
    assert (last.betas, last.steps, last.verbose, last.seed, last.name, last.crop) == (
        (0.1, 0.2),
        5,
        False,
        4,
        'a=b',
        Crop(),
    )
    first, last = override('first.net.mixer=few_tokens', '--first.net.mixer.num-tokens', '-2', '--lr', '-1e-3')
    assert first.net.mixer == FewTokens(num_tokens=-2, width=8) and last.net.mixer == Settings().net.mixer
    assert first.lr == last.lr == -1e-3


def test_a_later_flag_goes_before():
    assert [stage.seed for stage in override('--seed', '1', '--last_one.seed', '2')] == [1, 2]


@pytest.mark.parametrize(
    ('args', 'told'),
    [
        (['--stpes', '3'], "--stpes: begins with no stage, and no stage has such a field; did you mean '--steps'?"),
        (
            ['--net.towers.imag.width', '3'],
            "no flag --first.net.towers.imag.width; did you mean '--first.net.towers.im",
        ),
        (['--last_one.stpes', '3'], "no flag --last-one.stpes; did you mean '--last-one.steps'?"),
        (['frist.steps=3'], "frist.steps: begins with no stage, and no stage has such a field; did you mean 'first'?"),
        (['--workdri', 'x'], "did you mean '--workdir'?"),
        (['steps=many'], 'steps'),
        (['zzzzzz=3'], 'such a field (the stages are first, last_one)'),
    ],
)
def test_a_mistake_is_told(args, told):
    with pytest.raises(UserError) as caught:
        override(*args)
    assert told in str(caught.value) and '\n' not in str(caught.value)


def test_help_lists_the_fields_of_every_stage(capsys):
    with pytest.raises(SystemExit) as stop:
        override('first.net.mixer=few_tokens', '--help')
    assert not stop.value.code
    said = capsys.readouterr().out
    assert '--first.net.mixer.num-tokens' in said and '--last-one.net.mixer.width' in said and 'dict()' not in said
