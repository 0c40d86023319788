#!/usr/bin/env bash
# Print the newest Python on this machine that can run the project and make a virtual environment.
set -euo pipefail

suits='import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))'
for name in python3.14 python3.13 python3.12 python3.11 python3 /usr/bin/python3; do
  # A shim of pyenv can exist for a version that is not there: running it is the only test.
  if "$name" -c "$suits" >/dev/null 2>&1; then
    command -v "$name"
    exit 0
  fi
done
echo "setup: no Python 3.11 or newer with the venv module was found" >&2
exit 1
