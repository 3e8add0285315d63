#!/bin/sh
# Install Debian packages, as root or by sudo; say clearly what to do where neither is possible.
set -eu
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root='sudo -n'
else
    echo "These Debian packages are missing: $*" >&2
    echo "Install them as root, then run make again: apt-get install $*" >&2
    exit 1
fi
echo "Installing $*"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get -qq update
$as_root apt-get -qq install --no-install-recommends "$@" >/dev/null
