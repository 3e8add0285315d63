#!/bin/sh
# Install Debian packages as root or with sudo; otherwise print what to do.
set -eu
if ! command -v apt-get >/dev/null; then
    echo "These packages are missing, and there is no apt-get to install them: $*" >&2
    echo "Install your system's equivalents, then run make again." >&2
    exit 1
elif [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root='sudo -n'
else
    echo "These Debian packages are missing, and installing them needs root or sudo: $*" >&2
    echo "Run this as root, then run make again: apt-get install $*" >&2
    exit 1
fi
echo "Installing $*"
get="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120"
$get update
$get install --no-install-recommends "$@" >/dev/null
