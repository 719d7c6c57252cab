"""Launch files for clusters: they parse, say what they would do, and pass on what they were given."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.distributed.test_group import GPU_FLAGS
from tests.scripts.machine import Clone

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / 'scripts/launch'
BASH = [*sorted(path for path in LAUNCH.iterdir() if path.suffix != '.yaml'), ROOT / 'scripts/check_accelerator']
BASH += [ROOT / 'scripts/lib/accelerator.sh']


def run(*command, **env):
    done = subprocess.run([str(part) for part in command], env=os.environ | env, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize('file', BASH, ids=lambda path: path.name)
def test_scripts_parse(file):
    assert run('bash', '-n', file) == (0, '', '')
    if shutil.which('shellcheck'):
        assert run('shellcheck', '-x', '-P', ROOT, file)[:2] == (0, '')
    assert os.access(file, os.X_OK) or file.parent.name == 'lib'


def test_tpu_vm_starts_the_worker_on_all_of_them():
    own = ('pod', '--zone', 'us-east5-a', '--project', 'p', '--dry-run', '--')
    code, out, _ = run(LAUNCH / 'tpu_vm', *own, 'train', 'configs/x y.py', '--workdir', 'gs://b/r')
    assert code == 0
    (line,) = out.splitlines()
    words = subprocess.run(['bash', '-c', f'printf "%s\\n" {line}'], capture_output=True, text=True).stdout.splitlines()
    assert words[:6] == ['gcloud', 'compute', 'tpus', 'tpu-vm', 'ssh', 'pod']
    assert words[6:9] == ['--zone=us-east5-a', '--project=p', '--worker=all']
    assert words[9] == r'--command=cd mmjax && scripts/launch/worker train configs/x\ y.py --workdir gs://b/r'


def test_xpk_creates_a_workload():
    own = ('name', '--cluster', 'c', '--tpu-type', 'v5p-512', '--num-slices', '2', '--image', 'i', '--dry-run', '--')
    code, out, _ = run(LAUNCH / 'xpk', *own, 'train', 'x.py')
    assert code == 0
    assert out.split(' ', 3)[:3] == ['xpk', 'workload', 'create']
    for part in ('--workload=name', '--cluster=c', '--tpu-type=v5p-512', '--docker-image=i', '--num-slices=2'):
        assert f' {part} ' in out
    assert r'--command=scripts/launch/worker\ train\ x.py' in out


@pytest.mark.parametrize(
    'command, message',
    [
        (('tpu_vm', 'pod', '--dry-run', '--', 'train'), '--zone is missing'),
        (('tpu_vm', 'pod', '--zone', 'z'), 'nothing to run'),
        (('tpu_vm', '--zone'), '--zone: its value is missing'),
        (('tpu_vm', 'pod', '--zne', 'z'), "unknown argument '--zne'"),
        (('xpk', 'w', '--cluster', 'c', '--', 'train'), '--tpu-type is missing'),
        (('slurm.sbatch',), 'usage: sbatch'),
    ],
)
def test_what_is_missing_is_told(command, message):
    code, _, err = run(LAUNCH / command[0], *command[1:])
    assert code == 2 and message in err


def test_slurm_starts_one_process_a_node_that_has_all_its_gpus(tmp_path):
    srun = tmp_path / 'srun'
    srun.write_text('#!/usr/bin/env bash\necho "$MMJAX_DEVICES: $*"\n')
    srun.chmod(0o755)
    env = {'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'SLURM_SUBMIT_DIR': str(tmp_path), 'MMJAX_DEVICES': ''}
    code, out, _ = run(LAUNCH / 'slurm.sbatch', 'train', 'x.py', SLURM_NTASKS_PER_NODE='1', **env)
    assert (code, out) == (
        0,
        'all: --kill-on-bad-exit=1 --gpu-bind=none --label scripts/launch/worker train x.py\n',
    )
    assert run(LAUNCH / 'slurm.sbatch', 'train', 'x.py', SLURM_NTASKS_PER_NODE='8', **env)[1].startswith(': --kill')


def test_gke_runs_a_worker_a_host():
    spec = yaml.safe_load((LAUNCH / 'gke.yaml').read_text())
    assert (spec['apiVersion'], spec['kind']) == ('jobset.x-k8s.io/v1alpha2', 'JobSet')
    (job,) = spec['spec']['replicatedJobs']
    hosts = job['template']['spec']
    assert hosts['completionMode'] == 'Indexed' and hosts['parallelism'] == hosts['completions'] == 16
    pod = hosts['template']['spec']
    (container,) = pod['containers']
    chips = container['resources']['limits']['google.com/tpu']
    x, y, z = map(int, pod['nodeSelector']['cloud.google.com/gke-tpu-topology'].split('x'))
    assert x * y * z == chips * hosts['parallelism']
    assert container['command'][:2] == ['scripts/launch/worker', 'train']
    assert f'--mesh.slices={job["replicas"]}' in container['command']
    assert pod['restartPolicy'] == 'Never'  # the JobSet starts all again, not the pod itself


SMI = """#!/usr/bin/env bash
if [[ ${{1:-}} == -L ]]; then printf 'GPU 0: x\\nGPU 1: x\\n'; else echo '| CUDA Version: {cuda} |'; fi
"""


@pytest.mark.parametrize('cuda, extra', [('12.8', 'cuda12'), ('13.0', 'cuda13')])
def test_a_machine_with_gpus_gets_their_extra_and_flags(clone: Clone, cuda, extra):
    clone.add_python('3.12.4')
    clone.add('nvidia-smi', SMI.format(cuda=cuda))
    (clone.path / 'seq').symlink_to(str(shutil.which('seq')))
    clone.add('python', '#!/usr/bin/env bash\n')
    code, _, err = clone.run('launch/worker', 'train', 'x.py', XLA_FLAGS='--xla_gpu_triton_gemm_any=false')
    flags = f'--xla_gpu_triton_gemm_any=false {GPU_FLAGS.split()[1]}'
    assert err[0] == f"mmjax: on {extra}: MMJAX_EXTRAS={extra} XLA_FLAGS='{flags}'"
    assert code == 0, err
    assert (clone.venv / 'mmjax.extras').read_text() == extra


def test_a_machine_without_gets_nothing(clone: Clone, tmp_path):
    clone.add_python('3.12.4')
    code, out, err = clone.run('launch/worker', 'train', 'x.py', MMJAX_DEV=str(tmp_path))
    assert code == 0 and out.endswith('-m mmjax.cli train x.py\n')
    assert err[0] == "mmjax: on cpu: MMJAX_EXTRAS= XLA_FLAGS=''"
    (tmp_path / 'vfio').mkdir()
    (tmp_path / 'vfio/0').touch()
    assert clone.run('launch/worker', 'eval', 'r', MMJAX_DEV=str(tmp_path))[2][0].startswith(
        'mmjax: on tpu: MMJAX_EXTRAS=tpu'
    )
