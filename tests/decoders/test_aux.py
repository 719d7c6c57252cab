"""What a fusion tells, as an output."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.decoders.aux import Aux
from mmjax.errors import UserError
from mmjax.types import Fused

FUSED = Fused({}, aux={'weight/text': jnp.arange(3.0)})


def test_it_is_what_the_fusion_tells():
    np.testing.assert_array_equal(Aux(told='weight/text').apply({}, {}, FUSED, train=False), np.arange(3))


def test_what_the_fusion_does_not_tell():
    for fused, message in ((FUSED, "did you mean 'weight/text'"), (Fused({}), 'it tells nothing')):
        with pytest.raises(UserError, match=message):
            Aux(told='weight/texx').init(jax.random.key(0), {}, fused, train=False)
