#!/bin/sh
# Install what the tests run against: gearmand, its command-line tools, the Perl client and worker, libgearman with a
# C compiler, stunnel, strace, and groff; with the argument "examples" Prometheus and systemd's tools, too. With "browser"
# only a browser.
set -eu
PATH=$PATH:/usr/sbin:/usr/local/sbin
if [ "${1:-}" = browser ]; then
    command -v chromium >/dev/null || sh tools/apt.sh chromium
    exit
fi
missing=
command -v gearmand >/dev/null || missing="$missing gearman-job-server"
{ command -v gearman && command -v gearadmin; } >/dev/null || missing="$missing gearman-tools"
perl -MGearman::Client -MGearman::Worker -e 1 2>/dev/null || missing="$missing libgearman-client-perl"
echo '#include <libgearman/gearman.h>' | gcc -E -x c - >/dev/null 2>&1 || missing="$missing gcc libc6-dev libgearman-dev"
command -v stunnel4 >/dev/null || missing="$missing stunnel4"
[ "${1:-}" != examples ] || command -v prometheus >/dev/null || missing="$missing prometheus"
[ "${1:-}" != examples ] || command -v systemd-analyze >/dev/null || missing="$missing systemd"
command -v strace >/dev/null || missing="$missing strace"
command -v groff >/dev/null || missing="$missing groff-base"
# Debian's package starts a job server on port 4730. The tests start their own on free ports.
[ -z "$missing" ] || sh tools/apt.sh $missing
