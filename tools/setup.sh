#!/bin/sh
# Create the virtual environment .venv (or $VENV) with the packages for running (run), developing (dev), the tests of the
# examples (examples), the site (docs), building (package), benchmarking (bench) or fuzzing (fuzz); does nothing if they are installed.
# usage: tools/setup.sh run|dev|docs|examples|package|bench|fuzz [PYTHON]
set -eu
wanted=$1
python=${2:-}
venv=${VENV:-.venv}

fits() { # whether the given Python is supported
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

identity() { # print what distinguishes two Pythons
    "$1" -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null
}

usable() { # whether .venv is complete, works, was created in this folder, and with the requested Python
    [ -f "$venv/made-in" ] && [ "$(cat "$venv/made-in")" = "$PWD" ] || return 1 # its scripts contain the path
    [ ! -e "$venv/unfinished" ] || return 1
    fits "$venv/bin/python" || return 1 # its Python may have been removed
    [ -z "$python" ] || [ "$(identity "$python")" = "$(identity "$venv/bin/python")" ]
}

choose() { # print the first supported Python
    for name in ${python:-python3 python3.13 python3.12 python3.11}; do
        if fits "$name"; then
            echo "$name"
            return
        fi
    done
    echo "geartrain requires Python 3.11 or later${python:+, which '$python' is not}; use: make PYTHON=/path/to/python3" >&2
    return 1
}

make_venv() {
    python=$(choose)
    version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    echo "Creating $venv with $version"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then # a separate package on Debian
        sh tools/apt.sh "$version-venv"
    fi
    rm -rf "$venv"
    mkdir "$venv"
    touch "$venv/unfinished"
    "$python" -m venv "$venv"
    # Dependency groups require pip 25.1; Debian 12 has pip 23.
    pip install --upgrade 'pip>=25.1'
    echo "$PWD" >"$venv/made-in"
    rm "$venv/unfinished"
}

pip() {
    "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"
}

usable || make_venv
stamp=$venv/installed-$wanted
if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
    touch "$venv/unfinished" # an interrupted run starts over
    set -- -e '.[cli,speed]'
    [ "$wanted" = run ] || set -- "$@" --group "$wanted"
    pip install --no-compile "$@" # most modules are never imported
    touch "$venv/installed-run" "$stamp"
    rm "$venv/unfinished"
fi
