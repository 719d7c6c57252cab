"""Which weight of transformers is which of ours, a table a model: (its name or names, our path, how it is laid out).

`*` in a name is the number of a layer; ours have all layers in one array. How: a pattern of einops, or a function of
the arrays.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from einops import rearrange

Row = tuple[str | tuple[str, ...], str, str | Callable[..., Any]]


def same(foreign: str, ours: str) -> list[Row]:
    return [(foreign, ours, lambda x: x)]


def dense(foreign: str, ours: str, kernel: str = 'o i -> i o', bias: str = 'o -> o') -> list[Row]:
    return [(f'{foreign}.weight', f'{ours}/kernel', kernel), (f'{foreign}.bias', f'{ours}/bias', bias)]


def heads(foreign: str, ours: str) -> list[Row]:
    return dense(foreign, ours, '(h k) d -> d h k', '(h k) -> h k')


def out(foreign: str, ours: str) -> list[Row]:
    return dense(foreign, ours, 'd (h k) -> h k d')


def norm(foreign: str, ours: str) -> list[Row]:
    return [*same(f'{foreign}.weight', f'{ours}/scale'), *same(f'{foreign}.bias', f'{ours}/bias')]


def part(i: int, of: int, pattern: str) -> Callable[[np.ndarray], np.ndarray]:
    """The i-th of `of` matrices that are one array."""
    return lambda x: rearrange(np.split(x, of)[i], pattern, h=4)


def packed(foreign: str, ours: str) -> list[Row]:
    """torch's MultiheadAttention: queries, keys and values in one matrix."""
    rows: list[Row] = []
    for i, kind in enumerate(('query', 'key', 'value')):
        rows.append((f'{foreign}.in_proj_weight', f'{ours}/{kind}/kernel', part(i, 3, '(h k) d -> d h k')))
        rows.append((f'{foreign}.in_proj_bias', f'{ours}/{kind}/bias', part(i, 3, '(h k) -> h k')))
    return rows + out(f'{foreign}.out_proj', f'{ours}/out')


PATCHES = 'd c p q -> (p q c) d'

VIT: list[Row] = [
    *dense('vit.embeddings.patch_embeddings.projection', 'encoders_image/patches', PATCHES),
    (
        ('vit.embeddings.cls_token', 'vit.embeddings.position_embeddings'),
        'encoders_image/place/class_token',
        lambda token, positions: token[0, 0] + positions[0, 0],
    ),
    ('vit.embeddings.position_embeddings', 'encoders_image/place/inner/embedding', lambda x: x[0, 1:]),
    *norm('vit.layers.*.layernorm_before', 'encoders_image/stack/layers/norm_attention'),
    *heads('vit.layers.*.attention.q_proj', 'encoders_image/stack/layers/attend/query'),
    *heads('vit.layers.*.attention.k_proj', 'encoders_image/stack/layers/attend/key'),
    *heads('vit.layers.*.attention.v_proj', 'encoders_image/stack/layers/attend/value'),
    *out('vit.layers.*.attention.o_proj', 'encoders_image/stack/layers/attend/out'),
    *norm('vit.layers.*.layernorm_after', 'encoders_image/stack/layers/norm_mlp'),
    *dense('vit.layers.*.mlp.fc1', 'encoders_image/stack/layers/feed_forward/up'),
    *dense('vit.layers.*.mlp.fc2', 'encoders_image/stack/layers/feed_forward/down'),
    *norm('vit.layernorm', 'fusion/norm_image'),
    *dense('classifier', 'decoders_logits/logits'),
]


def clip_layers(foreign: str, ours: str) -> list[Row]:
    """CLIP's layers and SigLIP's, of images and of text."""
    return [
        *norm(f'{foreign}.layer_norm1', f'{ours}/norm_attention'),
        *heads(f'{foreign}.self_attn.q_proj', f'{ours}/attend/query'),
        *heads(f'{foreign}.self_attn.k_proj', f'{ours}/attend/key'),
        *heads(f'{foreign}.self_attn.v_proj', f'{ours}/attend/value'),
        *out(f'{foreign}.self_attn.out_proj', f'{ours}/attend/out'),
        *norm(f'{foreign}.layer_norm2', f'{ours}/norm_mlp'),
        *dense(f'{foreign}.mlp.fc1', f'{ours}/feed_forward/up'),
        *dense(f'{foreign}.mlp.fc2', f'{ours}/feed_forward/down'),
    ]


CLIP: list[Row] = [
    ('vision_model.embeddings.patch_embedding.weight', 'encoders_image/patches/kernel', PATCHES),
    ((), 'encoders_image/patches/bias', lambda: 0),  # CLIP's patches have none
    (
        ('vision_model.embeddings.class_embedding', 'vision_model.embeddings.position_embedding.weight'),
        'encoders_image/place/inner/class_token',
        lambda token, positions: token + positions[0],
    ),
    (
        'vision_model.embeddings.position_embedding.weight',
        'encoders_image/place/inner/inner/embedding',
        lambda x: x[1:],
    ),
    *norm('vision_model.pre_layrnorm', 'encoders_image/place/norm_embedded'),
    *clip_layers('vision_model.encoder.layers.*', 'encoders_image/stack/layers'),
    *norm('vision_model.post_layernorm', 'decoders_image/norm_tokens'),
    ('visual_projection.weight', 'decoders_image/project/kernel', 'o i -> i o'),
    *same('text_model.embeddings.token_embedding.weight', 'encoders_text/embed/embedding'),
    *same('text_model.embeddings.position_embedding.weight', 'encoders_text/place/embedding'),
    *clip_layers('text_model.encoder.layers.*', 'encoders_text/stack/layers'),
    *norm('text_model.final_layer_norm', 'decoders_text/norm_tokens'),
    ('text_projection.weight', 'decoders_text/project/kernel', 'o i -> i o'),
    ('logit_scale', 'decoders_temperature/numbers', lambda x: np.stack([x, 0])),  # and no bias
]

SIGLIP: list[Row] = [
    *dense('vision_model.embeddings.patch_embedding', 'encoders_image/patches', PATCHES),
    *same('vision_model.embeddings.position_embedding.weight', 'encoders_image/place/embedding'),
    *clip_layers('vision_model.encoder.layers.*', 'encoders_image/stack/layers'),
    *norm('vision_model.post_layernorm', 'decoders_image/norm_tokens'),
    ('vision_model.head.probe', 'decoders_image/pooled/probe', '1 1 d -> d'),
    *packed('vision_model.head.attention', 'decoders_image/pooled/attend'),
    *norm('vision_model.head.layernorm', 'decoders_image/pooled/norm_mlp'),
    *dense('vision_model.head.mlp.fc1', 'decoders_image/pooled/feed_forward/up'),
    *dense('vision_model.head.mlp.fc2', 'decoders_image/pooled/feed_forward/down'),
    *same('text_model.embeddings.token_embedding.weight', 'encoders_text/embed/embedding'),
    *same('text_model.embeddings.position_embedding.weight', 'encoders_text/place/embedding'),
    *clip_layers('text_model.encoder.layers.*', 'encoders_text/stack/layers'),
    *norm('text_model.final_layer_norm', 'decoders_text/norm_tokens'),
    *dense('text_model.head', 'decoders_text/project'),
    (('logit_scale', 'logit_bias'), 'decoders_temperature/numbers', lambda scale, bias: np.concatenate([scale, bias])),
]


def bert_layers(foreign: str, ours: str) -> list[Row]:
    return [
        *heads(f'{foreign}.attention.self.query', f'{ours}/attend/query'),
        *heads(f'{foreign}.attention.self.key', f'{ours}/attend/key'),
        *heads(f'{foreign}.attention.self.value', f'{ours}/attend/value'),
        *out(f'{foreign}.attention.output.dense', f'{ours}/attend/out'),
        *norm(f'{foreign}.attention.output.LayerNorm', f'{ours}/norm_attention'),
        *dense(f'{foreign}.intermediate.dense', f'{ours}/feed_forward/up'),
        *dense(f'{foreign}.output.dense', f'{ours}/feed_forward/down'),
        *norm(f'{foreign}.output.LayerNorm', f'{ours}/norm_mlp'),
    ]


BERT: list[Row] = [
    *same('bert.embeddings.word_embeddings.weight', 'encoders_text/embed/embedding'),
    *same('bert.embeddings.token_type_embeddings.weight', 'encoders_text/types'),
    *same('bert.embeddings.position_embeddings.weight', 'encoders_text/place/inner/embedding'),
    *norm('bert.embeddings.LayerNorm', 'encoders_text/place/norm_embedded'),
    *bert_layers('bert.encoder.layer.*', 'encoders_text/stack/layers'),
    *dense('bert.pooler.dense', 'decoders_logits/pooled/dense'),
    *dense('classifier', 'decoders_logits/logits'),
]

ROFORMER: list[Row] = [
    *same('embeddings.word_embeddings.weight', 'encoders_text/embed/embedding'),
    *same('embeddings.token_type_embeddings.weight', 'encoders_text/types'),
    *norm('embeddings.LayerNorm', 'encoders_text/place/norm_embedded'),
    *bert_layers('encoder.layer.*', 'encoders_text/stack/layers'),
]

GEMMA: list[Row] = [
    *same('embed_tokens.weight', 'encoders_text/embed/embedding'),
    *same('layers.*.input_layernorm.weight', 'encoders_text/stack/layers/norm_attention/excess'),
    ('layers.*.self_attn.q_proj.weight', 'encoders_text/stack/layers/attend/query/kernel', '(h k) d -> d h k'),
    ('layers.*.self_attn.k_proj.weight', 'encoders_text/stack/layers/attend/key/kernel', '(h k) d -> d h k'),
    ('layers.*.self_attn.v_proj.weight', 'encoders_text/stack/layers/attend/value/kernel', '(h k) d -> d h k'),
    ('layers.*.self_attn.o_proj.weight', 'encoders_text/stack/layers/attend/out/kernel', 'd (h k) -> h k d'),
    *same('layers.*.post_attention_layernorm.weight', 'encoders_text/stack/layers/norm_mlp/excess'),
    ('layers.*.mlp.gate_proj.weight', 'encoders_text/stack/layers/feed_forward/gate/kernel', 'o i -> i o'),
    ('layers.*.mlp.up_proj.weight', 'encoders_text/stack/layers/feed_forward/up/kernel', 'o i -> i o'),
    ('layers.*.mlp.down_proj.weight', 'encoders_text/stack/layers/feed_forward/down/kernel', 'o i -> i o'),
    *same('norm.weight', 'fusion/norm_text/excess'),
]


def fill(table: Sequence[Row], foreign: dict[str, np.ndarray], shapes: Any, *, layers: int) -> Any:
    """Our parameters, of the tree `shapes`, from all of the foreign weights.

    Raises:
        AssertionError: where one of theirs is left over, one of ours is not filled, or a shape differs.
    """
    paths = jax.tree_util.tree_flatten_with_path(shapes)[0]
    ours = {'/'.join(key.key for key in path): leaf.shape for path, leaf in paths}
    filled, used = {}, set()
    for names, path, how in table:
        assert path in ours, f'we have no {path}'
        assert path not in filled, f'{path} is filled twice'
        names = (names,) if isinstance(names, str) else names
        stacked = any('*' in name for name in names)
        found = []
        for layer in range(layers) if stacked else (0,):
            here = [name.replace('*', str(layer)) for name in names]
            assert set(here) <= set(foreign), f'the foreign model has no {set(here) - set(foreign)}'
            used |= set(here)
            found.append(_laid_out([foreign[name] for name in here], how, ours[path][stacked:]))
        filled[path] = np.stack(found) if stacked else found[0]
        assert filled[path].shape == ours[path], f'{path}: {ours[path]} here, {filled[path].shape} from {names}'
    assert filled.keys() == ours.keys(), f'nothing fills {ours.keys() - filled.keys()}'
    assert used == foreign.keys(), f'nothing takes {foreign.keys() - used}'
    tree = jax.tree_util.tree_structure(shapes)
    return jax.tree_util.tree_unflatten(tree, [filled['/'.join(key.key for key in path)] for path, _ in paths])


def _laid_out(arrays: list[np.ndarray], how: str | Callable[..., Any], shape: tuple[int, ...]) -> np.ndarray:
    if not isinstance(how, str):
        found = np.asarray(how(*arrays), np.float32)
        return found if arrays else np.broadcast_to(found, shape)
    letters = how.partition('->')[2].split()
    sizes = dict(zip(letters, shape, strict=True)) if all(letter.isalpha() for letter in letters) else {}
    composed = how[how.find('(') + 1 : how.find(')')].split() if '(' in how.partition('->')[0] else []
    return rearrange(arrays[0], how, **{letter: sizes[letter] for letter in composed})
