"""The structure of the package: imports form a tree, private names stay private, the core does no IO."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import geartrain
from tests.support.structure import (
    find_all_imports,
    find_circles,
    find_foreign_privates,
    find_imports,
    find_modules,
    import_graph,
)

pytestmark = pytest.mark.untraced

ROOT = Path(geartrain.__file__).parent
PURE = {
    "__future__", "bisect", "collections", "contextlib", "dataclasses", "enum", "functools", "heapq", "itertools",
    "io",  # for BytesIO, which does no IO
    "re", "struct", "types", "typing", "zlib", "math", "abc", "operator", "string", "urllib",
}  # fmt: skip


# The packages, and the modules of each package. A row may import only the rows above it.
LAYERS: dict[str, tuple[str, ...]] = {
    "geartrain": (
        "errors address backoff validation printable signals tls version outage timeout unpatched",
        "log_format mailbox resolver",
        "program",
        "fork_safety protocol",
        "handle http_service loop_binding",
        "connection",
        "connect",
        "session",
        "server admin worker",
        "client",
        "blocking cli",
        "compat contrib",
        "__main__",
    ),
    "geartrain.client": (
        "callbacks deadlines job_errors query registry server_counters slices submit_prefixes",
        "submission_state uniques updates",
        "task_options",
        "task_spec",
        "task timeouts",
        "routing submission_details",
        "config",
        "runtime",
        "submission session worker_counts",
        "job submission_batch connector",
        "submission_sender",
        "channel",
        "pool statistics",
        "dispatcher",
        "window",
        "map_results",
        "client",
        "named",
    ),
    "geartrain.worker": (
        "background_run exceptions forked guard job_metrics lifecycle memory process_hooks reporter slots thread_pool",
        "counters greenlets job thread_reader",
        "function_thread statistics",
        "results",
        "function",
        "config processes",
        "session",
        "running_job",
        "observer",
        "channel",
        "executors outcomes",
        "invocation task_runner thread_runner",
        "job_runner",
        "run",
        "monitoring",
        "prefork run_log",
        "worker",
    ),
    "geartrain.worker.monitoring": ("ended_processes loop_watch multiprocess", "prometheus", "service"),
    "geartrain.admin": ("session shared_attempt", "admin", "group"),
    "geartrain.blocking": (
        "aliases inbox loop_call multiprocessing_exit",
        "loop_thread",
        "shared_thread",
        "resident",
        "admin job job_server map_results worker_run",
        "client worker",
        "named",
    ),
    "geartrain.contrib": ("opentelemetry",),
    "geartrain.compat": ("shared", "gearman python3_gearman"),
    "geartrain.compat.shared": (
        "constants flavour util",
        "connection encoder event_queue job running_job submission",
        "manager submissions work_run",
        "admin_client client worker",
    ),
    "geartrain.cli": (
        "child_process console current_run example_command exit_status handles init_process logs messages options",
        "pipes timespec watch workload_source",
        "event_loop fan_out job_monitor keyboard live_view man_page streams tables",
        "function_rows live_screen",
        "live_status",
        "demo exporter submit worker",
        "commands",
        "app",
    ),
    "geartrain.cli.commands": ("demo exporter inspect job manage ping serve status submit worker",),
    "geartrain.cli.demo": (
        "screen text_files word_count_worker",
        "worker_processes",
        "word_count_client",
        "report",
        "run",
    ),
    "geartrain.cli.exporter": ("readings", "collector"),
    "geartrain.cli.submit": ("progress", "live_progress printer", "output", "submitter"),
    "geartrain.cli.worker": (
        "check command_function process_health source_watcher user_traceback",
        "worker_loader",
        "supervisor",
        "serving",
    ),
    "geartrain.server": ("peer_connections tls_acceptor", "job_server"),
    "geartrain.protocol": (
        "heartbeat long_packet numbers packets text_replies timer_queue wakeup_throttle",
        "decoder handlers worker_state",
        "coalescing text worker",
        "job_liveness",
        "results",
        "client",
        "server",
    ),
    "geartrain.protocol.server": ("job_queue", "peer", "broker", "admin_commands", "requests", "dispatch"),
}

# Packages on top of the core, which use its public names.
ON_TOP = ("geartrain.blocking", "geartrain.compat", "geartrain.contrib")
# What they may import beside these: nothing of the core.
ALSO_FOR_THOSE_ON_TOP = {"geartrain.unpatched"}

# Remaining violations; add none.
ALLOWED_CIRCLES: tuple[set[str], ...] = ()
ALLOWED_PRIVATES: dict[str, int] = {}


def test_imports_form_no_circle() -> None:
    """This includes imports for type checkers: a circle of types is a circle of responsibilities."""
    assert sorted(map(sorted, find_circles(import_graph()))) == sorted(map(sorted, ALLOWED_CIRCLES))


def test_a_circle_is_detected() -> None:
    assert find_circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [{"b", "c"}]


def test_no_module_uses_private_names_of_another() -> None:
    found = {name: list(find_foreign_privates(path.read_text())) for name, path in find_modules().items()}
    assert {name: len(uses) for name, uses in found.items() if uses} == ALLOWED_PRIVATES, found


def test_a_private_name_of_another_module_is_detected() -> None:
    source = """
class Job:
    def same(self, other, job): return other._id == self._id == job._id
def f(link, row): return link._session, link.session._protocol, row._replace(a=1)
"""
    assert list(find_foreign_privates(source)) == ["link._session", "link.session._protocol"]


@pytest.mark.parametrize("package", LAYERS)
def test_each_module_imports_only_modules_of_the_rows_above_it(package: str) -> None:
    row_of = {name: number for number, row in enumerate(LAYERS[package]) for name in row.split()}
    depth = package.count(".") + 1
    for module, imported in import_graph().items():
        if not module.startswith(f"{package}."):
            continue
        name = module.split(".")[depth]
        assert name in row_of, f"{module} is in no row of LAYERS[{package!r}]"
        for other in imported:
            other_name = other.split(".")[depth] if other.startswith(f"{package}.") else name
            assert other_name == name or row_of[other_name] < row_of[name], f"{module} imports {other}"


def test_no_module_imports_the_root_package() -> None:
    for module, path in find_modules().items():
        # The demo's worker imports the public names, like the workers of users.
        if module != "geartrain.cli.demo.word_count_worker" and not module.startswith(ON_TOP):
            assert "geartrain" not in find_imports(path), module


@pytest.mark.parametrize("module", [name for name in find_modules() if name.startswith(ON_TOP)])
def test_a_package_on_top_uses_only_public_names_of_the_core(module: str) -> None:
    for name in find_all_imports(find_modules()[module].read_text()):
        if name.partition(".")[0] == "geartrain":
            assert name == "geartrain" or name.startswith(ON_TOP) or name in ALSO_FOR_THOSE_ON_TOP, name


@pytest.mark.parametrize("module", [name for name in find_modules() if name.startswith("geartrain.protocol")])
def test_the_protocol_core_uses_no_socket_clock_randomness_or_loop(module: str) -> None:
    for name in find_all_imports(find_modules()[module].read_text()):
        if name.partition(".")[0] == "geartrain":
            allowed = name.startswith("geartrain.protocol") or name in {"geartrain.errors", "geartrain.printable"}
            assert allowed, f"{module} imports {name}"
        else:
            assert name.partition(".")[0] in PURE, f"{module} imports {name}"


def test_importing_the_protocol_core_loads_no_event_loop() -> None:
    modules = sorted(name for name in find_modules() if name.startswith("geartrain.protocol."))
    # The package itself imports the client, so a stand-in for the package is used to load the core alone.
    script = f"""
import sys, types
package = types.ModuleType("geartrain"); package.__path__ = [{str(ROOT)!r}]; sys.modules["geartrain"] = package
for name in {modules!r}: __import__(name)
print(sorted({{"asyncio", "socket", "random", "selectors", "ssl"}} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-S", "-E", "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_importing_the_client_loads_no_worker_job_server_or_admin_client() -> None:
    code = "import sys; from geartrain import Client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "geartrain.client.client" in loaded
    packages = {name.split(".")[1] for name in loaded if name.startswith("geartrain.")}
    assert packages.isdisjoint({"worker", "server", "admin", "cli"})


def test_importing_the_package_loads_only_its_version() -> None:
    code = "import sys; before = set(sys.modules); import geartrain; print(*set(sys.modules) - before)"
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT.parent)},
    )
    assert set(loaded.stdout.split()) == {"__future__", "geartrain", "geartrain.version"}


def test_every_public_name_is_resolved_on_first_use() -> None:
    for name in geartrain.__all__:
        assert hasattr(geartrain, name)
    assert set(geartrain.__all__) <= set(dir(geartrain))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = geartrain.Nothing  # type: ignore[attr-defined]


def test_type_checkers_find_each_public_name_where_it_is_resolved() -> None:
    tree = ast.parse(Path(geartrain.__file__).read_text())
    imported_for_checkers = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    resolved = {name: module for module, names in geartrain._NAMES.items() for name in names}
    assert resolved == imported_for_checkers
    assert set(geartrain.__all__) == {*resolved, "__version__"}
