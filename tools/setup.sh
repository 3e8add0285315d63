#!/bin/sh
# Make the virtual environment .venv (or $VENV), for running (run), for working on it too (dev), for measuring it (bench), or for
# fuzzing it (fuzz); at once if it is there.
# usage: tools/setup.sh run|dev|bench|fuzz [PYTHON]
set -eu
wanted=$1
python=${2:-}
venv=${VENV:-.venv}

fits() { # the given Python can be used
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

identity() { # what tells two Pythons apart
    "$1" -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null
}

usable() { # it is whole, works, was made in this folder, and with the Python that is asked for
    [ -f "$venv/made-in" ] && [ "$(cat "$venv/made-in")" = "$PWD" ] || return 1 # its scripts name the folder
    [ ! -e "$venv/unfinished" ] || return 1
    fits "$venv/bin/python" || return 1 # the Python that it was made with may be gone
    [ -z "$python" ] || [ "$(identity "$python")" = "$(identity "$venv/bin/python")" ]
}

choose() { # name the first Python that fits
    for name in ${python:-python3 python3.13 python3.12 python3.11}; do
        if fits "$name"; then
            echo "$name"
            return
        fi
    done
    echo "geartrain needs Python 3.11 or newer${python:+, and '$python' is none}; give one by: make PYTHON=/path/to/python3" >&2
    return 1
}

make_venv() {
    python=$(choose)
    version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    echo "Making $venv with $version"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then # Debian has them in a package of their own
        sh tools/apt.sh "$version-venv"
    fi
    rm -rf "$venv"
    mkdir "$venv"
    touch "$venv/unfinished"
    "$python" -m venv "$venv"
    # Dependency groups came with pip 25.1; Debian 12 brings pip 23.
    pip install --upgrade 'pip>=25.1'
    echo "$PWD" >"$venv/made-in"
    rm "$venv/unfinished"
}

pip() {
    "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"
}

provide() { # provide NAME PIP-ARGUMENTS
    stamp=$venv/installed-$1
    shift
    if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
        touch "$venv/unfinished" # a run that is cut off here is begun anew
        pip install "$@"
        touch "$stamp"
        rm "$venv/unfinished"
    fi
}

usable || make_venv
provide run -e '.[cli,speed]'
[ "$wanted" = run ] || provide "$wanted" --group "$wanted"
