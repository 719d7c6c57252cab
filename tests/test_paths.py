"""Which pattern decides over a parameter."""

import pytest

from mmjax.errors import UserError
from mmjax.paths import beginnings, check_patterns, deciding, flat, nested, reach

QUERY = 'encoders_image/stack/layers/attend/query/kernel'
ADAPTER = 'encoders_image/stack/layers/attend/query/lora/a'


@pytest.mark.parametrize(
    ('pattern', 'names'),
    [
        ('encoders_image', 1),
        ('encoders_*', 1),
        ('*', 1),
        ('encoders_image/stack', 2),
        ('*/kernel', 6),
        ('*/query', 5),
        (QUERY, 6),
        ('encoders', 0),
        ('encoders_imag', 0),
        ('stack', 0),
        ('kernel', 0),
        ('encoders_image/', 0),
        ('', 0),
    ],
)
def test_a_pattern_means_whole_names_and_what_lies_below(pattern, names):
    assert reach(pattern, QUERY) == names


@pytest.mark.parametrize(
    ('patterns', 'path', 'winner'),
    [
        (['*', 'encoders_image', '*/lora'], ADAPTER, '*/lora'),
        (['*/lora', 'encoders_image', '*'], ADAPTER, '*/lora'),
        (['*', 'encoders_image', '*/lora'], QUERY, 'encoders_image'),
        (['encoders_*', 'encoders_image'], QUERY, 'encoders_image'),
        (['encoders_image', 'encoders_*'], QUERY, 'encoders_image'),
        (['encoders_image', 'encoders_image/stack'], QUERY, 'encoders_image/stack'),
        (['encoders_im*e', 'encoders_*age'], QUERY, 'encoders_*age'),  # as deep, as many letters: the last
        (['encoders_*age', 'encoders_im*e'], QUERY, 'encoders_im*e'),
        (['*_image', 'encoders'], QUERY, '*_image'),
        (['fusion'], QUERY, None),
        ([], QUERY, None),
    ],
)
def test_the_deepest_pattern_decides_then_the_one_with_most_letters(patterns, path, winner):
    assert deciding(patterns, path) == winner


def test_a_pattern_that_fits_nothing_is_told_with_the_parts():
    check_patterns(['encoders_*', '*'], [QUERY], where='x')
    with pytest.raises(UserError, match=r"x: 'encoders_imag' is no parameter; did you mean 'encoders_image'\? \(there"):
        check_patterns(['encoders_imag'], [QUERY, 'fusion/norm'], where='x')
    with pytest.raises(UserError, match=r"'zzz' is no parameter \(there are encoders_image, fusion\)"):
        check_patterns(['zzz'], [QUERY, 'fusion/norm'], where='x')


def test_names_of_a_tree():
    tree = {'a': {'b': {'c': 1}, 'd': 2}, 'e': 3}
    assert flat(tree) == {'a/b/c': 1, 'a/d': 2, 'e': 3} and nested(flat(tree)) == tree
    assert beginnings('a/b/c') == ['a', 'a/b', 'a/b/c']
