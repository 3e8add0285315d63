"""Imports go down only, and the protocol core does without IO."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import geartrain

ROOT = Path(geartrain.__file__).parent
PURE = {
    "__future__", "bisect", "collections", "contextlib", "dataclasses", "enum", "functools", "heapq", "itertools",
    "io",  # for BytesIO, which is memory
    "re", "struct", "types", "typing", "zlib", "math", "abc", "operator", "string", "urllib",
}  # fmt: skip


# Each module may import those of floors below, and its own neighbours.
FLOORS = (
    ("errors", "address", "backoff", "checks", "printable", "signals", "tls", "version"),
    ("protocol", "forks", "outage", "resolver", "timeout"),
    ("connection", "handle", "handshakes"),
    ("peers",),
    ("admin", "worker", "server"),
    ("client",),
    ("cli", "testing"),
    ("__main__",),
)


def floor(module: str) -> int:
    """Return the floor of a module ``geartrain.x.y``."""
    room = module.split(".")[1]
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def imports(path: Path) -> set[str]:
    """The modules that a file imports, wherever in it, but for those that only type checkers see."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    hidden = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "protocol").glob("*.py")), ids=lambda path: path.stem)
def test_the_protocol_core_knows_no_socket_clock_randomness_or_loop(path: Path) -> None:
    for name in imports(path):
        if name.partition(".")[0] == "geartrain":
            allowed = name.startswith("geartrain.protocol") or name in {"geartrain.errors", "geartrain.printable"}
            assert allowed, f"{path.name} imports {name}"
        else:
            assert name.partition(".")[0] in PURE, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    module = ".".join(("geartrain", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    if module == "geartrain":
        return  # the roof: it hands out what the floors hold
    for name in imports(path):
        if name.startswith("geartrain."):
            same_room = name.split(".")[1] == module.split(".")[1]
            assert same_room or floor(name) < floor(module), f"{module} imports {name}"


def test_importing_the_protocol_core_loads_no_event_loop() -> None:
    modules = [f"geartrain.protocol.{path.stem}" for path in sorted((ROOT / "protocol").glob("*.py"))]
    # The package itself imports the client; so the core is loaded beside it, under a stand-in for the package.
    script = f"""
import sys, types
package = types.ModuleType("geartrain"); package.__path__ = [{str(ROOT)!r}]; sys.modules["geartrain"] = package
for name in {modules!r}: __import__(name)
print(sorted({{"asyncio", "socket", "random", "selectors", "ssl"}} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-S", "-E", "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_client_loads_nothing_of_worker_job_server_and_admin_client() -> None:
    code = "import sys; from geartrain import Client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "geartrain.client.client" in loaded
    rooms = {name.split(".")[1] for name in loaded if name.startswith("geartrain.")}
    assert rooms.isdisjoint({"worker", "server", "peers", "admin", "cli"})


def test_importing_the_package_loads_nothing_but_its_version() -> None:
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
    seen_by_checkers = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    resolved = {name: module for module, names in geartrain._NAMES.items() for name in names}
    assert resolved == seen_by_checkers
    assert set(geartrain.__all__) == {*resolved, "__version__"}
