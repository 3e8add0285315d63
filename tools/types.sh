#!/bin/sh
# Check that all that is public has a type. pyright looks at a copy, where nothing but its py.typed says that it is
# typed, as users have it; an editable install it takes for source of its own, in which it finds no such file.
set -eu
bin=$PWD/.venv/bin
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/installed" "$folder/elsewhere"
cp -R src/geartrain "$folder/installed/"
cd "$folder/elsewhere"
# It brings its own node, and its own self: nothing is fetched.
if PYTHONPATH=$folder/installed "$bin/pyright" --pythonpath "$bin/python" --verifytypes geartrain --ignoreexternal \
    >"$folder/report" 2>&1 && grep 'Type completeness score: 100%' "$folder/report"; then
    exit 0
fi
sed "s|$folder/installed|src|g; /^Public modules/,/^$/d" "$folder/report"
exit 1
