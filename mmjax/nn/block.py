"""The transformer block, and layers of any kind repeated by one scan."""

from dataclasses import field
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from mmjax.errors import UserError, nearest
from mmjax.nn.attention import Attention
from mmjax.nn.mlp import FeedForward, Mlp
from mmjax.nn.norm import LayerNorm, Norm
from mmjax.sharding import constrain
from mmjax.types import Tokens

NAMED = ('query', 'key', 'value', 'attended')  # what attention names of its results
# What the backward pass keeps of a layer beside its input, from most to least; what it does not keep is computed again.
REMAT = {
    'none': None,  # everything
    'dots': jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims,  # the results of matrix products
    'projections': jax.checkpoint_policies.save_only_these_names(*NAMED, 'hidden'),  # and what attention gave
    'attention': jax.checkpoint_policies.save_only_these_names('attended'),  # so that attention is computed once
    'offload': jax.checkpoint_policies.save_and_offload_only_these_names(  # on the device nothing, on its host these
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=list(NAMED),
        offload_src='device',
        offload_dst='pinned_host',
    ),
    'full': jax.checkpoint_policies.nothing_saveable,  # nothing
}


class Block(nn.Module):
    """Pre-norm transformer block: x += attention(norm(x)); x += mlp(norm(x)). Xiong et al. 2020, figure 1b.

    context: the tokens that x reads, in place of itself; the same norm is applied to them. Its parts are templates:
    `model.fusion.block.mlp=swiglu` swaps one. dropout: rate on both branches.
    """

    attention: Attention = field(default_factory=Attention)
    mlp: FeedForward = field(default_factory=Mlp)
    norm: Norm = field(default_factory=LayerNorm)
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Tokens, *, train: bool, context: Tokens | None = None) -> Tokens:
        norm = self.norm.copy(name='norm_attention')
        normed = x.replace(values=norm(x.values))
        read = normed if context is None else context.replace(values=norm(context.values))
        x = residual(x, self.attention.copy(name='attend')(normed, read), self.dropout, train=train)
        y = self.mlp.copy(name='feed_forward')(self.norm.copy(name='norm_mlp')(x.values))
        return residual(x, y, self.dropout, train=train)


class PostNormBlock(Block):
    """The block as it was first: x = norm(x + attention(x)); x = norm(x + mlp(x)). Vaswani et al. 2017, section 3.1.

    BERT (Devlin et al. 2019) is made of it. Deep ones train only with a warm-up (Xiong et al. 2020).
    """

    @nn.compact
    def __call__(self, x: Tokens, *, train: bool, context: Tokens | None = None) -> Tokens:
        y = self.attention.copy(name='attend')(x, x if context is None else context)
        x = residual(x, y, self.dropout, train=train)
        x = x.replace(values=self.norm.copy(name='norm_attention')(x.values))
        x = residual(x, self.mlp.copy(name='feed_forward')(x.values), self.dropout, train=train)
        return x.replace(values=self.norm.copy(name='norm_mlp')(x.values))


def residual(x: Tokens, y: Float[Array, 'b n d'], rate: float, *, train: bool) -> Tokens:
    """x + dropout(y), sharded as activations are, inside a compact method."""
    return x.replace(values=constrain(x.values + drop(y, rate, train=train), 'batch', 'length', 'embed'))


def drop(x: Float[Array, '...'], rate: float, *, train: bool) -> Float[Array, '...']:
    """Dropout (Srivastava et al. 2014), inside a compact method."""
    return nn.Dropout(rate)(x, deterministic=not train) if rate else x


def repeat(layer: nn.Module, carry: Any, *, depth: int, train: bool, remat: str = 'none', unroll: int = 1) -> Any:
    """Applies `layer(carry, train=train) -> carry` `depth` times, each time with its own parameters, by one scan.

    Every parameter of the layer gets a leading axis `layers`. A carry keeps shapes and dtypes. depth 0: the identity.

    Raises:
        UserError: on an unknown remat policy, a negative depth, an unroll below 1.
    """
    if depth < 0 or unroll < 1:
        raise UserError(f'depth {depth}, unroll {unroll}: at least 0 layers, at least 1 in a step of the scan')
    if remat not in REMAT:
        raise UserError(f"remat: unknown policy '{remat}'{nearest(remat, REMAT)} (there are {sorted(REMAT)})")
    if depth == 0:
        return carry

    def body(module: nn.Module, carry: Any) -> tuple[Any, None]:
        return module(carry, train=train), None

    if REMAT[remat] is not None:
        body = nn.remat(body, policy=REMAT[remat], prevent_cse=False)
    scan = nn.scan(
        body,
        # `attend` keeps the second and the third, `remembered` the last two.
        variable_axes={'params': 0, 'intermediates': 0, 'perturbations': 0, 'cache': 0, 'fresh': 0},
        split_rngs={'params': True, 'dropout': True},
        length=depth,
        unroll=min(unroll, depth),
        metadata_params={nn.PARTITION_NAME: 'layers'},
    )
    return scan(layer, carry)[0]


class Stack(nn.Module):
    """`depth` blocks of the template `block`.

    remat: a policy of `REMAT`. unroll: layers in a step of the scan; more of them compile
    longer and may run faster.
    """

    block: Block = field(default_factory=Block)
    depth: int = 4
    remat: str = 'none'
    unroll: int = 1

    @nn.compact
    def __call__(self, x: Tokens, *, train: bool) -> Tokens:
        layer = self.block.copy(name='layers')
        return repeat(layer, x, depth=self.depth, train=train, remat=self.remat, unroll=self.unroll)
