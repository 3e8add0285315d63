#!/bin/sh
# Install the real job server, its command-line tools and Perl's client, against which the tests run.
set -eu
missing=
for package in gearman-job-server gearman-tools libgearman-client-perl; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -z "$missing" ] || sh tools/apt.sh $missing
