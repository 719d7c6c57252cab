"""Patches of images of any aspect ratio to tokens."""

from dataclasses import field
from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array, Bool, Float, Int, UInt8

from mmjax.encoders.base import Encoder
from mmjax.encoders.image import to_float
from mmjax.errors import UserError
from mmjax.nn.block import Block, Stack
from mmjax.nn.dense import Dense
from mmjax.nn.places import LearnedPlaces, Places
from mmjax.types import Tokens


class NativePatchEncoder(Encoder):
    """`PatchEncoder` for the patches of `NativePatches`: each stands at a row and a column of a grid of its image's own
    shape, and a row of the batch may hold patches of several images (Dehghani et al. 2023, NaViT: Patch n' Pack).

    Its parameters are those of `PatchEncoder`; on an image of the same grid it gives the same. places: where a patch
    stands. See there for the other fields.
    """

    marks: ClassVar[tuple[str, ...]] = ('segments', 'yx', 'grid', 'mask')

    width: int = 128
    depth: int = 2
    block: Block = field(default_factory=Block)
    places: Places = field(default_factory=LearnedPlaces)
    remat: str = 'none'
    unroll: int = 1

    @nn.compact
    def __call__(
        self,
        x: UInt8[Array, 'b n p'] | Float[Array, 'b n p'],
        present: Bool[Array, 'b'],
        *,
        train: bool,
        yx: Int[Array, 'b n 2'] | None = None,
        grid: Int[Array, 'b n 2'] | None = None,
        mask: Bool[Array, 'b n'] | None = None,
        segments: Int[Array, 'b n'] | None = None,
    ) -> Tokens:
        if yx is None or grid is None or mask is None:
            raise UserError(
                'native patch encoder: the batch does not tell where its patches stand (yx, grid, mask); give the '
                'images the transform NativePatches'
            )
        values = Dense((self.width,), ('patch', 'embed'), name='patches')(to_float(x))
        values = self.places.copy(name='place')(values, yx, grid)
        tokens = Tokens.of(values, mask & present[:, None], segments=segments)
        return Stack(self.block, self.depth, self.remat, self.unroll, name='stack')(tokens, train=train)
