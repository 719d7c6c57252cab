"""Tar shards for tests."""

import io
import tarfile
from pathlib import Path

import numpy as np

from tests.train.toy import ToyReader

TOY_FIELDS = {'image': 'npy', 'text': 'txt', 'answer': 'cls'}


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def write_tar(path, files, form=tarfile.PAX_FORMAT):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, 'w', format=form) as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if content is None:
                info.type = tarfile.DIRTYPE
            tar.addfile(info, io.BytesIO(content))
    return path


def write_toy(folder: Path) -> None:
    """The 100 examples of `Toy` in four shards."""
    for shard in range(4):
        files = []
        for row in range(25 * shard, 25 * shard + 25):
            example = ToyReader.example(row)
            files += [(f'{row}.npy', npy(example['image'])), (f'{row}.txt', example['text'].encode())]
            files.append((f'{row}.cls', str(example['answer']).encode()))
        write_tar(folder / f'{shard}.tar', files)
