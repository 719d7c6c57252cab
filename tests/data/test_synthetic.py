import time

import jax
import numpy as np
import pytest

from mmjax import config
from mmjax.data import Classes, Data, Ids, Normal, Pixels, PromptAnswer, Synthetic, Words, train_batches
from mmjax.decoders.tokens import TokenLogits
from mmjax.encoders.text import TokenEncoder
from mmjax.errors import UserError
from mmjax.fusion.early import Early
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.objectives.next_token import NextToken
from mmjax.train.prepare import prepare, shapes_of_batch
from tests.train.toy import experiment

FIELDS = {
    'image': Pixels(width=8, height=6),
    'text': Ids(length=8, vocabulary=5, tokens=6, prompt=2),
    'words': Ids(length=4, vocabulary=1000),
    'answer': Classes(3),
    'vector': Normal((2, 5)),
}
SOURCE = Synthetic(FIELDS, rows=40)


def test_examples_have_the_stated_shapes():
    example = SOURCE.open()[7]
    found = {key: (value.dtype.name, value.shape) for key, value in example.items()}
    assert found == {
        'image': ('uint8', (6, 8, 3)),
        'image/present': ('bool', ()),
        'text': ('int32', (8,)),
        'text/present': ('bool', ()),
        'text/causal': ('int32', (8,)),
        'words': ('int32', (4,)),
        'words/present': ('bool', ()),
        'answer': ('int32', ()),
        'vector': ('float32', (2, 5)),
    }
    assert SOURCE.open().labels == {'answer': ('0', '1', '2')}


def test_a_row_decides_its_example():
    """Whatever is read beside it, before it, and in which reader; rows and fields differ from one another."""
    reader = SOURCE.open()
    alone = [reader.read([row])[0] for row in range(40)]
    together = SOURCE.open().read(range(39, -1, -1))[::-1]
    for one, other in zip(alone, together, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
    assert len({example['image'].tobytes() for example in alone}) == 40
    twins = Synthetic({'a': Normal((4,)), 'b': Normal((4,))}).open()[0]
    assert not np.array_equal(twins['a'], twins['b'])


def test_values_fill_their_ranges():
    examples = SOURCE.open().read(range(40))
    ids = np.stack([example['text'] for example in examples])
    assert set(ids[:, :6].ravel()) == {2, 3, 4}
    assert not ids[:, 6:].any()
    assert {int(example['answer']) for example in examples} == {0, 1, 2}
    pixels = np.concatenate([example['image'].ravel() for example in examples])
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert abs(np.stack([example['vector'] for example in examples]).std() - 1) < 0.1


def test_marks_are_those_of_prompt_and_answer():
    """A prompt of one word and an answer of three: begin and prompt are given, answer and end are written."""
    words = Words(vocabulary=('a', 'b', 'c', 'd'), length=8)
    written = PromptAnswer(words)({'text': ('a', 'b c d')})
    drawn = SOURCE.open()[0]
    np.testing.assert_array_equal(drawn['text/causal'], written['text/causal'])
    np.testing.assert_array_equal(drawn['text'] != 0, written['text'] != 0)


def test_it_dumps_and_streams():
    data = Data(SOURCE, cache=False)
    assert config.load(config.dump(data)) == data
    batches = train_batches(data, batch_size=4, seed=0, rows=[2, 3])
    batch = next(batches)
    batches.close()
    assert batch['image'].shape == (2, 6, 8, 3)
    other = Synthetic({**FIELDS, 'answer': Classes(4)}, rows=40)
    assert other.open().fingerprint != SOURCE.open().fingerprint == Synthetic(FIELDS, rows=40).open().fingerprint


def test_shapes_of_large_examples_are_quick():
    fields = {'image': Pixels(width=448), 'text': Ids(length=131_072, vocabulary=256_000, prompt=1024)}
    large = experiment(data=Data(Synthetic(fields, rows=10**9), cache=False), batch_size=32_768)
    began = time.perf_counter()
    shapes = shapes_of_batch(large)
    assert time.perf_counter() - began < 2
    assert shapes['image'] == jax.ShapeDtypeStruct((32_768, 448, 448, 3), np.uint8)
    assert shapes['text/causal'] == jax.ShapeDtypeStruct((32_768, 131_072), np.int32)


def test_a_run_is_prepared_on_it():
    """Every check of a run before its first step: by shapes, so that nothing is compiled."""
    model = Model(
        encoders={'text': TokenEncoder(vocabulary=50, width=16, depth=0)},
        fusion=Early(depth=1, block=Block(attention=Attention(heads=2))),
        decoders={'text': TokenLogits(vocabulary=50)},
    )
    data = Data(Synthetic({'text': Ids(length=12, vocabulary=50, prompt=3)}), cache=False)
    run = experiment(model=model, data=data, objectives={'text': NextToken()}, evals={})
    assert prepare(run, run=None).batch['text/causal'].shape == (16, 12)


@pytest.mark.parametrize(
    ('make', 'told'),
    [
        (lambda: Pixels(width=0), 'Pixels.width is 0'),
        (lambda: Pixels(width=4, height=-1), 'Pixels.height is -1'),
        (lambda: Ids(length=4, vocabulary=2), 'Ids.vocabulary is 2'),
        (lambda: Ids(length=4, vocabulary=9, tokens=5), 'Ids.tokens is 5, more than the length, 4'),
        (lambda: Ids(length=4, vocabulary=9, tokens=3, prompt=4), 'Ids.prompt is 4: use 0 to 3'),
        (lambda: Classes(0), 'Classes.count is 0'),
        (lambda: Normal((2, 0)), r'Normal.shape is \(2, 0\)'),
        (lambda: Synthetic({}), 'Synthetic.fields is empty'),
        (lambda: Synthetic(FIELDS, rows=0), 'Synthetic.rows is 0'),
    ],
)
def test_what_cannot_be_is_told(make, told):
    with pytest.raises(UserError, match=told):
        make()
