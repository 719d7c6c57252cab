"""Compiled programs, kept: a program is compiled once, and read as often as the reader is mended.

In `plans` of $MMJAX_DATA, or of ~/.cache/mmjax: of each program its sizes, and its text, gzipped.
"""

import dataclasses
import gzip
from pathlib import Path

from mmjax.data.prepare import local_dir
from mmjax.plan.program import Compiled, OutOfMemory
from mmjax.storage import write_bytes
from mmjax.train.files import read_json, write_json


def cache_dir() -> Path:
    return local_dir() / 'plans'


def find(key: str) -> Compiled | OutOfMemory | None:
    """What the compiler said of the program with this key; None: it was not asked."""
    sizes, text = _files(key)
    if not sizes.exists():
        return None
    told = read_json(sizes)
    return Compiled(**told, text=unpacked(text.read_bytes())) if 'need' not in told else OutOfMemory(**told)


def keep(key: str, outcome: Compiled | OutOfMemory) -> None:
    sizes, text = _files(key)
    sizes.parent.mkdir(parents=True, exist_ok=True)
    told = dataclasses.asdict(outcome)
    if isinstance(outcome, Compiled):
        write_bytes(text, packed(told.pop('text')))
    write_json(sizes, told)  # last: where it is, both are


def packed(text: str) -> bytes:
    """Gzipped without a time of its own, so that the same program is the same file."""
    return gzip.compress(text.encode(), mtime=0)


def unpacked(content: bytes) -> str:
    return gzip.decompress(content).decode()


def _files(key: str) -> tuple[Path, Path]:
    return cache_dir() / f'{key}.json', cache_dir() / f'{key}.txt.gz'
