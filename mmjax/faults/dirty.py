"""A set of shards of which a known part is of no use, as a config file: `mmjax train mmjax/faults/dirty.py`."""

import io
import json
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image

from mmjax.data import Bytes, Data, Image, Shards
from mmjax.decoders.classification import LogitSum
from mmjax.encoders.image import PatchEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.experiment import Checkpoint, Experiment, Log
from mmjax.fusion.early import Early
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.optim import AdamW, WarmupConstant

SIDE, LENGTH, CLASSES, SHARDS = 8, 16, 3, 4
FOLDER = 'dirty'  # below MMJAX_DATA
Members = dict[str, bytes]  # an example: content by field


def _truncated(good: Members, rng: np.random.Generator) -> Members:
    return good | {'png': good['png'][: int(rng.integers(20, len(good['png']) - 20))]}


def _flipped(good: Members, rng: np.random.Generator) -> Members:
    """A bit of the pixels, which their check sum tells."""
    content, start = bytearray(good['png']), good['png'].index(b'IDAT') + 6
    end = good['png'].index(b'IEND') - 12
    content[int(rng.integers(start, end))] ^= 1 << int(rng.integers(8))
    return good | {'png': bytes(content)}


def _without(good: Members, name: str) -> Members:
    return {key: value for key, value in good.items() if key != name}


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, 'PNG')
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of side x side pixels, all black: some hundred KiB that claim gigabytes."""
    packer, row = zlib.compressobj(9), bytes(1 + (side + 7) // 8)
    packed = b''.join(packer.compress(row) for _ in range(side)) + packer.flush()
    chunks = {b'IHDR': struct.pack('>IIBBBBB', side, side, 1, 0, 0, 0, 0), b'IDAT': packed, b'IEND': b''}
    return b'\x89PNG\r\n\x1a\n' + b''.join(_chunk(kind, content) for kind, content in chunks.items())


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))


def kinds() -> dict[str, tuple[Callable[[Members, np.random.Generator], Members], str]]:
    """What is done to an example, and the reason that is to be told of it."""
    large, huge = bomb(10_000), bomb(60_000)
    return {
        'truncated': (_truncated, 'unreadable image'),
        'flipped': (_flipped, 'unreadable image'),
        'garbage': (lambda good, rng: good | {'png': rng.bytes(100)}, 'unreadable image'),
        'no_bytes': (lambda good, _: good | {'png': b''}, 'unreadable image'),
        'wrong_mode': (lambda good, _: _without(good, 'png') | {'npy': npy(np.zeros((SIDE, SIDE, 3)))}, 'no image'),
        'wrong_shape': (lambda good, _: good | {'box.json': json.dumps([1.0] * 3).encode()}, 'other shape'),
        'empty_text': (lambda good, _: good | {'txt': b''}, 'empty text'),
        'long_text': (lambda good, _: good | {'txt': b'x' * (1 << 20)}, 'long text'),
        'invalid_text': (lambda good, _: good | {'txt': b'a \xff\xfe'}, 'unreadable txt'),
        'nul_text': (lambda good, _: good | {'txt': b'a\0b'}, 'text with NUL'),
        'no_image': (lambda good, _: _without(good, 'png'), 'missing field'),
        'no_text': (lambda good, _: _without(good, 'txt'), 'missing field'),
        'no_number': (lambda good, _: good | {'cls': b'dog'}, 'unreadable cls'),
        'bomb_100_mpx': (lambda good, _: good | {'png': large}, 'too many pixels'),
        'bomb_3600_mpx': (lambda good, _: good | {'png': huge}, 'too many pixels'),
    }


def write(folder: Path, *, rows: int, share: float, seed: int) -> dict[int, str]:
    """Writes shards, one of them of 0 bytes, and returns the reason of each bad row. share: of each kind."""
    rng, done = np.random.default_rng(seed), {}
    chosen = rng.permutation(rows)
    count = round(rows * share)
    for number, (harm, reason) in enumerate(kinds().values()):
        done |= {int(row): (harm, reason) for row in chosen[number * count : (number + 1) * count]}
    folder.mkdir(parents=True)
    (folder / 'empty.tar').touch()
    for shard in range(SHARDS):
        with tarfile.open(folder / f'{shard}.tar', 'w') as tar:
            for row in range(rows * shard // SHARDS, rows * (shard + 1) // SHARDS):
                pixels = rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
                label = int(rng.integers(CLASSES))
                members = {
                    'png': png(pixels),
                    'txt': f'number {label}'.encode(),
                    'cls': str(label).encode(),
                    'box.json': json.dumps([1.0, 2.0]).encode(),
                }
                if row in done:
                    members = done[row][0](members, rng)
                for name, content in members.items():
                    info = tarfile.TarInfo(f'{row:06d}.{name}')
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return {row: reason for row, (_, reason) in done.items()}


def data(*, cache: bool = False, workers: int = 0) -> Data:
    fields = {'image': 'png;npy', 'text': 'txt', 'answer': 'cls', 'box': 'box.json'}
    return Data(Shards(f'{FOLDER}/*.tar', fields), (Image(size=SIDE), Bytes(LENGTH)), cache=cache, workers=workers)


def experiment() -> Experiment:
    return Experiment(
        name='dirty',
        model=Model(
            encoders={
                'image': PatchEncoder(width=16, patch=4, depth=0),
                'text': TokenEncoder(vocabulary=Bytes.size, width=16, depth=0),
            },
            fusion=Early(depth=1, block=Block(attention=Attention(heads=2))),
            decoders={'answer': LogitSum(classes=CLASSES)},
        ),
        data=data(),
        objectives={'answer': CrossEntropy()},
        evals={},
        optim=AdamW(schedule=WarmupConstant(peak=3e-3, warmup=5)),
        steps=80,
        batch_size=32,
        checkpoint=Checkpoint(every=20),
        log=Log(every=7, tensorboard=False),
        bad_records=0.3,
    )
