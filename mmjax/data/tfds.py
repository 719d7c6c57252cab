"""Any data set prepared by TFDS as ArrayRecord, without TensorFlow."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.data.base import Example, Reader, Source
from mmjax.data.prepare import find
from mmjax.errors import BadExample, UserError, nearest
from mmjax.storage import AnyPath

DIGESTED = 256
"""Rows, evenly spaced, that go into a fingerprint: cheap for a split of any size."""


@dataclass(frozen=True)
class Tfds(Source):
    """A split of a prepared data set, by the names that the model gives to its fields.

    name: 'builder' or 'builder/config', below `$MMJAX_DATA`. Those in `mmjax/data/builders/` prepare themselves on
        first use; others are made once with `scripts/prepare NAME`.
    split: a split, or TFDS's notation for a part: 'train', 'train[:10%]', 'train[5000:]+validation'.
    fields: batch key -> feature, such as `{'image': 'image', 'text': 'question'}`; 'captions/text' for a nested one.

    Images come as the encoded bytes, texts as str (lists of str in a sequence), class labels as int32 with their names
    in the reader's `labels`, other features as TFDS decodes them.
    """

    name: str
    split: str
    fields: dict[str, str]

    def open(self) -> Reader:
        return TfdsReader(self)


class TfdsReader(Reader):
    """Reads the rows of one split in the order of the files. Raises UserError for whatever is missing or damaged."""

    def __init__(self, source: Tfds):
        import tensorflow_datasets as tfds
        from grain.sources import ArrayRecordDataSource

        self._source = source
        info = _read_info(source, find(source.name))
        features = _check_fields(source, info.features)
        self.labels = {
            key: tuple(feature.names)
            for key, feature in features.items()
            if isinstance(feature, tfds.features.ClassLabel) and feature.names
        }
        self._texts = {
            key
            for key, feature in features.items()
            if _is_text(getattr(feature, 'feature', feature))  # alone or in a sequence
        }
        self._parts = _check_split(source, info.splits)
        _check_files(source, self._parts)
        self._records: Any = ArrayRecordDataSource(self._parts)
        rows = np.unique(np.linspace(0, len(self) - 1, DIGESTED).astype(int)) if len(self) else []
        self.fingerprint = _digest(info.full_name, source.split, len(self), self._read(rows))
        # Only what is asked for is decoded, and images not at all: transforms do that, once per distinct image.
        self._steps = {key: _steps(path, info.features) for key, path in source.fields.items()}
        wanted = {steps[0] for steps in self._steps.values()}
        self._features = tfds.features.FeaturesDict({name: info.features[name] for name in sorted(wanted)})
        images = [path for path, feature in _leaves(self._features) if isinstance(feature, tfds.features.Image)]
        self._decoders = _nested([_steps(path, info.features) for path in images], tfds.decode.SkipDecoding())

    def __reduce__(self):
        return TfdsReader, (self._source,)  # a worker process opens the files itself

    def __len__(self) -> int:
        return len(self._records)

    def read(self, rows: Sequence[int]) -> list[Example]:
        try:
            records = self._read(rows)
        except UserError as error:
            raise BadExample(str(error), reason='damaged file') from error
        return [self._example(record) for record in records]

    def _read(self, rows: Sequence[int] | np.ndarray) -> list[bytes]:
        try:
            return self._records.__getitems__([int(row) for row in rows])
        except Exception as error:  # ArrayRecord raises several kinds, none with the file's name
            raise _damaged(self._file_of_damaged_row(rows), self._source, error) from error

    def _example(self, record: bytes) -> Example:
        try:
            decoded = self._features.deserialize_example_np(record, decoders=self._decoders)
            return {key: self._value(key, _walk(decoded, steps)) for key, steps in self._steps.items()}
        except UnicodeDecodeError as error:
            raise BadExample(f'{self._source.name}: {error}', reason='unreadable text') from error
        except Exception as error:  # of protobuf and TFDS, whatever the bytes lead them to
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BadExample(
                f'{self._source.name}: a record cannot be read ({first})', reason='damaged record'
            ) from error

    def _value(self, key: str, value: Any) -> Any:
        if value is None:
            return None
        if key in self._texts:
            return value.decode('utf-8') if isinstance(value, bytes) else [text.decode('utf-8') for text in value]
        return np.int32(value) if key in self.labels and np.ndim(value) == 0 else value

    def _file_of_damaged_row(self, rows: Sequence[int] | np.ndarray) -> Path:
        ends = np.cumsum([part.examples_in_shard if part.take == -1 else part.take for part in self._parts])
        for row in rows:
            try:
                self._records[int(row)]
            except Exception:
                return Path(self._parts[int(np.searchsorted(ends, row, side='right'))].filename)
        return Path(self._parts[0].filename)


def _read_info(source: Tfds, directory: AnyPath) -> Any:
    import tensorflow_datasets as tfds

    try:
        info = tfds.builder_from_directory(directory).info
    except Exception as error:  # whatever a damaged json raises
        raise _damaged(directory / 'dataset_info.json', source, error) from error
    if info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        stored = info.file_format.value if info.file_format else 'something else'
        raise UserError(
            f"data set '{source.name}' in {directory} is stored as {stored}, not array_record; "
            f'delete that directory and run scripts/prepare {source.name}'
        )
    return info


def _check_fields(source: Tfds, features: Any) -> dict[str, Any]:
    known = dict(_leaves(features)) | {name: feature for name, feature in features.items()}
    for key, name in source.fields.items():
        if name not in known:
            raise UserError(
                f"fields['{key}'] of data set '{source.name}' is '{name}', which it does not have; "
                f'it has {", ".join(sorted(features))}{nearest(name, known)}'
            )
    return {key: known[name] for key, name in source.fields.items()}


def _check_split(source: Tfds, splits: Any) -> list[Any]:
    for part in source.split.split('+'):
        name = part.split('[')[0].strip()
        if name not in splits and name != 'all':
            raise UserError(
                f"data set '{source.name}' has no split '{name}'; it has {', '.join(splits)}{nearest(name, splits)}"
            )
    try:
        parts = splits[source.split].file_instructions
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"split '{source.split}' cannot be read ({reason}); write for example 'train[:10%]' or 'train[5:9]+test'"
        ) from error
    if not parts:
        raise UserError(f"split '{source.split}' of data set '{source.name}' has no examples")
    return parts


def _check_files(source: Tfds, parts: list[Any]) -> None:
    """Opens every file once: a truncated one fails here, not hours later."""
    from array_record.python.array_record_module import ArrayRecordReader

    for part in parts:
        try:
            reader = ArrayRecordReader(str(part.filename))
            count = reader.num_records()
            reader.close()
        except Exception as error:
            raise _damaged(part.filename, source, error) from error
        if count != part.examples_in_shard:
            raise _damaged(part.filename, source, f'{count} records, not {part.examples_in_shard}')


def _damaged(path: Any, source: Tfds, reason: object) -> UserError:
    first = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
    return UserError(f'{path} is damaged ({first}); delete its directory and run scripts/prepare {source.name}')


def _digest(full_name: str, split: str, length: int, records: list[bytes]) -> str:
    """Of the contents: two preparations of the same data have the same one."""
    from tensorflow_datasets.proto import tf_example_pb2

    digest = hashlib.sha256(json.dumps([full_name, split, length]).encode())
    for record in records:
        # The order of the fields in a record differs from one preparation to the next.
        digest.update(tf_example_pb2.Example.FromString(record).SerializeToString(deterministic=True))
    return digest.hexdigest()


def _leaves(features: Any, prefix: str = '') -> list[tuple[str, Any]]:
    """Features by path: FeaturesDicts, and sequences of them, are walked into."""
    inner = features if hasattr(features, 'items') else getattr(features, 'feature', None)
    if not hasattr(inner, 'items'):
        return [(prefix, features)]
    assert inner is not None
    return [leaf for name, feature in inner.items() for leaf in _leaves(feature, f'{prefix}/{name}'.lstrip('/'))]


def _is_text(feature: Any) -> bool:
    """`Text`, and what a builder that says `np.str_` gets instead, as those of COCO's captions do."""
    import tensorflow_datasets as tfds

    return isinstance(feature, tfds.features.Tensor) and np.dtype(object) == feature.np_dtype


def _steps(path: str, features: Any) -> list[str]:
    """The names from an example down to a feature. A name may have a '/' of its own, as COCO's 'image/id'."""
    top = max((name for name in features if f'{path}/'.startswith(f'{name}/')), key=len)
    return [top, *path[len(top) + 1 :].split('/')] if path != top else [top]


def _nested(paths: list[list[str]], value: Any) -> dict[str, Any]:
    """A tree with `value` at the end of each path."""
    tree: dict[str, Any] = {}
    for *outer, last in paths:
        node = tree
        for name in outer:
            node = node.setdefault(name, {})
        node[last] = value
    return tree


def _walk(value: Any, steps: list[str]) -> Any:
    for name in steps:
        value = value[name]
    return value
