"""What steps took on hardware, as published, over what is estimated of them: the one tie of estimates to a clock.

    scripts/calibrate_plan

plans the decoders of `experiments/scale/published.py`, each into a file of `experiments/scale`, and writes
`experiments/scale/calibration.json`; a plan whose file is there already is taken from it. Measured: MaxText's
documentation, reference/models/tiering. Theirs is another program of the same shape (what they keep for the backward
pass, and their flags, are not all to be had here: see published.py), so the factor holds their gains and losses too.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import mmjax
from mmjax.config import load_file
from mmjax.experiment import Experiment
from mmjax.plan.parts import SECONDS, say
from mmjax.plan.single import only_compile, plan
from mmjax.plan.topologies import parse_topology
from mmjax.train.files import read_json, write_json

SCALE = Path(mmjax.__file__).parent.parent / 'experiments' / 'scale'
FILE = SCALE / 'calibration.json'
HOST = ' (traffic to the host not counted)'
COMPUTE = {'cycles': 'compute_seconds', 'roofline': 'roofline_seconds'}  # two estimates of what the kernels are not in


class Measured(NamedTuple):
    """A published step: the function of published.py, the slice, tokens a second and device."""

    config: str
    topology: str
    tokens: float

    @property
    def file(self) -> Path:
        return SCALE / f'{self.config}_{self.topology.replace(":", "_")}.json'


MEASURED = (
    Measured('llama2_70b', 'v5p:8x8x8', 692.0),
    Measured('llama3_8b', 'v6e:16x16', 7207.0),
    Measured('llama2_70b_host', 'v6e:16x16', 900.0),
)


def calibrated(plans: dict[Measured, dict[str, Any]]) -> dict[str, Any]:
    """Flat: of each plan `NAME/measured_seconds`, and `NAME/cycles` and `NAME/roofline`, two estimates: that compute,
    other kernels, attention and links, one after another. Of both `cycles/factor`, the geometric mean of measured over
    estimated, `cycles/low`, `cycles/high`, `cycles/cases` and their names, `cycles/of`. Where no clock is known there
    is no estimate from cycles. `NAME/host_gib` where buffers lie on the host: traffic to it is in no estimate.
    """
    result, ratios, names = {}, {name: [] for name in COMPUTE}, {name: [] for name in COMPUTE}
    for measured, told in plans.items():
        seconds = told['tokens_per_device'] / measured.tokens
        key = f'{measured.config}/{measured.topology}'
        result |= {f'{key}/measured_seconds': seconds, f'{key}/jax': told['jax'], f'{key}/libtpu': told['libtpu']}
        if told['host_gib']:
            result[f'{key}/host_gib'] = told['host_gib']
        beside = told['other_kernel_seconds'] + told[SECONDS['attention']] + told[SECONDS['links']]
        for name, compute in COMPUTE.items():
            if compute in told:
                estimate = told[compute] + beside
                ratios[name].append(seconds / estimate)
                names[name].append(f'{measured.config} on {measured.topology}{HOST if told["host_gib"] else ""}')
                result[f'{key}/{name}'] = estimate
    for name, found in ratios.items():
        if found:
            mean = math.exp(sum(map(math.log, found)) / len(found))
            result |= {f'{name}/factor': mean, f'{name}/low': min(found), f'{name}/high': max(found)}
            result |= {f'{name}/cases': len(found), f'{name}/of': ', '.join(names[name])}
    return result


def calibration(result: dict[str, Any]) -> dict[str, Any]:
    """For a plan with a time: the `calibration/factor`, `low`, `high` and `cases` of the estimate that it is made by
    (`calibration/by`), and which steps these are (`of`); nothing where no step was measured.
    """
    name = 'cycles' if 'compute_seconds' in result else 'roofline'
    known = read_json(FILE) if FILE.exists() else {}
    if SECONDS['compute'] not in result or f'{name}/of' not in known:
        return {}
    told = ('factor', 'low', 'high', 'cases', 'of')
    return {'calibration/by': name} | {f'calibration/{what}': known[f'{name}/{what}'] for what in told}


def main() -> None:
    """Plans what is missing; libtpu takes some minutes for each."""
    only_compile()
    plans = {}
    for measured in MEASURED:
        if not measured.file.exists():
            experiment = load_file(f'{SCALE / "published.py"}:{measured.config}', kind=Experiment)
            say('calibration', f'{measured.config} on {measured.topology} …')
            write_json(measured.file, plan(experiment, parse_topology(measured.topology)).result)
        plans[measured] = read_json(measured.file)
        if not plans[measured]['fits']:
            say('calibration', f'{measured.config} on {measured.topology} does not fit: left out')
            del plans[measured]
    result = calibrated(plans)
    write_json(FILE, result)
    for name, value in result.items():
        print(f'{name:44} {value:.4g}' if isinstance(value, float) else f'{name:44} {value}')


if __name__ == '__main__':
    main()
