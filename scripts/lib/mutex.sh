# shellcheck shell=bash
# A lock that holds between processes and between hosts that share a disk. Sourced by setup.sh.
#
# mkdir is atomic everywhere, NFS and macOS included, where flock is not. Inside the directory, `owner` says
#     HOST PID CHILD TIME
# and is refreshed while work goes on, so a lock whose TIME is long past belongs to nobody.

MUTEX=''            # the lock that this process holds
MUTEX_CHILD=''      # the process group that works under it
MUTEX_LIFETIME=900  # seconds without a refresh after which a lock is taken over
MUTEX_NAMELESS=10   # seconds that a lock may have no readable owner; writing it takes an instant

mutex_refresh() {
  [[ -n $MUTEX ]] || return 0
  # Renamed into place, so that nobody reads half a line. Where the lock was taken from us there is nothing to refresh.
  { printf '%s %s %s %s\n' "$HOSTNAME" "$$" "${MUTEX_CHILD:--}" "$(date +%s)" >"$MUTEX/owner.$$" &&
    mv -f "$MUTEX/owner.$$" "$MUTEX/owner"; } 2>/dev/null || true
}

mutex_read() { # LOCK: sets OWNER_HOST, OWNER_PID, OWNER_CHILD, OWNER_TIME, or fails
  read -r OWNER_HOST OWNER_PID OWNER_CHILD OWNER_TIME 2>/dev/null <"$1/owner" && [[ $OWNER_TIME =~ ^[0-9]+$ ]]
}

mutex_alive() { # PID or -GROUP, of this host
  [[ $1 =~ ^-?[1-9][0-9]*$ ]] || return 1
  # The kernel refuses to signal another user's process, which is alive all the same: /proc tells where it exists.
  kill -0 -- "$1" 2>/dev/null || [[ -d /proc/${1#-} ]]
}

# A lock is stale when its owner died on this host, its working child too (kill -9 leaves pip or uv writing for a while),
# or when it was not refreshed for long.
mutex_stale() { # LOCK NAMELESS: for how many seconds in a row no owner could be read
  mutex_read "$1" || { (($2 >= MUTEX_NAMELESS)); return; }
  (($(date +%s) - OWNER_TIME <= MUTEX_LIFETIME)) || return 0
  [[ $OWNER_HOST == "$HOSTNAME" ]] && ! mutex_alive "$OWNER_PID" && ! mutex_alive "$OWNER_CHILD"
}

# Of several waiters that find a lock stale, the one that makes a directory inside it takes it over. It looks again when it
# has, because another may have been quicker; and a takeover that was itself killed is cleared away after a while.
mutex_take_over() { # LOCK NAMELESS WAITED
  if ! mkdir "$1/takeover" 2>/dev/null; then
    (($3 % 30 < 29)) || rmdir "$1/takeover" 2>/dev/null || true
    return 1
  fi
  if mutex_stale "$1" "$2"; then MUTEX=$1 && mutex_refresh; fi
  rmdir "$1/takeover" 2>/dev/null || true
  [[ -n $MUTEX ]]
}

mutex_acquire() { # LOCK: waits until this process holds it, and says so once
  local waited=0 nameless=0 told=''
  until mkdir "$1" 2>/dev/null; do
    # Once it may have been released just now. Permissions would not tell: root is told that it may write to /proc.
    if [[ ! -d $1 ]] && ((nameless > 0)); then
      die "cannot write to ${1%/*}, where the environment belongs." 'Make it writable, or name another place in MMJAX_VENV.'
    fi
    if mutex_stale "$1" "$nameless" && mutex_take_over "$1" "$nameless" "$waited"; then return; fi
    if ! mutex_read "$1"; then
      nameless=$((nameless + 1))
    else
      nameless=0
      [[ -n $told ]] || say "waiting for the set-up that process $OWNER_PID on $OWNER_HOST has under way ($1)"
      told=yes
    fi
    sleep 1
    waited=$((waited + 1))
  done
  MUTEX=$1
  mutex_refresh
}

mutex_release() {
  # After a takeover the directory is another's. Renamed first: a lock that is half removed looks like one without an owner.
  if [[ -n $MUTEX ]] && mutex_read "$MUTEX" && [[ $OWNER_HOST == "$HOSTNAME" && $OWNER_PID == "$$" ]]; then
    { mv "$MUTEX" "$MUTEX.$$" && rm -rf "$MUTEX.$$"; } 2>/dev/null || true
  fi
  MUTEX=''
}
