"""`scripts/check_studies`: the `--quick` form of every study of experiments/, to its report, each in ten minutes."""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmjax.config import config_hash, load_file
from mmjax.study.study import Study, quick
from mmjax.train.files import read_json, write_json
from mmjax.train.manifest import code_version

EXPERIMENTS, RESULT = Path('experiments'), Path('experiments', 'bench', 'quick.json')
LIMIT = 600  # seconds


def check(file: Path, directory: Path) -> dict[str, Any]:
    """Runs one; tells its time and whether each of its arms got a score and a place in the report."""
    started = time.monotonic()
    command = [sys.executable, '-m', 'mmjax.cli', 'study', str(file), '--quick', '--workdir', str(directory)]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return {'seconds': LIMIT, 'ok': False}
    seconds = round(time.monotonic() - started)
    if finished.returncode:
        print(finished.stderr[-2000:], file=sys.stderr)
        return {'seconds': seconds, 'ok': False}
    (arms,) = read_json(directory / 'results.json')['regimes'].values()
    page = (directory / 'report.html').read_text()
    wanted = asked(quick(load_file(str(file), kind=Study, function='study')))
    told = {arm for arm, entry in arms.items() if 'score' in entry and f'>{arm}<' in page}
    return {'seconds': seconds, 'arms': {arm: wanted[arm] for arm in wanted if arm in told}, 'ok': told == set(wanted)}


def asked(study: Study) -> dict[str, str]:
    """The hash of each arm's training config, so that what was measured can be told from what the study trains now."""
    return {arm.name: config_hash(study.experiment(arm.name))[:16] for arm in study.arms}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='scripts/check_studies', description=__doc__)
    names = sorted(file.stem for file in EXPERIMENTS.glob('*.py') if 'def study()' in file.read_text())
    parser.add_argument('names', nargs='*', metavar='NAME', help=f'of {names} (default: all)')
    args = parser.parse_args(argv)
    if unknown := sorted(set(args.names) - set(names)):
        parser.error(f'no study {unknown[0]} (there are {names})')
    told = read_json(RESULT) if RESULT.exists() else {}
    for name in args.names or names:
        with tempfile.TemporaryDirectory() as directory:
            told[name] = check(EXPERIMENTS / f'{name}.py', Path(directory)) | code_version()
        print(f'{name}: {told[name]}', flush=True)
        RESULT.parent.mkdir(exist_ok=True)
        write_json(RESULT, told)  # as it goes
    return 0 if all(told[name]['ok'] for name in args.names or names) else 1


if __name__ == '__main__':
    sys.exit(main())
