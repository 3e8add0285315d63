#!/bin/sh
# Install Debian packages, as root or by sudo; say clearly what to do where neither is possible.
set -eu
if ! command -v apt-get >/dev/null; then
    echo "These parts are missing, and there is no apt-get to install them: $*" >&2
    echo "Install what your system has in their place, then run make again." >&2
    exit 1
elif [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root='sudo -n'
else
    echo "These Debian packages are missing, and without root or sudo they cannot be installed here: $*" >&2
    echo "Have root run this, then run make again: apt-get install $*" >&2
    exit 1
fi
echo "Installing $*"
get="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120"
$get update
$get install --no-install-recommends "$@" >/dev/null
