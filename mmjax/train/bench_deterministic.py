"""`scripts/bench_deterministic`: the time of a deterministic step by that of a normal one, on virtual devices of a CPU.

The model and the batch of `check_accelerator`. In each round some steps of the normal program, of the deterministic
one, and of the normal one again: the ratio is to the mean of the two, and `noise` the most that these differed by.
"""

import argparse
import dataclasses
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmjax.data import train_batches
from mmjax.sharding import place_batch
from mmjax.train.check_parts import experiment, size_for
from mmjax.train.files import write_json
from mmjax.train.manifest import code_version
from mmjax.train.mesh_equality import prepared

RESULT = Path('experiments', 'bench', 'deterministic.json')
DEVICES, ROUNDS, STEPS = (1, 2, 8), 15, 4


def timed(devices: int, *, deterministic: bool) -> Callable[[], float]:
    """What takes `STEPS` steps, and tells their seconds."""
    of = dataclasses.replace(experiment(size_for('cpu', devices)), deterministic=deterministic)
    mesh, _, state, step = prepared(of, jax.devices()[:devices])
    stream = train_batches(of.data, batch_size=of.batch_size, seed=of.seed)
    batch = place_batch(next(stream), mesh)
    stream.close()
    held: list[Any] = [state]

    def take() -> float:
        began = time.perf_counter()
        with jax.set_mesh(mesh):
            for _ in range(STEPS):
                held[0] = step(held[0], batch)[0]
            jax.block_until_ready(held[0])
        return time.perf_counter() - began

    take()  # compiles
    return take


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='scripts/bench_deterministic', description=__doc__)
    parser.parse_args(argv)
    told: dict[str, Any] = {}
    for devices in DEVICES:
        normal, fixed = timed(devices, deterministic=False), timed(devices, deterministic=True)
        rounds = np.asarray([[normal(), fixed(), normal()] for _ in range(ROUNDS)])
        ratios = rounds[:, 1] / rounds[:, [0, 2]].mean(axis=1)
        found = {
            'ratio_median': float(np.median(ratios)),
            'ratio_min': float(ratios.min()),
            'ratio_max': float(ratios.max()),
            'noise': float(np.abs(rounds[:, 2] / rounds[:, 0] - 1).max()),
            'noise_median': float(np.median(np.abs(rounds[:, 2] / rounds[:, 0] - 1))),
            'normal_seconds': float(np.median(rounds[:, [0, 2]]) / STEPS),
        }
        told |= {f'{devices}/{name}': round(value, 4) for name, value in found.items()}
        print(f'{devices} device(s)', {name: round(value, 3) for name, value in found.items()}, flush=True)
    RESULT.parent.mkdir(exist_ok=True)
    about = {'rounds': ROUNDS, 'cores': os.cpu_count(), 'platform': platform.machine(), 'jax': jax.__version__}
    write_json(RESULT, told | about | code_version())
    return 0


if __name__ == '__main__':
    sys.exit(main())
