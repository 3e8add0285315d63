"""Which job server gets a task: the same one as with Perl's client, and the balance strategies."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from geartrain import Task
from geartrain.client.routing import hash_index, make_chooser, routing_key

# Reads the number of job servers, then pairs of unique and workload in hexadecimal; writes the number of the server
# that each goes to. The class stands in for the connections only: hash, and the choice by it, are Perl's client's own.
PERL = r"""
use strict; use warnings;
use Gearman::Client; use Gearman::Task; use Gearman::Taskset;
{
    package Chosen; our @ISA = ("Gearman::Taskset");
    sub _get_loaned_sock { return "$_[1]" }
    sub _get_default_sock { return "any" }
}
my $count = <STDIN>;
my $client = Gearman::Client->new(job_servers => [map { "server:$_" } 0 .. $count - 1]);
while (my $line = <STDIN>) {
    my ($unique, $workload) = map { pack "H*", $_ } split / /, $line =~ s/\n//r, 2;
    my $task = Gearman::Task->new("f", \$workload, {uniq => $unique});
    $task->taskset(Chosen->new($client));
    print $task->{jssock} =~ s/server://r, "\n";
}
"""

TASKS = [
    *(Task("f", b"", unique=f"key {n}") for n in range(200)),
    *(Task("f", b"workload %d" % n, unique="-") for n in range(100)),
    Task("f", b"ignored", unique="grüße"),
    Task("f", b"\0\n\xff", unique="-"),
    Task("f", b"", unique="u" * 63),
    Task("f", b"", unique="-"),
    Task("f", b"alone"),
]


def choices_of_perl(tasks: Sequence[Task], servers: int) -> list[str]:
    lines = (
        f"{(task.unique or '').encode('utf-8', 'surrogateescape').hex()} {task.workload.hex()}\n" for task in tasks
    )
    answer = subprocess.run(
        ["perl", "-e", PERL], input=f"{servers}\n{''.join(lines)}", capture_output=True, text=True, check=True
    )
    return answer.stdout.split()


@pytest.mark.parametrize("servers", [1, 2, 3, 7])
def test_a_unique_goes_to_the_same_server_as_with_perls_client(servers: int) -> None:
    ours = [str(hash_index(key, servers)) if (key := routing_key(task)) else "any" for task in TASKS]
    assert ours == choices_of_perl(TASKS, servers)
    assert len(set(ours)) == servers + 1, "every server has some of the keys"


@pytest.mark.parametrize(
    ("options", "key"),
    [({}, b""), ({"unique": ""}, b""), ({"unique": "key"}, b"key"), ({"unique": "-"}, b"workload")],
)
def test_the_key_is_the_unique_or_the_workload_if_the_unique_is_a_dash(options: dict[str, Any], key: bytes) -> None:
    assert routing_key(Task("f", b"workload", **options)) == key


@dataclass
class Server:
    name: str
    outstanding: int = 0
    waiting: int = 0


SERVERS = [Server("a"), Server("b"), Server("c")]
TASK = Task("f")


def test_random_uses_all_servers_equally() -> None:
    choose = make_chooser("random")
    counts = Counter(choose(TASK, SERVERS).name for _ in range(3000))
    assert all(800 < count < 1200 for count in counts.values()), counts
    assert len(counts) == 3


def test_round_robin_takes_the_servers_in_turn() -> None:
    choose = make_chooser("round-robin")
    assert [choose(TASK, SERVERS).name for _ in range(5)] == ["a", "b", "c", "a", "b"]
    assert make_chooser("round-robin")(TASK, SERVERS).name == "a", "each client has its own counter"


def test_first_takes_the_first() -> None:
    assert make_chooser("first")(TASK, SERVERS).name == "a"


def test_least_outstanding_takes_the_one_with_the_fewest_jobs() -> None:
    servers = [Server("a", 3), Server("b", 1), Server("c", 2)]
    assert make_chooser("least-outstanding")(TASK, servers).name == "b"


def test_least_outstanding_counts_jobs_that_wait_for_the_connection() -> None:
    servers = [Server("a", 0, 3), Server("b", 2, 0)]
    assert make_chooser("least-outstanding")(TASK, servers).name == "b"


def test_a_function_chooses_the_server_of_a_task() -> None:
    seen: list[object] = []

    def choose(task: Task, servers: Sequence[str]) -> str:
        seen.append((task, servers))
        return "b"

    assert make_chooser(choose)(TASK, SERVERS).name == "b"
    assert seen == [(TASK, ("a", "b", "c"))]


def test_a_function_that_returns_no_live_server_is_an_error() -> None:
    choose = make_chooser(lambda task, servers: "z")
    with pytest.raises(ValueError, match="balance returned 'z', which is not one of the live job servers a, b, c"):
        choose(TASK, SERVERS)


def test_an_unknown_balance_is_rejected() -> None:
    with pytest.raises(ValueError, match="balance must be one of random, round-robin, least-outstanding, first"):
        make_chooser("fastest")  # type: ignore[arg-type]
