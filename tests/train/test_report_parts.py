"""The parts of a report: markup, plots, pictures, the choice of examples."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
import PIL.Image
from hypothesis import given
from hypothesis import strategies as st

from mmjax.train.report_examples import choose, confusion, describe, picture
from mmjax.train.report_html import join, tag
from mmjax.train.report_plots import binned, plots


class Read(HTMLParser):
    """What a parser makes of some markup."""

    def __init__(self, markup: str):
        super().__init__()
        self.text, self.attributes = '', []
        self.feed(markup)
        self.close()

    def handle_starttag(self, name, attrs):
        self.attributes.append((name, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@given(st.text(), st.text())
def test_markup_gives_back_any_text(content, attribute):
    read = Read(tag('p', join(content), title=attribute))
    assert read.text == content
    assert read.attributes == [('p', {'title': attribute})]


def test_the_draw_does_not_depend_on_the_predictions_or_on_their_order():
    rng = np.random.default_rng(0)
    columns = {'index': np.arange(99), 'target': np.zeros(99, int), 'predicted': rng.integers(2, size=99)}
    columns |= {'loss': rng.random(99), 'probability': rng.random(99)}
    order = rng.permutation(99)
    other = {name: column[order] for name, column in columns.items()} | {'predicted': np.zeros(99, int)}
    (_, a), (none_wrong, b) = choose(columns, each=6), choose(other, each=6)
    assert columns['index'][a].tolist() == other['index'][b].tolist() and len(set(a)) == 6
    assert len(none_wrong) == 0


def test_confusion_counts_pairs_and_needs_names():
    columns = {'target': np.array([0, 0, 1]), 'predicted': np.array([0, 1, 1])}
    table = confusion(columns, ('a', 'b'))
    assert table is not None
    assert '50.0%' in table and '100.0%' in table
    assert confusion(columns, ('a',)) is None
    assert confusion(columns, [str(i) for i in range(31)]) is None


def test_a_loss_that_is_not_finite_is_told():
    rows = [{'step': 1, 'loss': 2.0}, {'step': 2, 'loss': 'nan'}, {'step': 3, 'loss': 'inf'}]
    (plot,) = plots(rows, [], evals=())
    assert plot.note == 'loss is not finite at 2 of 3 rows, first at step 2'


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(1, 50))
def test_binning_keeps_the_extremes(values, most):
    steps, mean, low, high = binned(np.arange(len(values), dtype=float), np.array(values), most=most)
    assert len(steps) == len(mean) <= most
    assert low.min() == min(values) and high.max() == max(values)
    assert (np.diff(steps) > 0).all()


def test_pictures_are_what_images_are():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    uri, kind = picture(grey) or ('', '')
    shown = np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(uri.partition(',')[2]))))
    assert kind == 'small' and np.array_equal(shown, np.repeat(grey, 3, axis=-1))
    uri, kind = picture(np.zeros((600, 900, 3), np.uint8)) or ('', '')
    assert kind == 'large' and PIL.Image.open(io.BytesIO(base64.b64decode(uri.partition(',')[2]))).size == (256, 171)
    for other in (b'no image', 'text', None, np.zeros(7, np.uint8), np.zeros((2, 2), np.float32)):
        assert picture(other) is None


def test_anything_else_is_described():
    labels = {'kind': ('yes/no', 'open')}
    said = [describe(v, 'kind', labels) for v in (np.int32(1), None, b'abc', np.zeros((2, 3), np.float32), 7)]
    for text, expected in zip(said, ('open', 'absent', '3 bytes', 'float32 [2, 3]', '7'), strict=True):
        assert f'kind: {expected}' in text
