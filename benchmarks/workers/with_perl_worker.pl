#!/usr/bin/perl
# Perl's Gearman::Worker, which returns each job's workload. usage: with_perl_worker.pl PORT
use strict;
use warnings;
use Gearman::Worker;

my $worker = Gearman::Worker->new(job_servers => ["127.0.0.1:$ARGV[0]"]);
$worker->register_function(echo => sub { $_[0]->arg });
$worker->work while 1;
