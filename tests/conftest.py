"""Shared by all tests: every event loop, a check that no resource is leaked, and job server fixtures."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, settings

from tests.support.coverage_switch import CoverageSwitch
from tests.support.forked_coverage import save_before_forks
from tests.support.gearmand import Gearmand
from tests.support.job_server import KINDS, AnyJobServer, JobServerHost, JobServerStarter

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def with_eager_tasks(make_loop: LoopFactory) -> LoopFactory:
    """Return a factory of loops with eager tasks, which run until their first suspension when they are created."""

    def make() -> asyncio.AbstractEventLoop:
        loop = make_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        return loop

    return make


def can_create_tasks(make_loop: LoopFactory) -> bool:
    """Whether a loop can create tasks: uvloop 0.23 passes eager factories an argument that Python 3.13.0 rejects."""
    loop = make_loop()
    coroutine = asyncio.sleep(0)
    try:
        loop.run_until_complete(coroutine)
    except TypeError:
        coroutine.close()
        return False
    finally:
        loop.close()
    return True


LOOPS: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
if sys.version_info >= (3, 12):
    eager_loops = {f"{name}-eager": with_eager_tasks(make_loop) for name, make_loop in LOOPS.items()}
    LOOPS.update({name: make_loop for name, make_loop in eager_loops.items() if can_create_tasks(make_loop)})
ENVIRONMENT = dict(os.environ)  # before pytest_configure changes it
TIME_LIMIT = pytest.StashKey[float]()
LOOP_NAME = pytest.StashKey[str]()  # of a coroutine test
COVERAGE = pytest.StashKey[CoverageSwitch]()
ROOT = Path(__file__).parent
# `make check` skips these: their tests run real job servers, processes or thousands of virtual seconds.
SLOW_FOLDERS = {"cli", "faults", "fuzz", "integration", "kills", "resilience", "simulation", "soak"}
SLOW_MODULES = {
    "test_benchmarks",
    "test_conftest",
    "test_documents",
    "test_odd_exceptions",
    "test_process_faults",
    "test_service",
}
# Other targets of make than `test` run these.
NAMED_FOLDERS = {"docs_site", "examples", "package", "site_check"}
# These move many bytes through code that the unit tests cover.
UNTRACED_FOLDERS = {"resilience", "simulation"}

# The duration of an example depends more on the machine than on the code. `make test` passes a seed derived from the
# commit: a failure is reproducible, and the next commit is tested with other examples.
settings.register_profile(
    "geartrain",
    settings.get_profile("default"),
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("geartrain")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("timeout_grace", "seconds that a coroutine test has to finish after its timeout", default="30")


def pytest_configure() -> None:
    """
    Make the tests independent of the environment.

    Processes that they start would inherit signals ignored by nohup or `&`. Each TLS context would load the certificate
    authorities of the machine, which no test uses and which takes up to 70 ms.
    """
    os.environ["SSL_CERT_FILE"] = os.environ["SSL_CERT_DIR"] = os.devnull
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not let `make check` import modules whose tests it skips."""
    if config.option.markexpr == "not slow" and is_slow(collection_path):
        return True
    # What these need is installed by other targets of make, which name the folder.
    for folder in NAMED_FOLDERS.intersection(folders(collection_path)):
        if not any(folder in argument for argument in config.args):
            return True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """
    Mark tests by folder, give coroutine tests a timeout, and drop those on loops that their mark excludes.

    A coroutine test that hangs is cancelled, so that the traceback shows where. If it ignores the cancellation, the
    whole process is ended: uvloop swallows the exception that pytest-timeout's signal handler raises.
    """
    for item in items:
        if is_slow(item.path):
            item.add_marker("slow")
        if not UNTRACED_FOLDERS.isdisjoint(folders(item.path)):
            item.add_marker("untraced")
        if "cli" in folders(item.path):
            item.add_marker("traced_processes")
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.stash[LOOP_NAME] = str(item.callspec.params["event_loop_name"])
            item.stash[TIME_LIMIT] = limit = time_limit(item)
            grace = float(item.config.getini("timeout_grace"))
            item.add_marker(pytest.mark.timeout(limit + grace, method="thread"), append=False)
    selected = [item for item in items if is_on_its_loop(item)]
    config.hook.pytest_deselected(items=[*{*items}.difference(selected)])
    items[:] = selected


def is_on_its_loop(item: pytest.Item) -> bool:
    """
    Whether the mark of a test, or of one of its parameters, includes its event loop.

    The mark of a parameter is unknown before the combinations with the loops are made.
    """
    marker = item.get_closest_marker("loops")
    name = item.stash.get(LOOP_NAME, None)
    return marker is None or name is None or name.removesuffix("-eager") in marker.args


def is_slow(path: Path) -> bool:
    """Whether `make check` skips the tests of a module."""
    return not SLOW_FOLDERS.isdisjoint(folders(path)) or (path.is_relative_to(ROOT) and path.stem in SLOW_MODULES)


@functools.cache
def folders(path: Path) -> tuple[str, ...]:
    """Return the names in a path below the folder of the tests; none outside it."""
    return path.relative_to(ROOT).parts if path.is_relative_to(ROOT) else ()


def time_limit(item: pytest.Item) -> float:
    """Return the timeout of a test in seconds."""
    marker = item.get_closest_marker("timeout")
    if marker is not None and marker.args:
        return float(marker.args[0])
    return float(item.config.getoption("timeout") or item.config.getini("timeout"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every coroutine test on every event loop."""
    if inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.append("event_loop_name")
        metafunc.parametrize("event_loop_name", list(LOOPS))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """
    Collect garbage, and exclude everything that is left from the garbage collections of later tests.

    Garbage collections would otherwise take a third of the time of all tests.
    """
    gc.collect()
    gc.freeze()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """
    Measure the coverage of imports, in one of pytest's processes: all of them import the same modules.

    Outside of imports and tests it would take twice as long, and cover nothing.
    """
    session.stash[COVERAGE] = switch = CoverageSwitch()
    save_before_forks()
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0") != "gw0":
        return (yield)
    with switch.measuring(processes=False):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Measure the coverage of the threads that fixtures start, where these are what is tested."""
    if "blocking" not in folders(item.path) or item.get_closest_marker("untraced"):
        return (yield)
    with item.session.stash[COVERAGE].measuring(processes=False):
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Function) -> Iterator[None]:
    """Measure the coverage of a test; other event loops than asyncio's would reach nothing new."""
    if item.get_closest_marker("untraced") or item.stash.get(LOOP_NAME, "asyncio") != "asyncio":
        return (yield)
    processes = item.get_closest_marker("traced_processes") is not None
    with item.session.stash[COVERAGE].measuring(processes=processes):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test, and check that it left no asyncio task, timer or socket."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    sockets = open_sockets()
    with asyncio.Runner(loop_factory=LOOPS[pyfuncitem.stash[LOOP_NAME]]) as runner:
        runner.run(run_and_check(pyfuncitem.obj, arguments, pyfuncitem.stash[TIME_LIMIT]))
        gc.collect()
        left = open_sockets(runner.get_loop()) - sockets
        assert not left, f"sockets were left open: {left}"
    return True


async def run_and_check(test: Callable[..., Any], arguments: dict[str, Any], limit: float) -> None:
    async with asyncio.timeout(limit):
        await test(**arguments)
    await asyncio.sleep(0)  # for pending callbacks, such as a transport's connection_lost
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"asyncio tasks were left running: {left}"
    timers = [t for t in getattr(asyncio.get_running_loop(), "_scheduled", ()) if not t.cancelled()]
    assert not timers, f"timers were left: {timers}"


def open_sockets(loop: asyncio.AbstractEventLoop | None = None) -> set[str]:
    """Return this process's open sockets, without the loop's own wake-up socket pair."""
    own = set()
    for name in ("_ssock", "_csock"):
        if (sock := getattr(loop, name, None)) is not None:
            own.add(os.readlink(f"/proc/self/fd/{sock.fileno()}"))
    links = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.add(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            continue
    return {link for link in links if link.startswith("socket:")} - own


@pytest.fixture
def gearmand(tmp_path: Path) -> Iterator[Gearmand]:
    """A fresh gearmand on a free port."""
    with Gearmand(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def job_server_host() -> Iterator[JobServerHost]:
    """The process that runs our own job servers, started on first use."""
    host = JobServerHost()
    yield host
    host.close()


@pytest.fixture(params=KINDS)
def start_job_server(
    request: pytest.FixtureRequest, tmp_path: Path, job_server_host: JobServerHost
) -> Iterator[JobServerStarter]:
    """A factory of job servers with options; the test runs once with gearmand and once with ours."""
    starter = JobServerStarter(request.param, tmp_path, job_server_host)
    yield starter
    starter.close()


@pytest.fixture
def job_server(start_job_server: JobServerStarter) -> AnyJobServer:
    """A fresh job server on a free port; the test runs once with gearmand and once with ours."""
    return start_job_server()
