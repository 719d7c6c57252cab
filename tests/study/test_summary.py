"""What is concluded from which examples a model is right on."""

import numpy as np
import pytest

from mmjax.study.summary import _agreement, _judge

SEEDS, EXAMPLES = 8, 400
GAP = {'estimate': 0.1, 'low': 0.05, 'high': 0.15}


def right(share, seed):
    return np.random.default_rng(seed).random((SEEDS, EXAMPLES)) < share


def verdict(own, alone=0.5, no_flow=0.6, gap=GAP, modalities=2, left_out=()):
    """Of a design that is right in `own` of all examples, beside the best of two models of one modality."""
    scores = {
        'design': (own, 'design'),
        'image': (alone - 0.1, 'unimodal'),
        'text': (alone, 'unimodal'),
        'isolated': (no_flow, 'no_flow'),
    }
    seen = {arm: found for arm, found in scores.items() if found[1] not in left_out}
    correct = {arm: right(share, place) for place, (arm, (share, _)) in enumerate(seen.items())}
    arms = {arm: {'role': role, 'score': correct[arm].mean()} for arm, (_, role) in seen.items()}
    if gap is not None:
        arms['design']['additive_gap'] = gap
    _judge(correct, arms, np.arange(EXAMPLES), modalities=modalities)
    assert not any('uses_all' in arms[arm] for arm in seen if arm != 'design')  # it is said of designs alone
    return arms['design']


def test_a_design_uses_all_that_beats_one_modality_no_flow_and_its_own_projection():
    entry = verdict(0.9)
    assert entry['uses_all'] is True
    assert entry['over_unimodal']['arm'] == 'text'  # the better of the two
    assert entry['over_unimodal']['estimate'] == pytest.approx(0.4, abs=0.05)
    assert entry['over_no_flow']['estimate'] == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(
    'changed',
    [
        {'alone': 0.9},
        {'no_flow': 0.9},
        {'alone': 0.95},
        {'gap': {'estimate': 0.02, 'low': -0.01, 'high': 0.05}},
        {'gap': {'estimate': -0.1, 'low': -0.2, 'high': -0.05}},
    ],
)
def test_one_of_the_three_missing_is_enough_against_it(changed):
    assert verdict(0.9, **changed)['uses_all'] is False


@pytest.mark.parametrize('without', [{'left_out': ('no_flow',)}, {'left_out': ('unimodal',)}, {'gap': None}])
def test_without_a_control_nothing_is_said(without):
    assert verdict(0.9, **without)['uses_all'] is None


def test_of_three_modalities_nothing_is_said():
    assert verdict(0.9, modalities=3)['uses_all'] is None


def test_agreement_counts_the_four_cases():
    own, other = np.array([[1, 1, 0, 0], [1, 1, 1, 0]], bool), np.array([[1, 0, 1, 0], [1, 1, 0, 0]], bool)
    assert _agreement(own, other) == {'both': 3 / 8, 'arm': 2 / 8, 'reference': 1 / 8, 'neither': 2 / 8}
