# Sourced by script/test and script/dev: makes the virtual environment and, when asked, the system packages.
# What is already there is kept, and said so.

# The oldest version there is; of several builds of it the fastest, since one that was compiled
# without its profile, as pyenv does, takes a fifth more time for everything.
find_python() {
  local name python found
  for name in python3.11 python3.12 python3.13 python3; do
    found=$(type -aP "$name" | while read -r python; do
      printf '%s %s\n' "$("$python" -c "$PYTHON_TRIAL" 2>/dev/null)" "$python"
    done | grep '^[0-9]' | sort -n | head -n 1 | cut -d' ' -f2-) || true
    if [ -n "$found" ]; then
      echo "$found"
      return
    fi
  done
}

# Prints microseconds for some work, or nothing where the version or a module is missing.
PYTHON_TRIAL='
import sys, timeit, venv, ensurepip
def work():
    seen = {}
    for number in range(2000):
        seen[str(number % 97)] = (number, len(seen))
    return sorted(seen.items())
if (3, 11) <= sys.version_info[:2] < (3, 14):
    print(round(min(timeit.repeat(work, number=10, repeat=9)) * 1e6))
'

install_python() {
  local python stamp
  # How tools are set changes nothing of what is installed.
  stamp=$(awk '/^\[/ { keep = !/^\[+tool\./ || /^\[tool\.setuptools/ } keep' pyproject.toml \
    | cat - requirements/dev.txt | sha256sum | cut -d' ' -f1)
  if [ "$(cat .venv/.stamp 2>/dev/null)" = "$stamp" ]; then
    echo "== Python packages: kept (.venv)"
    return
  fi
  python=${PYTHON:-$(find_python)}
  if [ -z "$python" ]; then
    echo "Strongroom needs Python 3.11, 3.12 or 3.13 with venv; installing it" >&2
    as_root apt-get update -qq
    as_root apt-get install -y -qq --no-install-recommends python3 python3-venv
    python=python3
  fi
  echo "== Python packages: installing into .venv (about a minute)"
  "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
  echo "$stamp" > .venv/.stamp
}

as_root() { if [ "$(id -u)" = 0 ]; then DEBIAN_FRONTEND=noninteractive "$@"; else sudo DEBIAN_FRONTEND=noninteractive "$@"; fi; }

install_system() {
  local missing
  missing=$(sed '/^#/d' script/apt-packages.txt | while read -r package; do
    [ -z "$package" ] || dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
  done)
  if [ -z "$missing" ]; then
    echo "== system packages: kept"
    return
  fi
  echo "== system packages: installing" $missing
  # Tests run a PostgreSQL of their own in a temporary folder; Debian's package need not start one.
  case $missing in *postgresql*)
    as_root mkdir -p /etc/postgresql-common/createcluster.d
    echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.d/no-main-cluster.conf > /dev/null ;;
  esac
  as_root apt-get update -qq
  # shellcheck disable=SC2086 # one word a package
  as_root apt-get install -y -qq --no-install-recommends $missing > /dev/null
}
