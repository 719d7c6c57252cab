# shellcheck shell=bash
# Finds the newest Python on PATH that actually runs. Sourced by setup.sh.

# Prints the version of an interpreter, "3.12.4". Fails where it does not run: a pyenv shim exists on PATH for every version
# ever installed, and says "command not found" when called. -E and -S leave the caller's PYTHONPATH and site files out of it.
python_version() { # PYTHON
  "$1" -ES -c 'import sys; sys.stdout.write("%d.%d.%d" % sys.version_info[:3])' </dev/null 2>/dev/null
}

# The newest minor wins; among equals the first on PATH, as the shell itself would choose. Every directory is searched, not
# only the first hit of a name: behind a shim that fails there may be a Python that runs.
# Sets FOUND_PYTHON and FOUND_VERSION, or fails; SEEN tells in words what was there.
find_python() { # LOWEST HIGHEST VENV: minors of Python 3, both inclusive; VENV is about to be replaced and is no candidate
  local best=-1 directory candidate version minor
  FOUND_PYTHON='' FOUND_VERSION='' SEEN=''
  local directories=()
  IFS=: read -r -a directories <<<"$PATH"
  for directory in ${directories[@]+"${directories[@]}"}; do
    # An empty entry means the working directory, where nobody expects us to look for an interpreter.
    [[ -n $directory && ! $directory -ef $3/bin ]] || continue
    for candidate in "$directory"/python3.* "$directory/python3" "$directory/python"; do
      [[ ${candidate##*/} =~ ^python(3(\.[0-9]+)?)?$ && -f $candidate && -x $candidate ]] || continue
      if ! version=$(python_version "$candidate") || [[ ! $version =~ ^[0-9]+\.([0-9]+)\.[0-9]+$ ]]; then
        SEEN="$SEEN, $candidate (does not run)"
        continue
      fi
      minor=${BASH_REMATCH[1]}
      [[ $SEEN == *"($version)"* ]] || SEEN="$SEEN, $candidate ($version)"
      if [[ $version == 3.* ]] && ((minor >= $1 && minor <= $2 && minor > best)); then
        # shellcheck disable=SC2034 # read by setup.sh
        best=$minor FOUND_PYTHON=$candidate FOUND_VERSION=$version
      fi
    done
  done
  SEEN=${SEEN#, }
  [[ -n $FOUND_PYTHON ]]
}
