#!/bin/sh
# Run the tests on each CPython >= 3.11 in PATH and in ~/.pyenv/versions, each in its own virtual environment. The exit
# status is 1 if a run fails.
# usage: tools/test-all.sh [PYTEST-ARGUMENT ...]
set -u

describe() { # print "MINOR VERSION PATH" of a Python to test
    "$1" -c '
import sys
if sys.implementation.name == "cpython" and sys.version_info >= (3, 11):
    print("%d.%d" % sys.version_info[:2], sys.version.split()[0], sys.executable)
' 2>/dev/null
}

find_pythons() { # describe the first of each minor version
    {
        for directory in $(echo "$PATH" | tr ':' '\n') "$HOME"/.pyenv/versions/*/bin; do
            for python in "$directory"/python3 "$directory"/python3.[1-9][0-9]; do
                [ ! -x "$python" ] || describe "$python"
            done
        done
    } | awk '!seen[$1]++' | sort -t. -k2n
}

results=
failed=0
while read -r minor version python; do
    echo "== Python $version ($python)"
    if VENV=.venv-$minor sh tools/setup.sh dev "$python" &&
        ".venv-$minor/bin/python" -m pytest -n 4 "$@" </dev/null >".venv-$minor/test-output" 2>&1; then
        result=passed
    else
        result=FAILED
        failed=1
    fi
    cat ".venv-$minor/test-output"
    results="$results
Python $version $result: $(tail -n 1 ".venv-$minor/test-output" | tr -d =)"
done <<END
$(find_pythons)
END
echo "$results"
exit $failed
