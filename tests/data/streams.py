"""Batches of a stream, for the tests of what gives them."""

import itertools

import numpy as np

from mmjax.data import train_batches


def share(size, process, processes):
    """The rows of a batch that one of several processes loads."""
    return range(size * process // processes, size * (process + 1) // processes)


def take(data, count, *, start=0, processes=1, seed=5, size):
    """Global batches, put together from those of all processes."""
    parts = []
    for p in range(processes):
        stream = train_batches(data, batch_size=size, seed=seed, start=start, rows=share(size, p, processes))
        parts.append(list(itertools.islice(stream, count)))
        stream.close()
    return [{key: np.concatenate([p[key] for p in batch]) for key in batch[0]} for batch in zip(*parts, strict=True)]
