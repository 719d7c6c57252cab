"""`scripts/train_tokenizer CONFIG`: learns the vocabularies of a config's BPE tokenizers from its training data."""

import argparse
import sys
from collections.abc import Iterator, Sequence

from mmjax.config import load_file
from mmjax.data import Bpe, Feed
from mmjax.data.bpe import train_bpe
from mmjax.errors import UserError
from mmjax.experiment import Experiment


def bpe_of(data: Feed) -> Iterator[Bpe]:
    """The BPE tokenizers of all sources, each once, also those that another transform holds."""
    transforms = [transform for part in data.parts.values() for transform in part.transforms]
    found = [getattr(transform, 'tokenizer', transform) for transform in transforms]
    yield from dict.fromkeys(tokenizer for tokenizer in found if isinstance(tokenizer, Bpe))


def learn(experiment: Experiment, *, field: str | None = None) -> dict[str, str]:
    """Learns and writes every vocabulary; returns the sha256 by the name of the file.

    field: of the sources, whose texts are learned from; None: the tokenizer's own.

    Raises:
        UserError: where the config has no BPE tokenizer, or the data no such texts.
    """
    tokenizers = list(bpe_of(experiment.data))
    if not tokenizers:
        raise UserError('train_tokenizer: the config has no Bpe among the transforms of its data')
    readers = {name or 'train': part.source.open() for name, part in experiment.data.parts.items()}
    return {bpe.file: train_bpe(readers, bpe, field=field or bpe.key) for bpe in tokenizers}


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 the user's mistake."""
    parser = argparse.ArgumentParser(prog='scripts/train_tokenizer', description=(__doc__ or '').partition(': ')[2])
    parser.add_argument('config', metavar='CONFIG', help='Python file with def experiment() -> Experiment')
    parser.add_argument('--field', help="of the source, whose texts are learned from (default: the tokenizer's key)")
    args = parser.parse_args(argv)
    try:
        for file, sha256 in learn(load_file(args.config, kind=Experiment), field=args.field).items():
            print(f"{file}: write sha256='{sha256}' into the config")
    except UserError as error:
        print(f'mmjax: error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
