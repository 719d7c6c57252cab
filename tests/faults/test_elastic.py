"""A short form of `scripts/faults/elastic`, and that it can find what is wrong. No full result is committed yet."""

from mmjax.faults import elastic


def test_a_state_is_restored_on_other_meshes(tmp_path):
    done = elastic.meshes(tmp_path, trials=1, after=1)
    assert len(done) >= 2 and [trial for trial in done if trial.wrong] == []


def test_batches_do_not_depend_on_who_reads_them():
    done = elastic.batches(trials=4, seed=1, workers=(0,))
    assert len(done) == 4 and [trial for trial in done if trial.wrong] == []


def test_a_stream_that_goes_on_one_batch_late_is_caught(monkeypatch):
    right = elastic.train_batches
    monkeypatch.setattr(
        elastic, 'train_batches', lambda data, *, start, **k: right(data, start=start + (start > 3), **k)
    )
    (trial,) = elastic.batches(trials=1, seed=1, workers=(0,))
    assert 'batches [5, 6, 7, 8, 9] are others' in trial.wrong
