"""Reads the package's structure from its source: imports between modules, and uses of foreign private names."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import geartrain

__all__ = [
    "PACKAGE",
    "find_all_imports",
    "find_circles",
    "find_foreign_privates",
    "find_imports",
    "find_modules",
    "import_graph",
]

PACKAGE = Path(geartrain.__file__).parent

# Public despite the underscore: methods of NamedTuple, asyncio and os.
_NOT_OURS = {"_asdict", "_fields", "_make", "_replace", "_get_running_loop", "_set_running_loop", "_exit"}


@cache
def find_modules() -> Mapping[str, Path]:
    """Return the path of each module by name; a package's is its ``__init__``."""
    return {_name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def find_imports(path: Path) -> frozenset[str]:
    """Return the other modules of the package that a module imports."""
    return (find_all_imports(path.read_text()) & find_modules().keys()) - {_name_of(path)}


@cache
def find_all_imports(source: str) -> frozenset[str]:
    """Return the modules imported anywhere in a source, including imports for type checking only."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in find_modules() else node.module)
    return frozenset(found)


def import_graph() -> dict[str, set[str]]:
    """Return the imports of each module, without those of a package's ``__init__``, which re-exports."""
    return {
        name: {other for other in find_imports(path) if find_modules()[other].name != "__init__.py"}
        for name, path in find_modules().items()
        if path.name != "__init__.py"
    }


def find_circles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """Return the sets of modules that import each other, directly or indirectly (Tarjan's algorithm)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    circles: list[set[str]] = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        stack.append(module)
        for other in sorted(graph.get(module, ())):
            if other not in number:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], number[other])
        if lowest[module] == number[module]:
            begin = stack.index(module)
            if len(stack) - begin > 1:
                circles.append(set(stack[begin:]))
            del stack[begin:]

    for module in sorted(graph):
        if module not in number:
            visit(module)
    return circles


def find_foreign_privates(source: str) -> Iterator[str]:
    """
    Yield each use of a private attribute that belongs neither to ``self``, ``cls`` nor to a class of the same module.

    An object of a class of the same module is recognized by its name: ``task`` is a ``Task``, ``link`` an
    ``AdminLink``, ``other`` another instance of the class.
    """
    tree = ast.parse(source)
    classes = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    names = {_snake(name) for name in classes}
    own = {"self", "cls", "other", *classes, *names, *(name.rpartition("_")[2] for name in names)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr.startswith("__"):
            continue
        if isinstance(node.value, ast.Name) and node.value.id in own:
            continue
        if node.attr not in _NOT_OURS:
            yield ast.unparse(node)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
