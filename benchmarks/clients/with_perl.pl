#!/usr/bin/perl
# Perl's Gearman::Client. Its task sets are added to, then waited for, so OUTSTANDING is the size of a set.
# usage: with_perl.pl KIND JOBS OUTSTANDING SIZE PORT, see README.md, "A client".
use strict;
use warnings;
use Gearman::Client;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID);

use constant { FUNCTION => "echo", WARM_UP => 1000, WARM_UP_SIZE => 100, INDEX_DIGITS => 16 };

my ($kind, $jobs, $outstanding, $size, $port) = @ARGV;
my ($base, $before, $wall, $cpu);
my $wrong = 0;

# Each begins with its number, so that a result of the wrong job is detected.
sub make_workloads {
    my ($count, $bytes) = @_;
    return [map { sprintf("%0*d", INDEX_DIGITS, $_) . "." x ($bytes - INDEX_DIGITS) } 0 .. $count - 1];
}

# Return a value of /proc/self/status in bytes: VmRSS is the resident size, VmHWM its maximum so far.
sub read_memory {
    my ($name) = @_;
    open my $status, "<", "/proc/self/status" or die $!;
    my ($kib) = map { /^$name:\s*(\d+)/ ? $1 : () } <$status>;
    return $kib * 1024;
}

sub begin {
    $before = read_memory("VmRSS");
    $| = 1;
    print "ready\n";
    defined <STDIN> or die "standard input was closed\n";
    $wall = clock_gettime(CLOCK_MONOTONIC);
    $cpu = clock_gettime(CLOCK_PROCESS_CPUTIME_ID);
}

sub report {
    my @latencies = @_;
    $cpu = clock_gettime(CLOCK_PROCESS_CPUTIME_ID) - $cpu;
    $wall = clock_gettime(CLOCK_MONOTONIC) - $wall;
    printf '{"jobs": %d, "wrong": %d, "wall": %.9f, "cpu": %.9f, ', $jobs, $wrong, $wall, $cpu;
    printf '"memory": {"base": %d, "before": %d, "after": %d, "peak": %d}, ', $base, $before, read_memory("VmRSS"),
        read_memory("VmHWM");
    printf '"latencies": [%s]}' . "\n", join ", ", map { sprintf "%.9f", $_ } @latencies;
}

sub add_task {
    my ($set, $workload) = @_;
    $set->add_task(FUNCTION, \$workload, {
        on_complete => sub { $wrong += ${$_[0]} ne $workload },
        on_fail => sub { $wrong++ },
    });
}

sub run_sets {
    my ($client, $workloads, $at_once) = @_;
    for (my $first = 0; $first < @$workloads; $first += $at_once) {
        my $last = $first + $at_once - 1;
        $last = $#$workloads if $last > $#$workloads;
        my $set = $client->new_task_set;
        add_task($set, $workloads->[$_]) for $first .. $last;
        $set->wait;
    }
}

sub run_one {
    my ($client, $workload) = @_;
    my $result = $client->do_task(FUNCTION, \$workload);
    $wrong += !defined $result || $$result ne $workload;
}

sub connect_to {
    return Gearman::Client->new(job_servers => ["127.0.0.1:$_[0]"]);
}

if ($kind eq "first") {
    $base = read_memory("VmRSS");
    my $workloads = make_workloads(1, $size);
    begin();
    run_one(connect_to($port), $workloads->[0]);
    report();
    exit;
}

my $client = connect_to($port);
run_sets($client, make_workloads(WARM_UP, WARM_UP_SIZE), WARM_UP) if $kind ne "background" && $kind ne "hold";
$base = read_memory("VmRSS");
my $workloads = make_workloads($jobs, $size);
begin();
if ($kind eq "foreground") {
    run_sets($client, $workloads, $outstanding);
    report();
} elsif ($kind eq "background") {
    for my $workload (@$workloads) {
        $wrong++ unless $client->dispatch_background(FUNCTION, \$workload);
    }
    report();
} elsif ($kind eq "latency") {
    my @latencies;
    for my $workload (@$workloads) {
        my $start = clock_gettime(CLOCK_MONOTONIC);
        run_one($client, $workload);
        push @latencies, clock_gettime(CLOCK_MONOTONIC) - $start;
    }
    report(@latencies);
} else { # hold: each add_task waits until the job has its handle
    my $set = $client->new_task_set;
    add_task($set, $_) for @$workloads;
    report();
    kill KILL => $$; # closing would only take time
}
