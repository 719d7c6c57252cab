"""`scripts/check_accelerator`: what a user of new devices wants to know first, measured on what is there.

mesh: the losses of 20 steps on each usual mesh against those on one device. precision: bfloat16 against float32, in a
forward pass and in attention, whose kernel is also held against the plain formula. resume: steps, a stop, the rest,
against all at once, bit for bit. speed: model FLOP/s of a sized step, and MFU where the peak of the device is known.

It is one process, which joins no others: of several hosts it checks the devices of the one that it is started on, and
not what goes between them.
"""

import argparse
import dataclasses
import functools
import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.data import train_batches
from mmjax.errors import UserError
from mmjax.experiment import Experiment
from mmjax.nn.attention import Attention
from mmjax.sharding import place_batch
from mmjax.sharding.presets import Dp
from mmjax.train.check_parts import SMALL, Size, experiment, mixture, size_for, tokens
from mmjax.train.files import check_writable
from mmjax.train.flops import PEAK_FLOPS, train_flops
from mmjax.train.mesh_equality import SAME, STEPS, alone, apart, on_each_mesh, prepared
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.resume import restore
from mmjax.train.run import train
from mmjax.train.state import create_state, mesh_of
from mmjax.train.step import predict_step

Result = dict[str, float | str | bool]

BFLOAT16 = 0.03  # of results in bfloat16, whose numbers are 1/256 apart
FLOAT32 = 1e-4  # of a kernel in float32


def check_meshes() -> Result:
    """`mesh/NAME`: the largest relative difference of a loss."""
    if len(jax.devices()) == 1:
        return {'mesh/told': 'one device: there is nothing to compare', 'mesh/passed': True}
    of = mixture(dataclasses.replace(SMALL, batch=math.lcm(SMALL.batch, len(jax.devices()))))
    reference, found = alone(of), on_each_mesh(of)
    differences = {name: apart(x, reference) for name, x in found.items() if not isinstance(x, str)}
    shown: Result = {f'mesh/{name}': differences.get(name, str(x)) for name, x in found.items()}
    if not differences:
        return {**shown, 'mesh/told': 'there is no mesh that these devices can be', 'mesh/passed': False}
    worst = max(differences, key=lambda name: differences[name])
    told = f'losses of {STEPS} steps differ by at most {differences[worst]:.1e} ({worst})'
    left_out = [name for name, x in found.items() if isinstance(x, str)]
    if left_out:
        told += f'; left out, and so not checked: {", ".join(left_out)}'
    return {**shown, 'mesh/told': told, 'mesh/passed': bool(differences[worst] <= SAME)}


def check_precision() -> Result:
    """`precision/…`: differences relative to the largest number, of the model's logits and of attention."""
    small = experiment(SMALL)
    batch = first_batch(small)
    params = jax.jit(functools.partial(create_state, small, shapes_of_batch(small)))().params
    logits = {}
    for precision in ('float32', 'bfloat16'):
        run = functools.partial(predict_step, experiment=dataclasses.replace(small, precision=precision))
        with jax.default_matmul_precision('highest' if precision == 'float32' else 'default'):
            logits[precision] = jax.jit(run)(params, batch)['answer']
    found = {'precision/logits_bfloat16': _apart(logits['bfloat16'], logits['float32'])}
    for dtype in ('float32', 'bfloat16'):
        found[f'precision/attention_{dtype}'] = attention_apart(dtype)
    bounds = {name: FLOAT32 if name.endswith('float32') else BFLOAT16 for name in found}
    told = 'relative: ' + ', '.join(f'{name.removeprefix("precision/")} {x:.1e}' for name, x in found.items())
    passed = all(found[name] <= bound for name, bound in bounds.items())
    return {**found, 'precision/told': told, 'precision/passed': passed}


def attention_apart(dtype: str) -> float:
    """How far results and gradients of attention by this backend's kernel are from the plain formula in float32."""
    attention, x = Attention(heads=4), tokens()
    params = attention.init(jax.random.key(0), x, x)['params']

    def loss(values: Any, params: Any, *, plain: bool) -> tuple[Any, Any]:
        read = x.replace(values=values)
        params = jax.tree.map(lambda p: p.astype(values.dtype), params)
        if plain:  # what the module does where its probabilities are asked for
            y, _ = attention.apply({'params': params}, read, read, mutable=['intermediates'])
        else:
            y: Any = attention.apply({'params': params}, read, read)
        return (y.astype(jnp.float32) ** 2).sum(), y

    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), static_argnames='plain')
    with jax.default_matmul_precision('highest'):
        plain = gradient(x.values, params, plain=True)
    with jax.default_matmul_precision('highest' if dtype == 'float32' else 'default'):
        fast = gradient(x.values.astype(dtype), params, plain=False)
    # All gradients by one scale: that of the keys' bias is zero in theory.
    gradients = [
        np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(g)]) for _, g in (fast, plain)
    ]
    return max(_apart(fast[0][1], plain[0][1]), _apart(*gradients))


def check_resume() -> Result:
    """Through real run directories: three steps, then three more, against six."""
    whole = dataclasses.replace(experiment(SMALL), steps=6)
    with tempfile.TemporaryDirectory() as directory:
        parts = Path(directory, 'parts'), Path(directory, 'whole')
        for run, steps in ((parts[0], 3), (parts[0], 6), (parts[1], 6)):
            train(dataclasses.replace(whole, steps=steps), workdir=str(run), report=False)
        shapes = shapes_of_batch(whole)
        states = [jax.tree.leaves(restore(str(run), whole, mesh_of(whole, shapes), shapes)) for run in parts]
        logs = [(run / 'metrics.jsonl').read_bytes() for run in parts]
    same = [bool((np.asarray(a) == np.asarray(b)).all()) for a, b in zip(*states, strict=True)]
    passed = all(same) and logs[0] == logs[1]
    told = 'stopped and resumed is bit for bit the uninterrupted run'
    if not passed:
        told = (
            f'{same.count(False)} of {len(same)} arrays differ; on a GPU `--deterministic True` may be what is missing'
        )
    return {'resume/arrays_that_differ': float(same.count(False)), 'resume/told': told, 'resume/passed': passed}


def check_speed(size: Size) -> Result:
    """Of a bfloat16 step (float32 on a CPU), data parallel, after it is compiled: the best of three rounds."""
    precision = 'float32' if jax.default_backend() == 'cpu' else 'bfloat16'
    sized = dataclasses.replace(experiment(size), precision=precision, mesh=Dp())
    devices = jax.devices()
    mesh, shapes, state, step = prepared(sized, devices)
    flops = train_flops(sized, state.params, shapes)
    seconds, metrics = [], {}
    with jax.set_mesh(mesh):
        batch = place_batch(first_batch(sized), mesh)
        for _ in range(2):
            state, metrics = step(state, batch)
        jax.block_until_ready(state)
        for _ in range(3):
            began = time.perf_counter()
            for _ in range(size.steps):
                state, metrics = step(state, batch)
            jax.block_until_ready(state)
            seconds.append((time.perf_counter() - began) / size.steps)
    rate, kind = flops / min(seconds), devices[0].device_kind
    found: Result = {'speed/flops_per_second': rate, 'speed/seconds_per_step': min(seconds)}
    told = f'{rate / 1e9:,.1f} GFLOP/s of the model in {precision}, {min(seconds) * 1e3:.1f} ms a step'
    peak = PEAK_FLOPS.get(kind)
    if peak:
        found['speed/mfu'] = rate / (peak * len(devices))
        told += f', MFU {found["speed/mfu"]:.1%}'
    else:
        told += f'; no peak is known for {kind}, so no MFU'
    return found | {'speed/told': told, 'speed/passed': math.isfinite(float(metrics['loss']))}


def first_batch(of: Experiment) -> dict[str, np.ndarray]:
    batches = train_batches(of.data, batch_size=of.batch_size, seed=of.seed)
    batch = next(batches)
    batches.close()
    return batch


def _apart(a: Any, b: Any) -> float:
    """The largest difference, relative to the largest number of b."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.abs(a - b).max() / np.abs(b).max())


def check_all() -> Result:
    """Prints a line for each check as it ends; returns all that was measured, and `passed`."""
    device = jax.devices()[0]
    found: Result = {'device': device.device_kind, 'devices': float(jax.device_count()), 'jax': jax.__version__}
    print(f'{jax.device_count()} x {device.device_kind}, jax {jax.__version__}', flush=True)
    checks = {
        'mesh': check_meshes,
        'precision': check_precision,
        'resume': check_resume,
        'speed': functools.partial(check_speed, size_for(jax.default_backend(), jax.device_count())),
    }
    for name, check in checks.items():
        began = time.perf_counter()
        found |= check()
        found[f'{name}/seconds'] = time.perf_counter() - began
        verdict = 'PASS' if found[f'{name}/passed'] else 'FAIL'
        print(f'{name:10} {verdict}  {found[f"{name}/told"]}  [{found[f"{name}/seconds"]:.0f} s]', flush=True)
    return found | {'passed': all(found[f'{name}/passed'] for name in checks)}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 all pass, 1 one does not, 2 the user's mistake."""
    parser = _Parser(
        prog='scripts/check_accelerator',
        description=(__doc__ or '').partition(': ')[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--json', metavar='FILE', help='also write what was measured as flat JSON')
    try:
        given = parser.parse_args(sys.argv[1:] if argv is None else argv)
        if given.json:
            check_writable(Path(given.json), flag='--json')
        found = check_all()
    except UserError as error:
        print(f'mmjax: error: {error}', file=sys.stderr)
        return 2
    if given.json:
        Path(given.json).write_text(json.dumps(found, indent=1) + '\n')
    return 0 if found['passed'] else 1


if __name__ == '__main__':
    sys.exit(main())
