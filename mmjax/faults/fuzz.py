"""Mutations of records and of a run's files: whatever they hold, only declared errors come of them, and soon.

Bytes are flipped, cut out, doubled, moved and replaced; JSON has values exchanged, renamed and taken out as well. A
mutated record goes through what training does with it, a config.json through the loading of a run, a manifest.json
through what a resumed run makes of it. Survived: it is read, or UserError (`BadExample` is one), within `SOON` seconds.
"""

import io
import json
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from mmjax import config
from mmjax.data import Bytes, Image, NativePatches, RandomCrop
from mmjax.data.shard_files import Shard
from mmjax.data.shard_tar import index_tar
from mmjax.data.shard_values import decoded, walked
from mmjax.errors import UserError
from mmjax.faults import bar, dirty
from mmjax.faults.bar import Trial
from mmjax.faults.victim import experiment
from mmjax.storage import path_of
from mmjax.train.directory import load_experiment
from mmjax.train.manifest import history, manifest, read_manifest

SOON = 2.0  # seconds
Read = Callable[[bytes], Any]
ODD = (None, True, -1, 0, 1e308, 10**40, '', 'x' * 1000, [], {}, [[]], {'class': 'mmjax.model.Model'}, float('nan'))


def run(*, trials: int, seed: int) -> list[Trial]:
    """trials: mutations, of each kind of file in turn."""
    rng, done = np.random.default_rng(seed), []
    warnings.simplefilter('ignore')  # of Pillow and the tokenizers, of what is cut and odd
    with tempfile.TemporaryDirectory() as directory:
        kinds = _kinds(Path(directory))
        names = list(kinds)
        for number in range(trials):
            name = names[number % len(names)]
            good, read = kinds[name]
            harmed = _mutated_json(good, rng) if name.endswith('.json') and rng.random() < 0.7 else _mutated(good, rng)
            done.append(Trial(name, judged(harmed, read)))
    return done


def judged(content: bytes, read: Read) -> str:
    began, wrong = time.monotonic(), ''
    try:
        read(content)
    except UserError:
        pass
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        wrong = f'{type(error).__name__}: {str(error)[:200]} ({Path(place.filename).name}:{place.lineno})'
    late = time.monotonic() - began
    return wrong or (f'took {late:.1f} s' if late > SOON else '')


def _mutated(content: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(out))) if out else 0
        size = int(rng.integers(1, 1 + max(1, len(out) // 4)))
        match int(rng.integers(6)):
            case 0 if out:
                out[at] ^= 1 << int(rng.integers(8))
            case 1:
                del out[at : at + size]
            case 2:
                out[at:at] = out[at : at + size]
            case 3:
                out[at : at + 1] = rng.bytes(int(rng.integers(1, 9)))
            case 4:
                del out[at:]
            case _:
                out[at : at + 4] = b'\xff\xff\xff\xff' if rng.random() < 0.5 else bytes(4)
    return bytes(out)


def _mutated_json(content: bytes, rng: np.random.Generator) -> bytes:
    value = json.loads(content)
    for _ in range(int(rng.integers(1, 4))):
        places = [(holder, key) for holder in _holders(value) for key in _keys(holder)]
        holder, key = places[rng.integers(len(places))]
        odd = ODD[rng.integers(len(ODD))] if rng.random() < 0.7 else _other(places, rng)
        if isinstance(holder, dict) and rng.random() < 0.3:
            holder[f'{key}_' if rng.random() < 0.5 else key.upper()] = holder.pop(key)
        elif rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = odd
        if not value:
            break
    return json.dumps(value).encode()


def _other(places: list[tuple[Any, Any]], rng: np.random.Generator) -> Any:
    """A value of another place, as JSON: not the same object, which could come to hold itself."""
    holder, key = places[rng.integers(len(places))]
    return json.loads(json.dumps(holder[key]))


def _holders(value: Any) -> list[Any]:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = [value] if isinstance(value, dict | list) and value else []
    return own + [holder for part in parts for holder in _holders(part)]


def _keys(holder: Any) -> list[Any]:
    return list(holder) if isinstance(holder, dict) else list(range(len(holder)))


def _kinds(directory: Path) -> dict[str, tuple[bytes, Read]]:
    """By name: what is mutated, and what reads it."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 24, 3)).astype(np.uint8)
    image, native, crop = Image(size=8), NativePatches(patch=4, most=16), RandomCrop(size=8)

    def images(content: bytes) -> None:
        image({'image': content})
        native({'image': content})
        crop({'image': content}, np.random.default_rng(0))

    def value(name: str, path: str = '') -> Read:
        return lambda content: walked(decoded(content, name, where='it'), path, where='it')

    def text(content: bytes) -> None:
        Bytes(16)({'text': decoded(content, 'txt', where='it')})

    def tar(content: bytes) -> None:
        (directory / 'x.tar').write_bytes(content)
        index_tar(Shard(str(directory / 'x.tar'), len(content), ''))

    def loaded(content: bytes) -> None:
        (directory / 'config.json').write_bytes(content)
        load_experiment(str(directory)).check()

    def resumed(content: bytes) -> None:
        (directory / 'manifest.json').write_bytes(content)
        history(read_manifest(path_of(directory)))

    written = experiment()
    dirty.write(directory / 'shards', rows=8, share=0.0, seed=0)
    return {
        'png': (_encoded(pixels, 'PNG'), images),
        'jpeg': (_encoded(pixels, 'JPEG'), images),
        'gif': (_encoded(pixels, 'GIF'), images),
        'webp': (_encoded(pixels, 'WEBP'), images),
        'text': ('Ein Häuschen, 日本語'.encode(), text),
        'number': (b'123', value('cls')),
        'array': (dirty.npy(rng.standard_normal((3, 4)).astype(np.float32)), value('npy')),
        'record.json': (json.dumps({'box': {'area': 1.5, 'at': [1, 2]}, 'id': 7}).encode(), value('json', 'box/at')),
        'tar': ((directory / 'shards' / '0.tar').read_bytes()[:4096] + bytes(1024), tar),
        'config.json': (json.dumps(config.dump(written)).encode(), loaded),
        'manifest.json': (json.dumps(manifest(written, parameters=1, config_file=None)).encode(), resumed),
    }


def _encoded(pixels: np.ndarray, form: str) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def main(argv: Sequence[str] | None = None) -> int:
    return bar.main('fuzz', (__doc__ or '').partition('\n')[0], run, trials=10_000, argv=argv)


if __name__ == '__main__':
    sys.exit(main())
