"""Single designs against NumPy, against one another where one is a special case, and as they are before training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta
from scipy.special import expit

from mmjax.errors import UserError
from mmjax.fusion.bilinear import FactorizedBilinear, Mutan
from mmjax.fusion.coattention import Coattention
from mmjax.fusion.early import Early
from mmjax.fusion.experts import Experts, Multiway
from mmjax.fusion.film import Film
from mmjax.fusion.gated import GatedCrossAttention
from mmjax.fusion.graph import Graph
from mmjax.fusion.grid import Grid
from mmjax.fusion.late import Late
from mmjax.fusion.low_rank import LowRank
from mmjax.fusion.mid import Mid
from mmjax.fusion.relation import Relation
from mmjax.fusion.resampler import Resampler
from mmjax.fusion.routed import Routed
from mmjax.fusion.visual_embedding import VisualEmbedding
from mmjax.fusion.weighted import GatedUnit, WeightedSum
from mmjax.nn.attention import GroupedAttention
from mmjax.nn.block import Block, PostNormBlock
from mmjax.nn.norm import NoNorm
from mmjax.types import Tokens, masked_mean
from tests.fusion.designs import LENGTHS, PAIR, TRIPLE, WIDTH, build, compiled_forward, make_tokens
from tests.train import toy


def apply(module, params, mods):
    return compiled_forward(module)(params, mods)


def numpy_of(params):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), params['params'])


def shared(fused):
    return np.asarray(fused.shared.values[:, 0])


def pooled_case(design, names, random_parameters, **changes):
    """A design without norm and towers, its parameters for NumPy, its output, and the vectors that it combines."""
    module, mods = build(design, depth=0, entry_norm=NoNorm(), **changes), make_tokens(names)
    params = random_parameters(module, mods, train=False)
    vectors = {name: np.asarray(masked_mean(x), np.float64) for name, x in mods.items()}
    return numpy_of(params), apply(module, params, mods), vectors


def test_low_rank_is_a_product_with_the_whole_tensor(random_parameters):
    """Zadeh et al. 2017: all products of [1; z_m], with the weights that the factors stand for."""
    p, fused, z = pooled_case(LowRank, TRIPLE, random_parameters)
    factors = {m: np.concatenate([p[f'one_{m}'][None], p[f'factor_{m}']]) for m in TRIPLE}  # [1 + d, rank, out]
    tensor = np.einsum('irk,jrk,lrk,r->ijlk', *(factors[m] for m in TRIPLE), p['weight'])
    for row in (0, 1):  # where all are present
        a, b, c = (np.concatenate([[1], z[m][row]]) for m in TRIPLE)
        np.testing.assert_allclose(
            shared(fused)[row], np.einsum('i,j,l,ijlk->k', a, b, c, tensor), rtol=2e-3, atol=1e-3
        )


def test_an_absent_factor_of_a_product_is_one(random_parameters):
    p, fused, z = pooled_case(LowRank, PAIR, random_parameters)  # in row 2 the text is absent
    alone = np.einsum('d,drk->rk', z['image'][2], p['factor_image']) + p['one_image']
    np.testing.assert_allclose(shared(fused)[2], np.einsum('rk,r->k', alone, p['weight']), rtol=1e-4, atol=1e-5)


def test_factorised_bilinear_is_that_of_numpy(random_parameters):
    p, fused, z = pooled_case(FactorizedBilinear, PAIR, random_parameters)
    u, v = (np.einsum('bd,dok->bok', z[m], p[f'factor_{m}']['kernel']) + p[f'factor_{m}']['bias'] for m in PAIR)
    y = (u * v).sum(-1)
    y = y / np.sqrt(np.abs(y) + 1e-4)
    y = y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(shared(fused)[:2], y[:2], rtol=1e-3, atol=1e-3)


def test_mutan_is_that_of_numpy(random_parameters):
    p, fused, z = pooled_case(Mutan, PAIR, random_parameters)
    projected = {m: np.tanh(z[m] @ p[f'project_{m}']['kernel'] + p[f'project_{m}']['bias']) for m in PAIR}
    slices = {m: np.einsum('bk,krd->brd', projected[m], p[f'core_{m}']) for m in PAIR}
    np.testing.assert_allclose(shared(fused)[:2], (slices['image'] * slices['text']).sum(1)[:2], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('design', [Mutan, FactorizedBilinear])
def test_products_admit_two_modalities_only(design):
    """Told with the first tokens, and before, by the check of an experiment."""
    told = rf'{design.__name__} admits 2 modalities, the model has 3 \(audio, image, text\)'
    with pytest.raises(UserError, match=told):
        build(design).init(jax.random.key(0), make_tokens(TRIPLE), train=False)
    experiment = toy.experiment()
    encoders = {**experiment.model.encoders, 'audio': experiment.model.encoders['text'].copy()}
    with pytest.raises(UserError, match=told):
        dataclasses.replace(experiment, model=experiment.model.clone(encoders=encoders, fusion=build(design))).check()


def test_the_gated_unit_of_two_is_a_sigmoid(random_parameters):
    """Arevalo et al. 2017: softmax over two scores is a sigmoid of their difference."""
    p, fused, z = pooled_case(GatedUnit, PAIR, random_parameters)
    h = {m: np.tanh(z[m] @ p[f'project_{m}']['kernel'] + p[f'project_{m}']['bias']) for m in PAIR}
    scores = np.einsum('bd,dmk->bmk', np.concatenate([z[m] for m in PAIR], 1), p['gate']['kernel']) + p['gate']['bias']
    gate = expit(scores[:, 0] - scores[:, 1])
    expected = gate * h['image'] + (1 - gate) * h['text']
    expected[2] = h['image'][2]  # alone
    np.testing.assert_allclose(shared(fused), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(fused.aux['gate/image'][:2], gate.mean(-1)[:2], rtol=1e-3)


def test_weights_of_a_sum_are_those_of_the_present(random_parameters):
    p, fused, z = pooled_case(WeightedSum, PAIR, random_parameters)
    exp = {m: np.exp(p[f'score_{m}'][0]) for m in PAIR}
    h = {m: z[m] @ p[f'project_{m}']['kernel'] + p[f'project_{m}']['bias'] for m in PAIR}
    expected = sum(exp[m] * h[m] for m in PAIR) / sum(exp.values())
    expected[2] = h['image'][2]
    np.testing.assert_allclose(shared(fused), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fused.aux['weight/text'][2], 0)


def test_a_relation_network_is_a_loop_over_pairs(random_parameters):
    """Santoro et al. 2017, eq. 1, g and f of two layers and one: each pair with the question, one after the other."""
    p, fused, q = pooled_case(Relation, PAIR, random_parameters)
    (first, second, asked), mods = (p[f'g_{name}'] for name in ('first', 'second', 'question')), make_tokens(PAIR)
    matrix = np.concatenate([first['kernel'], second['kernel'], asked['kernel']])
    for row, text in enumerate((q['text'][0], q['text'][1], np.zeros(WIDTH))):  # in row 2 there is no text
        objects = np.asarray(mods['image'].values[row], np.float64)[np.asarray(mods['image'].mask[row])]
        found = []
        for a in objects:
            for b in objects:
                hidden = np.maximum(np.concatenate([a, b, text]) @ matrix + first['bias'], 0)
                found.append(np.maximum(hidden @ p['g_1']['kernel'] + p['g_1']['bias'], 0))
        assert len(found) == (16, 4, 16)[row]
        expected = np.maximum(np.mean(found, axis=0) @ p['f_0']['kernel'] + p['f_0']['bias'], 0)
        np.testing.assert_allclose(shared(fused)[row], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('design', [Mid, Experts, Multiway], ids=lambda cls: cls.__name__)
def test_with_tied_weights_it_is_early_fusion(design, random_parameters):
    early, mods = build(Early), make_tokens(PAIR)
    of_early = random_parameters(early, mods, train=False)['params']
    for name in PAIR:
        of_early[f'type_{name}'] = jnp.zeros_like(of_early[f'type_{name}'])
    layers = of_early['stack']['layers']
    attention, parts = layers['attend'], ('query', 'key', 'value', 'out')
    tied = {
        Mid: dict.fromkeys(PAIR, layers),
        Experts: {f'{m}_{part}': attention[part] for m in PAIR for part in parts}
        | {f'{part}_{m}': layers[part] for m in PAIR for part in ('norm_attention', 'norm_mlp', 'feed_forward')},
        Multiway: {'attend': attention, 'norm_attention': layers['norm_attention']}
        | {f'{part}_{m}': layers[part] for m in PAIR for part in ('norm_mlp', 'feed_forward')},
    }
    module = build(design, fusion_layer=0, depth=2)
    params = {f'norm_{name}': of_early[f'norm_{name}'] for name in PAIR} | {'layers': tied[design]}
    found, expected = apply(module, {'params': params}, mods), apply(early, {'params': of_early}, mods)
    for name in PAIR:
        mask = np.asarray(mods[name].mask)
        np.testing.assert_allclose(
            found.streams[name].values[mask], expected.streams[name].values[mask], rtol=1e-4, atol=1e-4
        )


def test_with_one_expert_for_all_it_is_early_fusion(random_parameters):
    early, mods = build(Early), make_tokens(PAIR)
    of_early = random_parameters(early, mods, train=False)
    expected = apply(early, of_early, mods)
    params = dict(of_early['params'])
    layers = dict(params.pop('stack')['layers'])
    layers['mixture'] = jax.tree.map(lambda x: x[:, None], layers.pop('feed_forward'))
    layers['mixture']['router'] = jnp.ones((2, WIDTH, 1))
    found = apply(build(Routed, experts=1, top_k=1), {'params': params | {'layers': layers}}, mods)
    for name in PAIR:
        mask = np.asarray(mods[name].mask)
        np.testing.assert_allclose(found.streams[name].values[mask], expected.streams[name].values[mask], atol=1e-4)
    np.testing.assert_array_equal(
        found.aux['router'][:, :, :, 0, 0], np.tile([[[4, 3]], [[2, 3]], [[4, 0]]], (1, 2, 1))
    )


def test_a_graph_with_open_gates_is_coattention_without_the_rest(random_parameters):
    """Of two modalities; the self-attention and MLP of co-attention are made to give zero."""
    coattention, mods = build(Coattention), make_tokens(PAIR)
    params = random_parameters(coattention, mods, train=False)['params']
    layers, rounds = params['layers'], {}
    for a, b in (PAIR, PAIR[::-1]):
        for last in (layers[f'block_{a}']['attend']['out'], layers[f'block_{a}']['feed_forward']['down']):
            last.update(jax.tree.map(jnp.zeros_like, dict(last)))
        rounds |= {
            f'norm_{a}': layers[f'norm_cross_{a}'],
            f'cross_{a}_{b}': layers[f'cross_{a}'],
            f'edge_{a}_{b}': jnp.zeros((2, 2 * WIDTH)),
            f'edge_bias_{a}_{b}': jnp.full((2, 1), 40.0),  # whose sigmoid is 1
        }
    of_graph = {name: params[name] for name in ('norm_image', 'norm_text')} | {'rounds': rounds}
    found, expected = apply(build(Graph), {'params': of_graph}, mods), apply(coattention, {'params': params}, mods)
    for name in PAIR:
        np.testing.assert_allclose(found.streams[name].values, expected.streams[name].values, atol=1e-5)
    gates = found.aux['gate/image<-text']
    np.testing.assert_array_equal(gates, [[1, 1], [1, 1], [0, 0]])  # in row 2 there is no text
    np.testing.assert_array_equal(found.aux['gate/text<-image'], np.ones((3, 2)))


@pytest.mark.parametrize('design', [Film, GatedCrossAttention], ids=lambda cls: cls.__name__)
def test_before_training_the_reader_is_alone(design):
    """Gates start at zero: the stream is the same bit for bit whatever the others hold; gradients can open them."""
    module, mods = build(design, reader='text'), make_tokens(PAIR)
    fresh = jax.jit(lambda key: meta.unbox(module.init(key, mods, train=False)))(jax.random.key(0))
    other = mods | {'image': mods['image'].replace(values=mods['image'].values + 3)}
    plain, changed = apply(module, fresh, mods), apply(module, fresh, other)
    np.testing.assert_array_equal(plain.streams['text'].values, changed.streams['text'].values)

    def total(params):
        return jnp.square(module.apply(params, mods, train=False).streams['text'].values).sum()

    gradient = jax.jit(jax.grad(total))(fresh)['params']['layers']
    closed = [name for name in gradient if name.startswith('gate_') or name == 'kernel']
    assert closed and all(np.abs(gradient[name]).max() > 1e-6 for name in closed)


@pytest.mark.parametrize('design', [Film, GatedCrossAttention], ids=lambda cls: cls.__name__)
def test_an_unknown_reader_is_told(design):
    with pytest.raises(UserError, match="no modality 'texx'; did you mean 'text'"):
        build(design, reader='texx').init(jax.random.key(0), make_tokens(PAIR), train=False)


def test_latents_do_not_depend_on_the_order_of_tokens(case):
    module, params, mods = case(Resampler, PAIR)
    mixed = {name: jax.tree.map(lambda x: x[:, ::-1], x) for name, x in mods.items()}
    found, expected = apply(module, params, mixed), apply(module, params, mods)
    for name in PAIR:
        assert found.streams[name].mask.shape == (3, module.num_tokens)
        np.testing.assert_allclose(found.streams[name].values, expected.streams[name].values, atol=2e-5)


def test_one_convolution_over_the_grid_is_that_of_numpy(random_parameters):
    """Partial convolution by loops; in row 1 two cells have no image, in row 2 there is no text."""
    module, mods = build(Grid, depth=1, entry_norm=NoNorm()), make_tokens(PAIR)
    params = random_parameters(module, mods, train=False)
    kernel = numpy_of(params)['conv_0']['kernel']
    image, text = (np.asarray(mods[name].values, np.float64) for name in PAIR)
    on_image, on_text = (np.asarray(mods[name].mask) for name in PAIR)
    expected = np.zeros((3, 2, 2, WIDTH))
    for b, y, x in np.ndindex(3, 2, 2):
        total, seen = np.zeros(WIDTH), 0.0
        for i, j in np.ndindex(3, 3):
            v, u = y + i - 1, x + j - 1
            if 0 <= v < 2 and 0 <= u < 2:
                if on_image[b, 2 * v + u]:
                    total, seen = total + image[b, 2 * v + u] @ kernel[i, j, :WIDTH], seen + 0.5
                if on_text[b].any():
                    total, seen = total + text[b][on_text[b]].mean(0) @ kernel[i, j, WIDTH:], seen + 0.5
        expected[b, y, x] = total * 9 / seen
    found = apply(module, params, mods).shared
    np.testing.assert_allclose(found.values, expected.reshape(3, 4, WIDTH), rtol=1e-3, atol=1e-4)
    assert found.mask[:2].all() and found.mask[2].all()


def test_tokens_that_are_no_grid_are_told():
    with pytest.raises(UserError, match='image has 4 tokens, which are not 3 rows x 2 columns'):
        build(Grid, rows=3).init(jax.random.key(0), make_tokens(PAIR), train=False)
    assert LENGTHS['image'] == 4


def test_empty_rows_stay_finite(case):
    """A row of which every modality is absent, in the designs that divide by how many there are."""
    for design in (GatedUnit, WeightedSum, Grid):
        module, params, mods = case(design, PAIR)
        fused = apply(module, params, {name: x.replace(mask=jnp.zeros_like(x.mask)) for name, x in mods.items()})
        assert np.isfinite(fused.shared.values).all() and not fused.shared.mask.any()
        assert isinstance(fused.shared, Tokens)


@pytest.mark.parametrize('design', [Early, Experts, Coattention], ids=lambda cls: cls.__name__)
def test_heads_of_a_width_of_their_own(design, random_parameters):
    """The attention of the block is a template of which designs take the parts."""
    module, mods = build(design, block=Block(attention=GroupedAttention(heads=2, head_dim=6))), make_tokens(PAIR)
    fused = apply(module, random_parameters(module, mods, train=False), mods)
    assert all(x.values.shape == mods[name].values.shape for name, x in fused.streams.items())


@pytest.mark.parametrize('design', [Experts, Multiway, Routed], ids=lambda cls: cls.__name__)
def test_layers_that_are_pre_norm_take_no_other_block(design):
    with pytest.raises(UserError, match='these layers are pre-norm'):
        build(design, block=PostNormBlock()).init(jax.random.key(0), make_tokens(PAIR), train=False)


def test_late_fusion_takes_modalities_of_different_widths():
    mods = make_tokens(PAIR)
    mods['text'] = mods['text'].replace(values=mods['text'].values[..., :8])
    shapes = jax.eval_shape(lambda: build(Late).init_with_output(jax.random.key(0), mods, train=False))[0].streams
    assert {name: x.values.shape[-1] for name, x in shapes.items()} == {'image': WIDTH, 'text': 8}
    with pytest.raises(UserError, match='different widths'):
        build(Early).init(jax.random.key(0), mods, train=False)


def test_visual_embedding_adds_the_whole_image_to_every_word(random_parameters):
    """`Early` on words to which W times the mean of the image's real tokens, with their type, was added by hand."""
    module, mods = build(VisualEmbedding, entry_norm=NoNorm()), make_tokens(PAIR)
    params = random_parameters(module, mods, train=False)
    p = numpy_of(params)
    mean = np.asarray(masked_mean(mods['image']), np.float64) + p['type_image']
    shifted = np.asarray(mods['text'].values, np.float64) + (mean @ p['visual']['kernel'])[:, None]
    plain = mods | {'text': mods['text'].replace(values=jnp.asarray(shifted, jnp.float32))}
    rest = {'params': {name: x for name, x in params['params'].items() if name != 'visual'}}
    expected, found = apply(build(Early, entry_norm=NoNorm()), rest, plain), apply(module, params, mods)
    for name in PAIR:
        real = np.asarray(mods[name].mask)
        np.testing.assert_allclose(found.streams[name].values[real], expected.streams[name].values[real], atol=2e-4)
    with pytest.raises(UserError, match="no modality 'image'"):
        module.init(jax.random.key(0), {'text': mods['text']}, train=False)
