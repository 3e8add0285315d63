"""Common tools and libraries with gearmand and with our job server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence

import pytest

from geartrain.protocol.packets import PacketType
from tests.support.eventually import wait_until
from tests.support.job_server import AnyJobServer
from tests.support.wire import Wire

WITHIN = 30  # seconds that a tool may take before the test fails

PERL_WORKER = """
use Gearman::Worker;
my $worker = Gearman::Worker->new(job_servers => [$ARGV[0]]);
$worker->register_function(reverse => sub { my $job = shift; $job->set_status(1, 2); scalar reverse $job->arg });
$worker->register_function(sum => sub { my $sum = 0; $sum += $_ for split / /, $_[0]->arg; $sum });
$worker->work while 1;
"""

PERL_CLIENT = """
use Gearman::Client;
my $client = Gearman::Client->new(job_servers => [$ARGV[0]]);
my $tasks = $client->new_task_set;
my ($handle, @status, @failed);
print ${$client->do_task(reverse => 'hello')}, "\n";
for my $number (1 .. 50) {
    $tasks->add_task(reverse => $number, {
        uniq => $number % 5 ? '' : '-',
        high_priority => $number % 2,
        on_complete => sub { print "$number ${$_[0]}\n" },
    });
}
$tasks->wait;
$handle = $client->dispatch_background(nobody => 'x', {uniq => 'later'});
my $status = $client->get_status($handle);
print $status->known, ' ', ($status->running ? 1 : 0), "\n";
"""


class Processes:
    """Starts programs, and kills those still running after the test."""

    def __init__(self, job_server: AnyJobServer) -> None:
        self.address = job_server.address
        self.host = ["-h", "127.0.0.1", "-p", str(job_server.port)]
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a program that runs in the background."""
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.started.append(process)
        return process

    def run(self, *command: str, data: bytes = b"", status: int = 0) -> bytes:
        """Run a program, and return its output."""
        done = subprocess.run(command, input=data, capture_output=True, timeout=WITHIN, check=False)
        assert done.returncode == status, done.stderr.decode(errors="replace")
        return done.stdout

    def gearman(self, *options: str, data: bytes = b"", status: int = 0) -> bytes:
        """Run the ``gearman`` tool."""
        return self.run("gearman", *self.host, *options, data=data, status=status)

    def gearadmin(self, *options: str, status: int = 0) -> bytes:
        """Run the ``gearadmin`` tool."""
        return self.run("gearadmin", *self.host, *options, status=status)


@pytest.fixture
def tools(job_server: AnyJobServer) -> Iterator[Processes]:
    processes = Processes(job_server)
    yield processes
    for process in processes.started:
        process.kill()
        process.wait()


@pytest.fixture
def admin(job_server: AnyJobServer) -> Iterator[Wire]:
    with Wire(job_server.port) as wire:
        yield wire


def workers(admin: Wire, function: bytes) -> int:
    """Return the number of workers that offer a function."""
    rows = [row.rstrip(b"\n").split(b"\t") for row in admin.ask(b"status")]
    return sum(int(row[3]) for row in rows if row[0] == function)


@pytest.mark.parametrize("options", [(), ("-I",), ("-L",), ("-u", "unique"), ("-P",)])
def test_the_gearman_tool_as_client_and_as_worker(tools: Processes, admin: Wire, options: Sequence[str]) -> None:
    tools.start("gearman", *tools.host, "-w", "-f", "upper", "--", "tr", "a-z", "A-Z")
    wait_until(lambda: workers(admin, b"upper"))
    answer = tools.gearman("-f", "upper", *options, data=b"hello")
    assert answer == (b"upper: HELLO" if "-P" in options else b"HELLO")


def test_the_gearman_tool_gets_a_job_per_line_and_data_per_line(tools: Processes, admin: Wire) -> None:
    tools.start("gearman", *tools.host, "-w", "-n", "-f", "twice", "--", "sh", "-c", "read x; echo $x; echo $x")
    wait_until(lambda: workers(admin, b"twice"))
    answer = tools.gearman("-n", "-f", "twice", data=b"one\ntwo\nthree\n")
    # A data packet for each of the two lines, and the result, which contains both again.
    assert sorted(answer.split()) == sorted(b"one two three".split() * 3)


def test_the_gearman_tool_reports_a_failure(tools: Processes, admin: Wire) -> None:
    tools.start("gearman", *tools.host, "-w", "-f", "fail", "--", "false")
    wait_until(lambda: workers(admin, b"fail"))
    tools.gearman("-f", "fail", "-s", status=1)


def test_the_gearman_tool_submits_in_the_background(tools: Processes, admin: Wire) -> None:
    tools.gearman("-b", "-f", "later", data=b"workload")
    assert admin.ask(b"status") == [b"later\t1\t0\t0\n"]
    tools.start("gearman", *tools.host, "-w", "-c", "1", "-f", "later", "--", "cat").wait(WITHIN)
    wait_until(lambda: admin.ask(b"show jobs") == [])


def test_gearadmin_with_all_its_options(tools: Processes, admin: Wire) -> None:
    tools.gearadmin("--create-function=made")
    assert tools.gearadmin("--status") == b"made\t0\t0\t0\n.\n"
    admin.submit(b"made", b"unique 1", b"w", PacketType.SUBMIT_JOB_BG)
    handle = admin.submit(b"made", b"unique 2", b"w", PacketType.SUBMIT_JOB_HIGH)
    assert tools.gearadmin("--priority-status") == b"made\t1\t1\t0\t0\n.\n"
    assert sorted(tools.gearadmin("--show-unique-jobs").splitlines()) == [b".", b"unique 1", b"unique 2"]
    assert handle + b"\t0\t0\t0" in tools.gearadmin("--show-jobs").splitlines()
    tools.gearadmin(f"--cancel-job={handle.decode()}")
    admin.expect(PacketType.WORK_FAIL, handle)
    assert admin.ask(b"workers")
    rows = tools.gearadmin("--workers").splitlines()
    assert len(rows) == 3
    assert all(row.endswith(b" 127.0.0.1 - :") for row in rows[:2])
    assert admin.ask_line(b"getpid").removeprefix(b"OK ").strip() in tools.gearadmin("--getpid")
    assert admin.ask_line(b"version").removeprefix(b"OK ").strip() in tools.gearadmin("--server-version")
    assert b"ERROR" in tools.gearadmin("--server-verbose")
    tools.gearadmin("--create-function=other")
    tools.gearadmin("--drop-function=other")
    assert b"other" not in tools.gearadmin("--status")


def test_perls_client_and_worker(tools: Processes, admin: Wire) -> None:
    tools.start("perl", "-e", PERL_WORKER, tools.address)
    wait_until(lambda: workers(admin, b"reverse"))
    lines = tools.run("perl", "-e", PERL_CLIENT, tools.address).decode().splitlines()
    assert lines[0] == "olleh"
    assert lines[-1] == "1 0"
    assert sorted(lines[1:-1]) == sorted(f"{number} {str(number)[::-1]}" for number in range(1, 51))


def test_perls_worker_with_the_gearman_tool(tools: Processes, admin: Wire) -> None:
    tools.start("perl", "-e", PERL_WORKER, tools.address)
    wait_until(lambda: workers(admin, b"sum"))
    assert tools.gearman("-f", "sum", data=b"1 2 39") == b"42"
