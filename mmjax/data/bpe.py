"""Byte-level BPE: text to ids of a vocabulary that was learned from data, and back exactly."""

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, SupportsInt

import numpy as np

from mmjax.data.base import Example, Reader, Transform
from mmjax.data.prepare import data_dir
from mmjax.data.tokenizer import FIRST, padded, text_of
from mmjax.errors import UserError
from mmjax.storage import AnyPath, write_bytes

READ_AT_ONCE = 1024
LEAST = 256 + FIRST  # ids of a vocabulary without a single merge


@dataclass(frozen=True)
class Bpe(Transform):
    """One id per token of a learned vocabulary (Sennrich et al. 2016) over UTF-8 bytes (Radford et al. 2019): 0
    padding, 1 unused or masked by a view, 2… the tokens. Any text, and back exactly.

    file: the vocabulary, in the data directory unless the path is absolute. `scripts/train_tokenizer CONFIG` learns and
        writes it, with the fingerprint of the data that it was learned from.
    sha256: of that file: so that no run is given the vocabulary of another. The script prints it.
    size: number of ids, rows of an embedding table; at least 258. The script learns no more.
    length: of a row; what is longer is cut.

    The file is read with the first text, which is before training starts.

    Raises:
        UserError: where there is no such file, or another one than the config's.
    """

    file: str
    sha256: str
    size: int
    length: int
    key: str = 'text'

    def __post_init__(self):
        if self.length < 1:
            raise UserError(f'Bpe.length is {self.length}: use a positive number of tokens')
        if self.size < LEAST:
            raise UserError(f'Bpe.size is {self.size}: bytes, padding and the unused id alone are {LEAST}')

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        text = text_of(self, example)
        if text is None:
            return padded(self, None)
        read = text.encode('utf-8', 'replace').decode('utf-8')  # lone surrogates, as `Bytes` has them
        return padded(self, [i + FIRST for i in self._tokenizer.encode(read, add_special_tokens=False).ids])

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The text of these ids, without the last character where a cut went through it."""
        found = [self._bytes[i] for i in map(int, ids) if i in self._bytes]
        return b''.join(found).decode('utf-8', 'ignore')

    @property
    def path(self) -> AnyPath:
        return data_dir() / self.file

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizer = _read(self.path, self.sha256)
        if (found := tokenizer.get_vocab_size() + FIRST) > self.size:
            raise UserError(f'Bpe.size is {self.size}, but {self.path} has {found} ids; set it to {found}')
        return tokenizer

    @cached_property
    def _bytes(self) -> dict[int, bytes]:
        """The bytes of each id."""
        byte_of = {character: byte for byte, character in enumerate(_characters())}
        return {
            number + FIRST: bytes(byte_of[character] for character in token)
            for token, number in self._tokenizer.get_vocab().items()
        }


def train_bpe(readers: Mapping[str, Reader], bpe: Bpe, *, field: str, wanted: str = '') -> str:
    """Learns the vocabulary of `bpe` from the texts in `field` of all rows, writes its file and returns its sha256.

    readers: by name; the file keeps the fingerprint of each. A field may hold a text, several in a list, or None. The
    same texts give the same file. wanted: the sha256 that it must have to be written; '': any.

    Raises:
        UserError: where there is no such field, no text in it, the file is there and is another, or not the wanted one.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    trainer = trainers.BpeTrainer(
        vocab_size=bpe.size - FIRST, initial_alphabet=sorted(_characters()), show_progress=False
    )
    count = 0

    def counted() -> Iterator[str]:
        nonlocal count
        for name, reader in readers.items():
            for text in _texts(reader, field, name):
                count += bool(text)
                yield text

    tokenizer.train_from_iterator(counted(), trainer)
    if not count:
        raise UserError(f"train_tokenizer: no text in '{field}' of {', '.join(readers)}")
    told = {
        'format': 'mmjax byte-level BPE 1',
        'field': field,
        'data': {name: reader.fingerprint for name, reader in readers.items()},
        'texts': count,
        'tokenizer': json.loads(tokenizer.to_str()),
    }
    return _write(bpe.path, json.dumps(told, indent=1, ensure_ascii=False).encode(), wanted=wanted)


def _texts(reader: Reader, field: str, name: str) -> Iterator[str]:
    for start in range(0, len(reader), READ_AT_ONCE):
        for example in reader.read(range(start, min(start + READ_AT_ONCE, len(reader)))):
            if field not in example:
                raise UserError(f"train_tokenizer: '{name}' has no field '{field}' (it has {', '.join(example)})")
            value = example[field]
            for text in value if isinstance(value, list) else [value]:
                if not isinstance(text, str | None):
                    raise UserError(f"train_tokenizer: '{field}' of '{name}' holds {type(text).__name__}, no text")
                if text is not None:
                    yield text.encode('utf-8', 'replace').decode('utf-8')


def _write(path: AnyPath, content: bytes, *, wanted: str) -> str:
    digest = hashlib.sha256(content).hexdigest()
    if wanted and digest != wanted:
        raise UserError(
            f'{path}: these data and this version of tokenizers give a vocabulary with sha256 {digest}, Bpe.sha256 '
            f"is '{wanted}': put back the file that belongs to it, or learn one by scripts/train_tokenizer and name it"
        )
    if path.exists() and (there := hashlib.sha256(path.read_bytes()).hexdigest()) != digest:
        raise UserError(
            f'{path} is there and is another vocabulary (sha256 {there}), which runs may need; choose another '
            'Bpe.file, or remove it'
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror or error}') from error
    return digest


@functools.lru_cache(maxsize=8)
def _read(path: AnyPath, sha256: str) -> Any:
    from tokenizers import Tokenizer

    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f'{path}: {error.strerror or error}; scripts/train_tokenizer CONFIG learns the vocabulary of a config'
        ) from error
    if (digest := hashlib.sha256(content).hexdigest()) != sha256:
        raise UserError(
            f"{path} is the vocabulary of another run: its sha256 is {digest}, Bpe.sha256 is '{sha256}'; ids mean "
            'other tokens in it: put back the file, or name its own'
        )
    return Tokenizer.from_str(json.dumps(json.loads(content)['tokenizer']))


@functools.cache
def _characters() -> tuple[str, ...]:
    """The printable character by which byte-level BPE writes each byte, as `ByteLevel` has them: Latin-1 where that is
    printable, and for the other bytes, in their order, the characters from 256 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return tuple(chr(byte if byte in printable else 256 + others.index(byte)) for byte in range(256))
