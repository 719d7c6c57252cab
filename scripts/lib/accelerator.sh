# shellcheck shell=bash
# What this machine computes on, and what follows from it: the extra of pyproject.toml and the flags of XLA. Sourced after
# setup.sh, before `use_python`. What the user has set already stays.

# https://docs.jax.dev/en/latest/gpu_performance_tips.html
GPU_FLAGS='--xla_gpu_triton_gemm_any=true --xla_gpu_enable_latency_hiding_scheduler=true'

# Prints cuda12, cuda13, tpu or nothing. A driver runs programs of its own CUDA version and of older ones.
find_accelerator() {
  local version
  if type -P nvidia-smi >/dev/null; then
    version=$(nvidia-smi 2>/dev/null | grep -o 'CUDA Version: [0-9]*' | grep -o '[0-9]*$' || true)
    if [[ -n $version ]] && ((version >= 13)); then
      printf cuda13
    elif [[ -n $version ]] && ((version == 12)); then
      printf cuda12
    fi
    return
  fi
  local device
  for device in "${MMJAX_DEV:-/dev}"/accel0 "${MMJAX_DEV:-/dev}"/vfio/0; do
    if [[ -e $device ]]; then
      printf tpu
      return
    fi
  done
}

has_flag() { # FLAG: whether the user has given it, with whatever value
  [[ " ${XLA_FLAGS:-}" == *" ${1%%=*}"[=\ ]* || " ${XLA_FLAGS:-} " == *" ${1%%=*} "* ]]
}

# Sets MMJAX_EXTRAS and XLA_FLAGS, and says what it chose.
choose_accelerator() {
  local found flag venv extras
  found=$(find_accelerator)
  if [[ -z ${MMJAX_EXTRAS+set} && -z ${MMJAX_PYTHON:-} && -n $found ]]; then
    venv=${MMJAX_VENV:-$ROOT/.venv}
    extras=''
    if [[ -f $venv/mmjax.extras ]]; then extras=$(<"$venv/mmjax.extras"); fi
    case ,$extras, in
      *,cuda1[23],* | *,tpu,*) ;; # somebody has chosen
      *) extras=${extras:+$extras,}$found ;;
    esac
    export MMJAX_EXTRAS=$extras
  fi
  if [[ $found == cuda* ]]; then
    for flag in $GPU_FLAGS; do
      if ! has_flag "$flag"; then XLA_FLAGS="${XLA_FLAGS:+$XLA_FLAGS }$flag"; fi
    done
    export XLA_FLAGS
  fi
  say "on ${found:-cpu}: MMJAX_EXTRAS=${MMJAX_EXTRAS:-} XLA_FLAGS='${XLA_FLAGS:-}'"
}
