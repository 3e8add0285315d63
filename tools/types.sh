#!/bin/sh
# Check that all public names are typed. pyright checks a copy that is typed only by its py.typed, as in a user's
# installation; it would treat an editable install as source code and ignore that file.
set -eu
bin=$PWD/.venv/bin
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/installed" "$folder/elsewhere"
cp -R src/geartrain "$folder/installed/"
cd "$folder/elsewhere"
# pyright and node are bundled: nothing is downloaded.
if PYTHONPATH=$folder/installed "$bin/pyright" --pythonpath "$bin/python" --verifytypes geartrain --ignoreexternal \
    >"$folder/report" 2>&1 && grep 'Type completeness score: 100%' "$folder/report"; then
    exit 0
fi
sed "s|$folder/installed|src|g; /^Public modules/,/^$/d" "$folder/report"
exit 1
