"""Texts that a model wrote, against texts that people wrote: exact match, chrF, CIDEr-D."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from mmjax.errors import UserError, check_field, check_output
from mmjax.evals.base import Columns, Evaluator
from mmjax.evals.intervals import Z, share_interval

NGRAMS = 4  # CIDEr-D counts runs of 1 to so many words
PARTS = 20  # of the texts, left out in turn for the interval of chrF
SIGMA = 6.0  # of its penalty on other lengths, in words

# Scripts without spaces between words: kana, and the characters of Chinese.
UNSPACED = '\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff'


@dataclass(frozen=True)
class Captions(Evaluator):
    """Scores of the texts `output` against those of the field `references`, as the transform `References` writes them.

    `exact_match`: the share of texts that are one of their references. `chrf`: chrF of the whole split, 0 to 100, by
    sacrebleu (Popović 2015). `cider_d`: CIDEr-D (`cider_d`), 0 to 10; published figures are 100 times this. Each has a
    95 % interval over the examples, as if they were independent, from `NAME_low` to `NAME_high`: Wilson's, a
    jackknife's, a normal one with the frequencies of runs as they are. Examples without a reference are left out.
    """

    output: str = 'text'
    references: str = 'references'

    def predictions(self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> Columns:
        check_output(self.output, outputs, asker='captions')
        check_field(self.references, batch, asker='captions')
        written = outputs[self.output]
        if written.dtype.kind != 'U':
            raise UserError(
                f"captions: the output '{self.output}' is {written.dtype}, no text; give the evaluation a predictor "
                'that writes one (generate)'
            )
        references = [[bytes(x).rstrip(b'\0').decode('utf-8', 'ignore') for x in row] for row in batch[self.references]]
        return {'written': written, 'references': np.array(references, dtype=np.str_)}

    def metrics(self, columns: Columns, labels: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
        pairs = [
            (text.strip(), [reference.strip() for reference in references if reference.strip()])
            for text, references in zip(columns['written'].tolist(), columns['references'].tolist(), strict=True)
        ]
        pairs = [(text, references) for text, references in pairs if references]
        if not pairs:
            most = {'exact_match': 1.0, 'chrf': 100.0, 'cider_d': 10.0}
            return {**dict.fromkeys(most, 0.0), **_ends({name: (0.0, high) for name, high in most.items()})}
        written, references = [text for text, _ in pairs], [those for _, those in pairs]
        exact = np.array([text in those for text, those in pairs])
        cider = cider_d(written, references)
        half = Z * float(cider.std(ddof=1)) / len(cider) ** 0.5 if len(cider) > 1 else 10.0
        middle = float(cider.mean())
        score = chrf(written, references)
        ends = {
            'exact_match': share_interval(exact, np.arange(len(exact))),
            'chrf': chrf_interval(written, references, score=score),
            'cider_d': (max(0.0, middle - half), min(10.0, middle + half)),
        }
        return {'exact_match': float(exact.mean()), 'chrf': score, 'cider_d': middle, **_ends(ends)}


def _ends(intervals: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    return {
        f'{name}_{end}': value
        for name, both in intervals.items()
        for end, value in zip(('low', 'high'), both, strict=True)
    }


def chrf(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """chrF of a corpus, 0 to 100: character n-grams up to 6, recall counted twice, as sacrebleu has it by default."""
    from sacrebleu.metrics.chrf import CHRF

    most = max(map(len, references))
    columns = [[those[i] if i < len(those) else None for those in references] for i in range(most)]
    return float(CHRF().corpus_score(texts, columns).score)  # pyright: ignore[reportArgumentType]


def chrf_interval(texts: Sequence[str], references: Sequence[Sequence[str]], *, score: float) -> tuple[float, float]:
    """The 95 % interval of `chrf` over texts, around their `score`, by the jackknife that leaves out a twentieth of
    them at a time, every twentieth text (Shao & Wu 1989, "A general theory for jackknife variance estimation"); (0,
    100) of a single text.
    """
    parts = min(PARTS, len(texts))
    if parts < 2:
        return 0.0, 100.0
    kept = [[i for i in range(len(texts)) if i % parts != part] for part in range(parts)]
    without = np.array([chrf([texts[i] for i in rows], [references[i] for i in rows]) for rows in kept])
    error = float(((without - without.mean()) ** 2).sum() * (parts - 1) / parts) ** 0.5
    half = float(student.ppf(0.975, parts - 1)) * error
    return max(0.0, score - half), min(100.0, score + half)


def cider_d(texts: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """CIDEr-D of each text [n] (Vedantam et al. 2015, section 4), 0 to 10; g_n is the TF-IDF vector of runs of n words:

        10 / (N m) sum_nj exp(-(l(c) - l(s_j))^2 / (2 sigma^2)) min(g_n(c), g_n(s_j)) g_n(s_j) / |g_n(c)| |g_n(s_j)|

    N = 4, sigma = 6. A run's document frequency is the number of examples in whose references it is; what is in all of
    them weighs nothing. As in the authors' program (`coco-caption`) term frequencies are counts. A text of fewer than
    four words has no runs of four, so that even if it is right it stays below 10.
    """
    documents = [[ngrams(words(text)) for text in those] for those in references]
    frequency = Counter(run for those in documents for run in set().union(*those))
    total = np.log(len(documents))
    scores = []
    for text, those in zip(texts, documents, strict=True):
        own, parts = ngrams(words(text)), []
        for reference in those:
            lengths = [sum(count for run, count in x.items() if len(run) == 1) for x in (own, reference)]
            penalty = np.exp(-((lengths[0] - lengths[1]) ** 2) / (2 * SIGMA**2))
            similar = [
                _clipped_cosine(*(_weighed(x, n, frequency, total) for x in (own, reference)))
                for n in range(1, NGRAMS + 1)
            ]
            parts.append(penalty * np.mean(similar))
        scores.append(10 * np.mean(parts))
    return np.array(scores)


def words(text: str) -> list[str]:
    """Lower-cased runs of letters and digits; a character of a script without spaces is a word of its own."""
    return re.findall(rf'[{UNSPACED}]|[^\W{UNSPACED}]+', text.lower())


def ngrams(sequence: Sequence[str]) -> Counter[tuple[str, ...]]:
    """How often each run of up to `NGRAMS` words is there."""
    runs = range(1, NGRAMS + 1)
    return Counter(tuple(sequence[i : i + n]) for n in runs for i in range(len(sequence) - n + 1))


def _weighed(counts: Mapping[tuple[str, ...], int], n: int, frequency: Mapping, total: float) -> dict:
    return {
        run: count * (total - np.log(max(frequency.get(run, 0), 1))) for run, count in counts.items() if len(run) == n
    }


def _clipped_cosine(a: Mapping, b: Mapping) -> float:
    """min(a, b) b / |a| |b|, 0 where one is zero."""
    norms = np.sqrt(sum(x**2 for x in a.values()) * sum(x**2 for x in b.values()))
    return sum(min(x, b[run]) * b[run] for run, x in a.items() if run in b) / norms if norms else 0.0
