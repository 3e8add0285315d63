#!/bin/sh
# Install the real job server, its command-line tools and Perl's client and worker, against which the tests run.
set -eu
PATH=$PATH:/usr/sbin:/usr/local/sbin
missing=
command -v gearmand >/dev/null || missing="$missing gearman-job-server"
{ command -v gearman && command -v gearadmin; } >/dev/null || missing="$missing gearman-tools"
perl -MGearman::Client -MGearman::Worker -e 1 2>/dev/null || missing="$missing libgearman-client-perl"
# The package of the job server starts one on port 4730. The tests start their own, on free ports.
[ -z "$missing" ] || sh tools/apt.sh $missing
