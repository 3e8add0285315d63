#!/bin/sh
# Make the virtual environment .venv with the given Python, and install what a bare Debian lacks for it.
set -eu
python=${1:-python3}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "geartrain needs Python 3.11 or newer as '$python'; give another with: make PYTHON=/path/to/python3" >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    sh tools/apt.sh python3-venv
fi
"$python" -m venv --clear .venv
# Dependency groups came with pip 25.1; Debian 12 brings pip 23.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
