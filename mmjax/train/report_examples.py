"""What a classifier said about single examples: which classes it confuses, and a dozen cards to look at."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import Int

from mmjax.data.base import Example
from mmjax.data.transforms import MAX_PIXELS
from mmjax.evals.base import Columns
from mmjax.train.report_html import Html, join, tag

MOST_CLASSES = 30  # of a confusion table that can still be read
SIDE = 256  # pixels; larger images are scaled down

Labels = Mapping[str, Sequence[str]]  # names of classes, by field


def confusion(columns: Columns, names: Sequence[str]) -> Html | None:
    """Counts of (true, predicted) pairs; None where there are too many classes, or ids that have no name."""
    target, predicted = columns['target'], columns['predicted']
    classes = len(names)
    ids = np.concatenate([target, predicted])
    if not 0 < classes <= MOST_CLASSES or ids.min() < 0 or ids.max() >= classes:
        return None
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (target, predicted), 1)
    header = tag('tr', tag('th'), *(tag('th', tag('span', name)) for name in names), tag('th', tag('span', 'correct')))
    rows = []
    for true, (name, row) in enumerate(zip(names, counts.tolist(), strict=True)):
        total = sum(row)
        cells = [_cell(count, total, right=guess == true) for guess, count in enumerate(row)]
        share = f'{row[true] / total:.1%}' if total else ''
        rows.append(tag('tr', tag('th', name), *cells, tag('td', share, class_='share')))
    table = tag('table', tag('thead', header), tag('tbody', *rows), class_='confusion')
    return tag('div', table, class_='scroll')


def _cell(count: int, total: int, *, right: bool) -> Html:
    if not count:
        return tag('td')
    color, share = ('37, 99, 168', count / total * 0.45) if right else ('179, 38, 30', 0.15 + count / total * 0.6)
    return tag('td', count, style=f'background: rgba({color}, {share:.2f})')


def choose(columns: Columns, *, each: int) -> tuple[Int[np.ndarray, 'w'], Int[np.ndarray, 'r']]:
    """Places in the columns: of up to `each` wrong predictions with the highest loss, the most probable ones first, and
    of a draw that is the same for every run on the split, so that two reports can be compared.
    """
    wrong = np.flatnonzero(columns['predicted'] != columns['target'])
    worst = wrong[np.argsort(-columns['loss'][wrong], kind='stable')[:each]]
    worst = worst[np.argsort(-columns['probability'][worst], kind='stable')]
    # By row of the split, whatever order the predictions are stored in.
    rows = np.random.default_rng(0).permutation(len(columns['index']))[:each]
    return worst, np.argsort(columns['index'], kind='stable')[rows]


def cards(places: np.ndarray, columns: Columns, examples: Sequence[Example], *, target: str, labels: Labels) -> Html:
    """One card for each place; `examples` are the raw ones of these places, `target` their field of the true class."""
    made = []
    for place, example in zip(places, examples, strict=True):
        true, guess = (_name(columns[name][place], target, labels) for name in ('target', 'predicted'))
        right = columns['predicted'][place] == columns['target'][place]
        said = tag('span', f'{"✓" if right else "✗"} {guess}', class_='right' if right else 'wrong')
        pairs = (('answer', true), ('predicted', join(said, f' ({float(columns["probability"][place]):.1%})')))
        verdict = tag('dl', *(join(tag('dt', name), tag('dd', value)) for name, value in pairs))
        given = {name: value for name, value in example.items() if name != target}
        pictures = {name: uri for name, value in given.items() if (uri := picture(value))}
        shown = [tag('img', src=uri, alt=name, class_=kind) for name, (uri, kind) in pictures.items()]
        words = [tag('p', describe(v, name, labels)) for name, v in given.items() if name not in pictures]
        made.append(tag('div', tag('div', *shown, class_='images'), tag('div', *words, verdict), class_='example'))
    return tag('div', *made, class_='examples')


def picture(value: Any) -> tuple[str, str] | None:
    """An image (encoded bytes, uint8 [h, w] or [h, w, c]) as a PNG data URI and the CSS class of its size, or None."""
    try:
        if isinstance(value, bytes):
            image = PIL.Image.open(io.BytesIO(value))
            if image.width * image.height > MAX_PIXELS:
                return None
        elif isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3):
            image = PIL.Image.fromarray(value[..., 0] if value.shape[2:] == (1,) else value)
        else:
            return None
        image = image.convert('RGB')
    except (OSError, SyntaxError, ValueError, TypeError, PIL.Image.DecompressionBombError):
        return None
    small = max(image.size) <= SIDE
    image.thumbnail((SIDE, SIDE))
    png = io.BytesIO()
    image.save(png, 'PNG')
    return f'data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}', 'small' if small else 'large'


def describe(value: Any, name: str, labels: Labels) -> Html:
    """Anything that is no picture, in words."""
    if isinstance(value, str):
        return join(value)
    if value is None:
        said = 'absent'
    elif isinstance(value, bytes):
        said = f'{len(value):,} bytes'
    elif np.ndim(value):
        said = f'{np.asarray(value).dtype} {list(np.shape(value))}'
    else:
        said = _name(value, name, labels)
    return tag('span', f'{name}: {said}', class_='soft')


def _name(value: Any, field: str, labels: Labels) -> str:
    names = labels.get(field, ())
    is_class = isinstance(value, int | np.integer) and 0 <= value < len(names)
    return names[int(value)] if is_class else f'{value:.4g}' if isinstance(value, float | np.floating) else str(value)
