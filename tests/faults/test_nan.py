"""A short form of `scripts/faults/nan`, which was not run in full yet, and that it can find what is wrong."""

import numpy as np

from mmjax.faults import nan
from mmjax.train.replicas import Memory


def test_a_loss_that_is_infinite_leaves_nothing(tmp_path):
    assert nan.one('inf_loss', nan.poisoned([4], 'inf', 'loss'), [4], str(tmp_path)).wrong == ''


def test_flipped_bits_are_found_only_by_who_looks(tmp_path, monkeypatch):
    assert nan.copy_flipped(np.random.default_rng(1), str(tmp_path)) == ''
    monkeypatch.setattr(Memory, 'check', lambda *_, **__: None)
    assert 'nobody noticed' in nan.copy_flipped(np.random.default_rng(1), str(tmp_path))


def test_the_detector_finds_spikes_alone():
    rng = np.random.default_rng(0)
    trials = nan.series(np.exp(0.3 * rng.standard_normal(500)), rng)
    assert [trial for trial in trials if trial.wrong] == [] and len(trials) == 22
    flat = nan.series(np.where(np.arange(500) % 50, 1.0, 40.0), rng)
    assert any('false alarms' in trial.wrong for trial in flat)
