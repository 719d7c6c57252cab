"""Vocabularies of runs. `scripts/train_tokenizer CONFIG` learns those of a config's BPE tokenizers from its data."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmjax.config import dump, load_stages
from mmjax.data import Bpe, Feed
from mmjax.data.base import Reader, Source
from mmjax.data.bpe import train_bpe
from mmjax.data.tokenizer import tokenizers_of
from mmjax.errors import UserError
from mmjax.experiment import Experiment

TABLE = '/embed/embedding'  # of the encoders of text


def bpe_of(data: Feed) -> Iterator[Bpe]:
    """The BPE tokenizers of all sources, each once, also those that another transform holds."""
    found = [tokenizer for part in data.parts.values() for tokenizer in tokenizers_of(part.transforms)]
    yield from dict.fromkeys(tokenizer for tokenizer in found if isinstance(tokenizer, Bpe))


def learn(stages: Sequence[Experiment], *, field: str | None = None, missing: bool = False) -> dict[str, str]:
    """Learns and writes every vocabulary, from the data of the first stage that has it; returns the sha256 by the name
    of the file.

    field: of the sources, whose texts are learned from; None: the tokenizer's own. missing: only those whose file is
    not there, and nothing is written that is not what the config names.

    Raises:
        UserError: where the data have no such texts, a file is there and is another, or (missing) what is learned is.
    """
    learned: dict[str, str] = {}
    for stage in stages:
        for bpe in bpe_of(stage.data):
            if bpe.file not in learned and not (missing and bpe.path.exists()):
                wanted = bpe.sha256 if missing else ''
                learned[bpe.file] = train_bpe(_readers(stage.data), bpe, field=field or bpe.key, wanted=wanted)
    return learned


def _readers(data: Feed) -> dict[str, Reader]:
    """Of each source once, however many parts of a mixture read it, by the name of the first; of a single one, 'train',
    so that a mixture of one source has the vocabulary of the source.
    """
    sources: dict[str, Source] = {}
    for name, part in data.parts.items():
        if part.source not in sources.values():
            sources[name] = part.source
    if len(sources) == 1:
        return {'train': next(iter(sources.values())).open()}
    return {name: source.open() for name, source in sources.items()}


def check_loaded(experiment: Experiment, old: Mapping[str, Any], loaded: Mapping[str, str], *, source: str) -> None:
    """Raises UserError where vectors of words are taken from a run that had another vocabulary.

    old: that run's config, dumped: its classes need not be there any more. loaded: by path in this model, that of the
    old run's. source: what the run is called in messages.
    """
    tables = [(new, taken) for new, taken in loaded.items() if new.endswith(TABLE)]
    if not tables:
        return
    ours, theirs = (list(_tokenizers(dumped['data'])) for dumped in (dump(experiment), old))
    for new, taken in tables:
        now, before = ([t for t in them if t['key'] == _modality(at)] for them, at in ((ours, new), (theirs, taken)))
        if now and before and not any(_alike(a, b) for a in now for b in before):
            kinds = [str(them[0]['class']).rpartition('.')[2] for them in (now, before)]
            raise UserError(
                f"init_from: {new} are vectors of the words of another vocabulary: '{_modality(new)}' is tokenized by "
                f'{kinds[0]} here and by another {kinds[1]} in {source}; use its tokenizer, or add {new} to '
                'init_from.left_out'
            )


def _tokenizers(dumped: Any) -> Iterator[dict[str, Any]]:
    """What of a dumped config has a length and is of a modality: tokenizers, wherever they stand."""
    if isinstance(dumped, dict) and {'class', 'key', 'length'} <= dumped.keys():
        yield dumped
    children = dumped.values() if isinstance(dumped, dict) else dumped if isinstance(dumped, list) else ()
    for child in children:
        yield from _tokenizers(child)


def _modality(path: str) -> str:
    return path.split('/')[0].removeprefix('encoders_')


def _alike(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return all(a[name] == b[name] for name in a.keys() & b.keys() - {'key', 'length'})


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 the user's mistake."""
    parser = argparse.ArgumentParser(
        prog='scripts/train_tokenizer', description='learns the vocabularies of BPE tokenizers'
    )
    parser.add_argument('config', metavar='CONFIG', help='Python file with def experiment() -> Experiment')
    parser.add_argument('--field', help="of the source, whose texts are learned from (default: the tokenizer's key)")
    args = parser.parse_args(argv)
    try:
        written = load_stages(args.config, kind=Experiment)
        stages = written if isinstance(written, tuple) else (written,)
        learned = learn(stages, field=args.field)
        if not learned:
            raise UserError('train_tokenizer: the config has no Bpe among the transforms of its data')
        for file, sha256 in learned.items():
            print(f"{file}: write sha256='{sha256}' into the config")
    except UserError as error:
        print(f'mmjax: error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
