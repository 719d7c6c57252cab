"""Parts of a modality taken away, to be guessed from the rest of it and from the other modalities."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from jaxtyping import Array, Bool, Int

from mmjax.errors import UserError
from mmjax.types import PAD_ID, UNTOLD_ID, Batch
from mmjax.views.base import View, field_of


@dataclass(frozen=True)
class MaskedText(View):
    """Some tokens of a text are not told (Devlin et al. 2019, section 3.1).

    vocabulary: how many ids the tokenizer has. share: of the tokens of each row that are chosen, rounded, and at least
    one of a row that has any; of a packed row, whatever examples it has. Of the chosen, as drawn: 80 % become
    `UNTOLD_ID`, 10 % an id drawn from the vocabulary, 10 % stay. Padding is never chosen, nor is a word that the
    tokenizer did not know. Adds `m/target`, the ids as they were, and `m/masked` [b n], which were chosen.
    """

    vocabulary: int
    modality: str = 'text'
    share: float = 0.15

    def __post_init__(self):
        _check_share(self)
        if self.vocabulary <= UNTOLD_ID + 1:
            raise UserError(f'masked_text.vocabulary: {self.vocabulary} ids leave no word beside those reserved')

    def __call__(self, batch: Batch, key: jax.Array) -> Batch:
        ids = field_of(batch, self.modality)
        if not jnp.issubdtype(ids.dtype, jnp.integer) or ids.ndim != 2:
            raise UserError(f"masked_text: '{self.modality}' is {ids.dtype} {list(ids.shape)}; it takes ids [b n]")
        choose, how, which = jax.random.split(key, 3)
        known = (ids != PAD_ID) & (ids != UNTOLD_ID) & _present(batch, self.modality, ids.shape[:1])[:, None]
        chosen = _chosen(known, self.share, choose)
        fate = jax.random.uniform(how, ids.shape)
        random = jax.random.randint(which, ids.shape, UNTOLD_ID + 1, self.vocabulary, ids.dtype)
        shown = jnp.where(fate < 0.8, UNTOLD_ID, jnp.where(fate < 0.9, random, ids))
        masked = {f'{self.modality}/target': ids, f'{self.modality}/masked': chosen}
        return {**batch, self.modality: jnp.where(chosen, shown, ids), **masked}


@dataclass(frozen=True)
class MaskedImage(View):
    """Some patches of an image are grey (He et al. 2022, SimMIM: Xie et al. 2022; there a learned vector replaces them
    behind the projection, here pixels do, so that any encoder can be asked).

    patch: side of a patch in pixels, best that of the encoder's tokens. share: of an image's patches that are chosen:
    0.6 for SimMIM, 0.75 for MAE, 0.15 for ViLBERT and UNITER, whose patches are regions. fill: the byte that they
    become; 127 is next to what encoders take for 0, which images of floats become. Adds `m/target`, the pixels as they
    were, and `m/masked` [b n], the chosen patches in raster order; packed images have [b k n].
    """

    modality: str = 'image'
    patch: int = 8
    share: float = 0.6
    fill: int = 127

    def __post_init__(self):
        _check_share(self)
        if self.patch < 1 or not 0 <= self.fill <= 255:
            raise UserError(f'masked_image: patch {self.patch}, fill {self.fill}: at least 1, and a byte')

    def __call__(self, batch: Batch, key: jax.Array) -> Batch:
        pixels = field_of(batch, self.modality)
        if pixels.ndim < 4 or pixels.shape[-3] % self.patch or pixels.shape[-2] % self.patch:
            raise UserError(
                f"masked_image: '{self.modality}' {list(pixels.shape)} is no batch of images [b y x c] made of patches "
                f'of {self.patch}'
            )
        rows, columns = pixels.shape[-3] // self.patch, pixels.shape[-2] // self.patch
        present = _present(batch, self.modality, pixels.shape[:-3])
        chosen = _chosen(repeat(present, '... -> ... n', n=rows * columns), self.share, key)
        grid = rearrange(chosen, '... (y x) -> ... y x', y=rows)
        covered = repeat(grid, '... y x -> ... (y p) (x q) 1', p=self.patch, q=self.patch)
        fill = self.fill if pixels.dtype == jnp.uint8 else 0
        masked = {f'{self.modality}/target': pixels, f'{self.modality}/masked': chosen}
        return {**batch, self.modality: jnp.where(covered, jnp.asarray(fill, pixels.dtype), pixels), **masked}


def _chosen(candidates: Bool[Array, '*b n'], share: float, key: jax.Array) -> Bool[Array, '*b n']:
    """A share of each row's candidates, rounded, and one at least where there is any."""
    draws = jnp.where(candidates, jax.random.uniform(key, candidates.shape), 2)
    rank: Int[Array, '*b n'] = draws.argsort(axis=-1).argsort(axis=-1)
    count = jnp.maximum(jnp.round(share * candidates.sum(axis=-1, keepdims=True)), 1)
    return candidates & (rank < count)


def _present(batch: Batch, modality: str, shape: tuple[int, ...]) -> Bool[Array, '*b']:
    return batch.get(f'{modality}/present', jnp.ones(shape, bool))


def _check_share(view: MaskedText | MaskedImage) -> None:
    if not 0 < view.share <= 1:
        what = type(view).__name__
        raise UserError(f"{what} of '{view.modality}': share {view.share} cannot be masked; give one above 0, up to 1")
