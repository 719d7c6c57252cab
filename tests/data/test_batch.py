import numpy as np
import pytest

from mmjax.data.batch import stack
from mmjax.errors import UserError


def test_stacks_each_entry_and_narrows_64_bits():
    examples = [{'a': np.full((2, 3), i, np.uint8), 'b': i, 'c': i / 2, 'd': np.bool_(i)} for i in range(4)]
    batch = stack(examples)
    assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {
        'a': ((4, 2, 3), np.uint8),
        'b': ((4,), np.int32),
        'c': ((4,), np.float32),
        'd': ((4,), np.bool_),
    }
    np.testing.assert_array_equal(batch['b'], range(4))


@pytest.mark.parametrize(
    'values, message',
    [
        (['what is it?', 'why?'], "'x' is str, not a numeric array; add a transform .*Words"),
        ([b'\x89PNG', b''], "'x' is bytes.*Image"),
        ([np.zeros(3), None], "'x' is NoneType"),
        (
            [np.zeros((3, 4)), np.zeros((2, 4))],
            r"'x' is float64 \[3, 4\] in one example and float64 \[2, 4\] in another",
        ),
        ([np.zeros(2, np.uint8), np.zeros(2, np.int32)], r'uint8 \[2\] in one example and int32 \[2\]'),
    ],
)
def test_what_cannot_be_stacked_is_told(values, message):
    with pytest.raises(UserError, match=message):
        stack([{'x': value} for value in values])


def test_different_keys_are_told():
    with pytest.raises(UserError, match='some examples have audio and others do not'):
        stack([{'x': 1}, {'x': 1, 'audio': 2}])
