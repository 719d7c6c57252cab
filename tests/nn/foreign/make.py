"""`scripts/foreign_blocks`: what the models of transformers give for the weights and inputs of weights.py.

Writes outputs.npz and parameters.json beside this file: names and shapes of each model's weights, versions of the
libraries. It imports nothing of mmjax and needs torch and transformers, which the tests do not.
"""

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
import weights

HERE = Path(__file__).parent
TEXT = torch.from_numpy(weights.ids())
PIXELS = torch.from_numpy(np.moveaxis(weights.images(), -1, 1).copy())
MASK = (TEXT != 0).long()
TYPES = torch.from_numpy(weights.types())
SIZES: dict[str, Any] = {'hidden_size': 24, 'intermediate_size': 40, 'num_hidden_layers': 2, 'num_attention_heads': 4}
IMAGE: dict[str, Any] = SIZES | {'image_size': weights.SIDE, 'patch_size': weights.PATCH}
WORDS: dict[str, Any] = SIZES | {'vocab_size': weights.VOCABULARY, 'pad_token_id': 0}
PLACES: dict[str, Any] = {'max_position_embeddings': weights.LENGTH}
IDS: dict[str, Any] = {'bos_token_id': weights.CLS, 'eos_token_id': weights.EOS}

Outputs = dict[str, torch.Tensor]


def vit() -> tuple[torch.nn.Module, Callable[[Any], Outputs]]:
    model = hf.ViTForImageClassification(hf.ViTConfig(**IMAGE, num_labels=5))

    def run(model: Any) -> Outputs:
        return {'logits': model(PIXELS).logits, 'image': model.vit(PIXELS).last_hidden_state}

    return model, run


def clip() -> tuple[torch.nn.Module, Callable[[Any], Outputs]]:
    config = hf.CLIPConfig(
        text_config=WORDS | PLACES | IDS, vision_config=IMAGE | {'hidden_size': 32}, projection_dim=12
    )

    def run(model: Any) -> Outputs:
        out = model(input_ids=TEXT, pixel_values=PIXELS, attention_mask=MASK)
        return {'image': out.image_embeds, 'text': out.text_embeds, 'scores': out.logits_per_image}

    return hf.CLIPModel(config), run


def siglip() -> tuple[torch.nn.Module, Callable[[Any], Outputs]]:
    """Its texts have no mask: padding is a word like others."""
    config = hf.SiglipConfig(text_config=WORDS | PLACES | IDS | {'projection_size': 24}, vision_config=IMAGE)

    def run(model: Any) -> Outputs:
        out = model(input_ids=torch.from_numpy(weights.filled_ids()), pixel_values=PIXELS)
        return {'image': out.image_embeds, 'text': out.text_embeds, 'scores': out.logits_per_image}

    return hf.SiglipModel(config), run


def bert() -> tuple[torch.nn.Module, Callable[[Any], Outputs]]:
    model = hf.BertForSequenceClassification(hf.BertConfig(**WORDS, **PLACES, num_labels=5))

    def run(model: Any) -> Outputs:
        inputs = {'input_ids': TEXT, 'attention_mask': MASK, 'token_type_ids': TYPES}
        return {'logits': model(**inputs).logits, 'text': model.bert(**inputs).last_hidden_state}

    return model, run


def roformer() -> tuple[torch.nn.Module, Callable[[Any], Outputs]]:
    model = hf.RoFormerModel(hf.RoFormerConfig(**WORDS, max_position_embeddings=16))
    inputs = {'input_ids': TEXT, 'attention_mask': MASK, 'token_type_ids': TYPES}
    return model, lambda model: {'text': model(**inputs).last_hidden_state}


def gemma() -> tuple[torch.nn.Module, Callable[[Any], Outputs]]:
    """Heads of another width than 24 / 4, two of them to one head of keys, another base of the rotation."""
    rope = {'rope_type': 'default', 'rope_theta': 500.0}
    sizes = {'num_key_value_heads': 2, 'head_dim': 10, 'rope_parameters': rope}
    model = hf.GemmaModel(hf.GemmaConfig(**WORDS, **IDS, **sizes))
    return model, lambda model: {'text': model(input_ids=TEXT, attention_mask=MASK).last_hidden_state}


def main() -> None:
    outputs, parameters = {}, {}
    for make in (vit, clip, siglip, bert, roformer, gemma):
        model, run = make()
        model.eval()
        with torch.no_grad():
            learned = {name: x for name, x in model.named_parameters() if x.requires_grad}
            for name, parameter in learned.items():
                parameter.copy_(torch.from_numpy(weights.weight(name, tuple(parameter.shape))))
            found = run(model)
        parameters[make.__name__] = {name: list(parameter.shape) for name, parameter in learned.items()}
        outputs |= {f'{make.__name__}/{name}': value.numpy() for name, value in found.items()}
    np.savez(HERE / 'outputs.npz', **outputs)
    versions = {'torch': torch.__version__.partition('+')[0], 'transformers': hf.__version__, 'numpy': np.__version__}
    told = {'versions': versions | {'python': platform.python_version()}, 'parameters': parameters}
    (HERE / 'parameters.json').write_text(json.dumps(told, indent=1) + '\n')
    print(f'{len(outputs)} outputs of {len(parameters)} models in {HERE}, by {versions}')


if __name__ == '__main__':
    main()
