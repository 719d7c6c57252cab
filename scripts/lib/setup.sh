# shellcheck shell=bash
# The environment that every script here runs in. Sourced; then `use_python` sets PYTHON, making .venv where it is missing
# or out of date. Needs bash 3.2 and a Python with venv, nothing else: no uv, no make, no activated environment.
#
#   MMJAX_PYTHON=/path/to/python   use this interpreter and set nothing up
#   MMJAX_EXTRAS=cuda12,wandb      add these extras of pyproject.toml; unset: those that the environment already has
#   MMJAX_VENV=DIR                 where the environment lies (default .venv; a relative path counts from the repository)

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)

say() { printf 'mmjax: %s\n' "$1" >&2; }

die() { # WHAT REMEDY: the user's mistake, told in two lines
  printf 'mmjax: %s\n       %s\n' "$1" "$2" >&2
  exit 2
}

# shellcheck source=scripts/lib/find_python.sh
source "$ROOT/scripts/lib/find_python.sh"
# shellcheck source=scripts/lib/mutex.sh
source "$ROOT/scripts/lib/mutex.sh"

# Its requires-python is the one place that bounds Python: from below by the code, from above by the wheels of the lock.
read_project() {
  PROJECT=$(<"$ROOT/pyproject.toml")
  local range='requires-python = ">=3\.([0-9]+),<3\.([0-9]+)"'
  [[ $PROJECT =~ $range ]] ||
    die "cannot read requires-python in $ROOT/pyproject.toml." 'It must look like ">=3.11,<3.15".'
  LOWEST=${BASH_REMATCH[1]}
  HIGHEST=$((BASH_REMATCH[2] - 1))
}

# The stamp is not a digest of the inputs but the inputs: comparing costs no process, and a stale stamp can be read.
stamp() { # VENV VERSION EXTRAS
  printf 'venv %s\nrepository %s\npython %s\nextras %s\n%s\n%s' "$1" "$ROOT" "$2" "$3" "$LOCK" "$PROJECT"
}

venv_version() { # VENV: prints the version of its Python without starting it
  local key value
  while IFS=' =' read -r key value; do
    if [[ $key == version ]]; then printf '%s' "$value"; fi
  done 2>/dev/null <"$1/pyvenv.cfg"
}

is_ready() { # VENV LOWEST HIGHEST EXTRAS
  [[ -x $1/bin/python && -f $1/mmjax.stamp && -f $1/pyvenv.cfg ]] || return 1
  local version minor
  version=$(venv_version "$1")
  minor=${version#3.}
  minor=${minor%%.*}
  [[ $minor =~ ^[0-9]+$ ]] && ((minor >= $2 && minor <= $3)) || return 1
  [[ $(<"$1/mmjax.stamp") == "$(stamp "$1" "$version" "$4")" ]]
}

check_extras() { # EXTRAS
  local extra known='' section='' line
  while IFS= read -r line; do
    if [[ $line == \[* ]]; then section=$line; fi
    if [[ $section == '[project.optional-dependencies]' && $line =~ ^([a-z0-9-]+)\ = ]]; then
      known="$known ${BASH_REMATCH[1]}"
    fi
  done <<<"$PROJECT"
  for extra in ${1//,/ }; do
    [[ "$known " == *" $extra "* ]] || die "MMJAX_EXTRAS: there is no extra '$extra'." \
      "There are:$known; several are parted by commas."
  done
}

# Only what set-up made, or what lies under the name that .gitignore gives it, may be removed. MMJAX_VENV=$HOME must not.
may_replace() { # VENV
  [[ -e $1 || -L $1 ]] || return 0
  [[ -f $1/mmjax.extras ]] && return 0
  [[ ${1##*/} == .venv* && $(cd "${1%/*}" && pwd -P) == "$ROOT" ]] && return 0
  [[ -d $1 && -z $(ls -A "$1") ]]
}

# uv does not read pip's settings: the index and the certificates that pip was told of hold for uv too.
lend_pip_settings() { # VENV
  local key value index='' certificates=''
  while IFS='=' read -r key value; do
    value=${value#[\'\"]}
    value=${value%[\'\"]}
    case $key in
      global.index-url | install.index-url) index=$value ;;
      global.cert | install.cert) certificates=$value ;;
    esac
  done < <("$1/bin/python" -I -m pip config list 2>/dev/null)
  index=${PIP_INDEX_URL:-$index}
  certificates=${PIP_CERT:-$certificates}
  if [[ -n $index && -z ${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-} ]]; then export UV_DEFAULT_INDEX=$index; fi
  if [[ -n $certificates && -z ${SSL_CERT_FILE:-} ]]; then export SSL_CERT_FILE=$certificates; fi
}

UNREACHABLE='NewConnectionError|ConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|Max retries exceeded'
UNREACHABLE="$UNREACHABLE|from versions: none|Failed to fetch|Failed to connect|error sending request|[Dd][Nn][Ss] error"
UNREACHABLE="$UNREACHABLE|Request failed after|Connection refused|Temporary failure in name resolution|timed out"

# Runs one command of the set-up, in a process group of its own, so that an interrupt can end all of it and a waiting
# set-up can see whether any of it still lives. Its output goes to the log; the lock is refreshed while it runs.
step() { # WHAT COMMAND...
  local what=$1 beat=0 before said reason
  shift
  printf '$ %s\n' "$*" >>"$LOG"
  before=$(wc -l <"$LOG")
  set -m
  "$@" </dev/null >>"$LOG" 2>&1 &
  MUTEX_CHILD=-$!
  set +m
  mutex_refresh
  while kill -0 "${MUTEX_CHILD#-}" 2>/dev/null; do
    sleep 0.1
    beat=$((beat + 1))
    ((beat % 600)) || mutex_refresh
  done
  if wait "${MUTEX_CHILD#-}"; then
    MUTEX_CHILD=''
    return
  fi
  MUTEX_CHILD=''
  said=$(tail -n "+$((before + 1))" "$LOG")
  if grep -Eq "$UNREACHABLE" <<<"$said"; then
    die "set-up failed at '$what': no package index could be reached." \
      "Check the network and the proxy, or name an index in PIP_INDEX_URL; what was tried: $LOG"
  fi
  reason=$(grep -Ei '^ *[a-z]*error:' <<<"$said" | head -n 1)
  die "set-up failed at '$what': ${reason:-$(tail -n 1 "$LOG")}" "The whole of it is in $LOG"
}

stop_step() {
  local code=$?
  if [[ -n $MUTEX_CHILD ]]; then kill -TERM -- "$MUTEX_CHILD" 2>/dev/null || true; fi
  mutex_release
  exit "$code"
}

build_venv() { # VENV PYTHON VERSION EXTRAS
  local venv=$1 started=$SECONDS python=$1/bin/python line uv=uv
  may_replace "$venv" || die "MMJAX_VENV: $venv exists and was not made by this set-up." \
    'Name a place that is free, or use that environment as it is by MMJAX_PYTHON.'
  say "setting up $venv with Python $3 ($2); it takes a minute or two, once"
  # mmjax.extras comes first and marks the directory as ours, mmjax.stamp comes last and says that it is whole.
  { rm -rf "$venv" && mkdir -p "$venv" && printf '%s' "$4" >"$venv/mmjax.extras"; } ||
    die "cannot write $venv." 'Make it writable, or name another place in MMJAX_VENV.'
  LOG=$venv/mmjax.log
  step 'making the environment' "$2" -I -m venv "$venv"
  say 'installing uv (1 of 3)'
  while IFS= read -r line; do
    if [[ $line == uv==* ]]; then uv=${line%% *}; fi
  done <<<"$LOCK"
  step 'installing uv' "$python" -I -m pip install --no-input --disable-pip-version-check "$uv"
  lend_pip_settings "$venv"
  say 'installing requirements.txt (2 of 3)'
  # What has to be built is built with the setuptools of the lock, not with the newest of the day.
  step 'installing requirements.txt' "$venv/bin/uv" pip install --python "$python" \
    --build-constraints "$ROOT/requirements.txt" -r "$ROOT/requirements.txt"
  say "installing mmjax${4:+ with $4} (3 of 3)"
  step 'installing mmjax' "$venv/bin/uv" pip install --python "$python" --no-build-isolation --no-deps -e "$ROOT"
  if [[ -n $4 ]]; then
    step "installing the extras $4" "$venv/bin/uv" pip install --python "$python" --no-build-isolation \
      -c "$ROOT/requirements.txt" -e "${ROOT}[$4]"
  fi
  { stamp "$venv" "$(venv_version "$venv")" "$4" >"$venv/mmjax.part" && mv -f "$venv/mmjax.part" "$venv/mmjax.stamp"; } ||
    die "cannot write $venv/mmjax.stamp." 'Is the disk full?'
  say "ready after $((SECONDS - started)) s"
}

ensure_venv() { # VENV LOWEST HIGHEST EXTRAS: fails where no Python from 3.LOWEST to 3.HIGHEST runs
  is_ready "$@" && return
  check_extras "$4"
  find_python "$2" "$3" "$1" || return
  "$FOUND_PYTHON" -I -c 'import venv, ensurepip' </dev/null >/dev/null 2>&1 ||
    die "$FOUND_PYTHON ($FOUND_VERSION) cannot make environments: its module venv or ensurepip is missing." \
      "Install it (Debian, Ubuntu: apt install python${FOUND_VERSION%.*}-venv), or set MMJAX_PYTHON to one of your own."
  mkdir -p "${1%/*}" 2>/dev/null ||
    die "cannot make ${1%/*}, where the environment belongs." 'Name another place in MMJAX_VENV.'
  trap stop_step EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  mutex_acquire "$1.lock"
  # While this process waited, another may have done the work.
  is_ready "$@" || build_venv "$1" "$FOUND_PYTHON" "$FOUND_VERSION" "$4"
  mutex_release
  trap - EXIT INT TERM HUP
}

# Sets PROJECT, LOCK and VENV: what an environment is made of, and where ours lies.
locate_venv() {
  read_project
  [[ -f $ROOT/requirements.txt ]] ||
    die "$ROOT/requirements.txt, the lock, is missing." 'Get it back: git checkout requirements.txt'
  LOCK=$(<"$ROOT/requirements.txt")
  VENV=${MMJAX_VENV:-.venv}
  VENV=${VENV%/}
  if [[ $VENV != /* ]]; then VENV=$ROOT/$VENV; fi
}

# Sets PYTHON, and VENV where there is one of ours.
use_python() {
  VENV=''
  if [[ -n ${MMJAX_PYTHON:-} ]]; then
    PYTHON=$(type -P "$MMJAX_PYTHON") ||
      die "MMJAX_PYTHON: there is no program '$MMJAX_PYTHON'." \
        'Name the interpreter of an environment, such as /path/to/env/bin/python.'
    if [[ $PYTHON != /* ]]; then PYTHON=$PWD/$PYTHON; fi
    # An environment of one's own need not have this clone installed.
    export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
    return
  fi
  locate_venv
  local extras=''
  if [[ -n ${MMJAX_EXTRAS+set} ]]; then
    extras=${MMJAX_EXTRAS// /}
  elif [[ -f $VENV/mmjax.extras ]]; then
    extras=$(<"$VENV/mmjax.extras")
  fi
  ensure_venv "$VENV" "$LOWEST" "$HIGHEST" "$extras" ||
    die "no Python from 3.$LOWEST to 3.$HIGHEST runs here; PATH has ${SEEN:-none at all}." \
      "Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python) and put it on PATH."
  PYTHON=$VENV/bin/python
}

# Sets PYTHON and VENV: of an environment beside ours that has the lock and one extra which must not lie in ours.
use_extra_venv() { # EXTRA LOWEST
  locate_venv
  VENV=$VENV-$1
  ensure_venv "$VENV" "$2" "$HIGHEST" "$1" ||
    die "the extra $1 needs a Python from 3.$2 to 3.$HIGHEST; PATH has ${SEEN:-none at all}." 'Install one and put it on PATH.'
  PYTHON=$VENV/bin/python
}

has_side() { # VENV PACKAGES
  [[ -f $1/mmjax.stamp && $(<"$1/mmjax.stamp") == "$2" ]]
}

build_side() { # WHAT VENV PACKAGE...
  local what=$1 venv=$2
  shift 2
  say "installing $what into $venv with Python $FOUND_VERSION; it takes a minute or two, once"
  { rm -rf "$venv" && mkdir -p "$venv"; } || die "cannot write $venv." 'Make it writable.'
  LOG=$venv/mmjax.log
  step 'making the environment' "$FOUND_PYTHON" -I -m venv "$venv"
  step "installing $what" "$venv/bin/python" -I -m pip install --no-input --disable-pip-version-check "$@"
  printf '%s' "$*" >"$venv/mmjax.stamp"
}

# Sets SIDE_PYTHON: of an environment beside ours, for a program that cannot share ours; made where it is missing or its
# packages are others.
use_side_venv() { # WHAT VENV LOWEST HIGHEST PACKAGE...
  local what=$1 venv=$2 lowest=$3 highest=$4
  shift 4
  SIDE_PYTHON=$venv/bin/python
  if has_side "$venv" "$*"; then return; fi
  find_python "$lowest" "$highest" "$venv" ||
    die "$what needs a Python from 3.$lowest to 3.$highest; PATH has ${SEEN:-none at all}." \
      'Install one and put it on PATH.'
  trap stop_step EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  mutex_acquire "$venv.lock"
  # While this process waited, another may have done the work.
  has_side "$venv" "$*" || build_side "$what" "$venv" "$@"
  mutex_release
  trap - EXIT INT TERM HUP
}
