"""Lengths of all examples of a split, recorded once and kept beside the prepared data."""

import contextlib
import hashlib
import io
import json
import sys
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mmjax.data.bad import readable
from mmjax.data.base import Measure, Reader, Transform, apply
from mmjax.data.prepare import data_dir
from mmjax.errors import BadExample
from mmjax.storage import AnyPath, write_bytes

READ_AT_ONCE = 1024


def recorded(
    reader: Reader, once: Sequence[Transform], rest: Sequence[Transform], measures: Sequence[Measure]
) -> list[Float[np.ndarray, '_rows']]:
    """What each measure says of every row of `reader`.

    once: the transforms that fix an example's length; rest: those of them that the reader has not applied yet. Kept in
    `lengths/` of the data directory, under a name made of the data's fingerprint, the transforms and the measure: who
    changes one of them measures anew. (The code of a transform is no part of it: see `Packed` for a length that is not
    what was recorded.)
    """
    files = [_file(reader, once, measure) for measure in measures]
    found = [_load(file, len(reader)) for file in files]
    missing = [i for i, lengths in enumerate(found) if lengths is None]
    if missing:
        measured = _measure(reader, rest, [measures[i] for i in missing])
        for i, lengths in zip(missing, measured, strict=True):
            found[i] = lengths
            _store(files[i], lengths)
    return [lengths for lengths in found if lengths is not None]


def _file(reader: Reader, once: Sequence[Transform], measure: Measure) -> AnyPath:
    parts = [f'{type(part).__module__}.{part!r}' for part in (*once, measure)]
    parts += [str(sorted(reader.bad))] if reader.bad else []  # a cache knows of some that a reader alone does not
    name = hashlib.sha256(json.dumps([reader.fingerprint, *parts]).encode()).hexdigest()
    return data_dir() / 'lengths' / f'{name[:32]}.npy'


def _load(file: AnyPath, rows: int) -> Float[np.ndarray, '_rows'] | None:
    try:
        lengths = np.load(io.BytesIO(file.read_bytes()), allow_pickle=False)
    except (OSError, ValueError, EOFError):  # not there, or half of it
        return None
    return lengths if lengths.shape == (rows,) and lengths.dtype == np.float64 else None


def _measure(
    reader: Reader, rest: Sequence[Transform], measures: Sequence[Measure]
) -> list[Float[np.ndarray, '_rows']]:
    from tqdm import tqdm

    lengths = np.zeros((len(measures), len(reader)))
    with tqdm(total=len(reader), desc='mmjax: measuring examples, once', unit='', disable=None, delay=2) as bar:
        for start in range(0, len(reader), READ_AT_ONCE):
            rows = range(start, min(start + READ_AT_ONCE, len(reader)))
            for row, example in readable(reader, rows):
                with contextlib.suppress(BadExample):  # what is bad has no length
                    if isinstance(example, BadExample):
                        raise example
                    for transform in rest:
                        example = apply(transform, example)
                    lengths[:, row] = [measure(example) for measure in measures]
            bar.update(len(rows))
    return list(lengths)


def _store(file: AnyPath, lengths: Float[np.ndarray, '_rows']) -> None:
    content = io.BytesIO()
    np.save(content, lengths)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, content.getvalue())  # of two that measured, either
    except OSError as error:  # a data directory that others filled: measuring again costs time, no more
        print(f'mmjax: lengths are not kept in {file.parent} ({error.strerror})', file=sys.stderr, flush=True)
