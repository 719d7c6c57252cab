"""`scripts/bench_activations`: `cost().activation_bytes` of every design against what the compiler sets aside.

The compiler's figure is the temporary memory of the compiled gradient of the design, layers unrolled, by
`memory_analysis()`. Beside what is kept for the backward pass it holds the largest of what lives at once meanwhile, and
it leaves out what was recomputed, fused or given the place of something dead: a ratio of 1 is not to be expected.
"""

import argparse
import dataclasses
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.config.swaps import concrete
from mmjax.fusion.base import Fusion
from mmjax.nn.lora import Lora
from mmjax.train.files import write_json
from mmjax.train.manifest import code_version
from mmjax.types import Tokens

RESULT = Path('experiments', 'bench', 'activations.json')
LENGTHS, WIDTH, BATCH = {'image': 64, 'text': 32}, 128, 8  # an image of 8 x 8 tokens


def ratio(fusion: Fusion) -> float:
    """Estimated bytes by the compiler's temporary bytes."""
    mods = {name: Tokens.of(jnp.zeros((BATCH, n, WIDTH)), jnp.ones((BATCH, n), bool)) for name, n in LENGTHS.items()}
    variables = jax.eval_shape(lambda: fusion.init(jax.random.key(0), mods, train=True))

    def total(variables: Any, values: Any) -> Any:
        fused = fusion.apply(variables, {name: mods[name].replace(values=x) for name, x in values.items()}, train=True)
        return jnp.stack([(x.values**2).sum() for x in fused.readable().values()]).sum()

    values = {name: x.values for name, x in mods.items()}
    compiled = jax.jit(jax.grad(total, argnums=(0, 1))).lower(variables, values).compile()
    memory = compiled.memory_analysis()
    assert memory is not None, 'this backend does not tell its memory'
    return fusion.cost(LENGTHS, width=WIDTH, batch=BATCH).activation_bytes / memory.temp_size_in_bytes


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='scripts/bench_activations', description=__doc__)
    parser.parse_args(argv)
    ratios: dict[str, float] = {}
    for cls in concrete(Fusion):
        if issubclass(cls, Lora) or cls.modalities not in (None, len(LENGTHS)):  # a wrapper is no design
            continue
        set_here: dict[str, Any] = {'unroll': getattr(cls, 'depth', 0) or 1, 'rows': 8, 'columns': 8}
        fields = {field.name for field in dataclasses.fields(cls)}
        ratios[cls.__name__] = round(ratio(cls(**{k: v for k, v in set_here.items() if k in fields})), 2)
        print(f'{cls.__name__:22} {ratios[cls.__name__]:.2f}', flush=True)
    print(f'median {np.median(list(ratios.values())):.2f}, {min(ratios.values())} to {max(ratios.values())}')
    RESULT.parent.mkdir(exist_ok=True)
    median = round(float(np.median(list(ratios.values()))), 2)
    told = {'ratios': ratios, 'ratio_median': median, 'lengths': LENGTHS, 'width': WIDTH, 'batch': BATCH}
    write_json(RESULT, told | {'platform': platform.machine(), 'jax': jax.__version__} | code_version())
    return 0


if __name__ == '__main__':
    sys.exit(main())
