"""
Measures cost without a clock: one step for each operation, and one for each byte or item that it handles.

Counting lines or bytecode instructions is not enough: ``buffer = buffer[n:]`` is one instruction, however much it
copies. So functions are recompiled with each operation wrapped in a call of a :class:`Meter`, which performs it and
knows the cost of built-in operations. A regular expression is assumed to cost the length of the text;
:mod:`tests.support.regex` proves when that is true.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import re
import sys
import textwrap
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from io import BytesIO
from itertools import islice
from pathlib import Path
from struct import Struct
from types import CodeType, ModuleType
from typing import Any, Final

__all__ = ["Meter"]

METERED: Final = ("geartrain", "ipaddress")  # top-level packages whose functions are metered when they are imported

_TEXT: Final = (bytes, bytearray, str)
_SIZED: Final = (*_TEXT, list, tuple, dict, set, frozenset, deque, OrderedDict)
_COPIES: Final = (*_TEXT, list, tuple)  # a slice or sum of these is a copy

# Calls whose arguments and result add nothing to the cost.
_CONSTANT: Final = {len, isinstance, next, iter, id, type, memoryview, getattr, range, islice, hash, callable}
_APPENDED: Final = {"append", "appendleft", "popleft", "clear"}
_LOOKED_UP: Final = {
    *("get", "pop", "popitem", "setdefault", "add", "discard", "keys", "values", "items", "move_to_end", "clear"),
}
_CONSTANT_METHODS: Final = {
    list: _APPENDED,
    deque: _APPENDED,
    bytearray: _APPENDED,
    dict: _LOOKED_UP,
    OrderedDict: _LOOKED_UP,
    set: _LOOKED_UP,
    BytesIO: {"tell", "seek", "getvalue"},  # getvalue does not copy if the whole buffer is used
    Struct: {"unpack_from", "iter_unpack"},
}
_FINDS: Final = {"find", "index", "rfind", "rindex"}
_LOOKS_AT_ENDS: Final = {"startswith", "endswith"}


def _size(value: object) -> int:
    return len(value) if type(value) in _SIZED else 0  # type: ignore[arg-type]


class Meter:
    """
    Performs the operations of metered code and counts them.

    Attributes:
        steps: The total cost so far.
            patterns: The regular expressions used, and whether by ``search``.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.patterns: set[tuple[re.Pattern[Any], bool]] = set()

    # Metering functions and modules.

    def instrument(self, function: Callable[..., Any]) -> Any:
        """Return a metered copy of a module's function, which can use that module's names."""
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        namespace = {**sys.modules[function.__module__].__dict__, "__meter__": self}
        exec(_compile(tree, f"<metered {function.__name__}>"), namespace)
        return namespace[function.__name__]

    @contextmanager
    def modules(self, *names: str) -> Iterator[list[ModuleType]]:
        """Import metered copies of modules and of the :data:`METERED` ones they use; restore the originals on exit."""
        old = {name: sys.modules.pop(name) for name in list(sys.modules) if name in names or _is_metered(name)}
        finder = _Finder(self, names)
        sys.meta_path.insert(0, finder)
        try:
            yield [importlib.import_module(name) for name in names]
        finally:
            sys.meta_path.remove(finder)
            for name in [name for name in sys.modules if name in names or _is_metered(name)]:
                del sys.modules[name]
            sys.modules.update(old)

    # Called by metered code.

    def step(self) -> None:
        """Count one step."""
        self.steps += 1

    def made(self, value: Any) -> Any:
        """Count a slice, a sum or a similar operation."""
        self.steps += 1 + (len(value) if type(value) in _COPIES else 0)
        return value

    def add(self, target: Any, value: Any) -> Any:
        """Perform ``target += value``; an immutable target is copied."""
        in_place = type(target) in (bytearray, list)
        target += value
        self.steps += 1 + _size(value if in_place else target)
        return target

    def compare(self, left: Any, right: Any, equal: Any) -> Any:
        """Count ``left == right`` with the result ``equal``."""
        same = type(left) in _COPIES and type(right) in _COPIES and len(left) == len(right)
        self.steps += 1 + (len(left) if same else 0)
        return equal

    def contains(self, item: Any, container: Any) -> bool:
        """Perform ``item in container``."""
        self.steps += 1 + (len(container) if type(container) in (*_COPIES, deque) else 0)
        return item in container

    def delete(self, container: Any) -> None:
        """Count ``del container[a:b]``, which moves the rest; at the start of a bytearray only an offset changes."""
        self.steps += 1 + (0 if type(container) is bytearray else _size(container))

    def each(self, iterable: Iterable[Any]) -> Iterator[Any]:
        """Iterate, and count the items."""
        for item in iterable:
            self.steps += 1
            yield item

    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function; the call of a metered function is one step."""
        result = function(*args, **kwargs)
        self.steps += 1
        if not _is_metered(getattr(function, "__module__", None) or ""):
            self.steps += self._cost(function, args, result)
        return result

    def _cost(self, function: Any, args: Sequence[Any], result: object) -> int:
        """Return the cost of calling an unmetered function."""
        owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if isinstance(owner, re.Pattern):
            return self._match(owner, name, *args)
        if function in (re.match, re.fullmatch, re.search):
            return self._match(re.compile(args[0], *args[2:]), name, args[1])
        if function is int and args and isinstance(args[0], _TEXT):
            return len(args[0]) ** 2
        if isinstance(owner, _TEXT) and name in _FINDS:
            return _cost_of_find(owner, name, *args, found=result)
        if isinstance(owner, _TEXT) and name in _LOOKS_AT_ENDS:
            return _size(args[0])
        if isinstance(owner, list) and name == "pop":
            return len(owner) if args else 0
        constant = _CONSTANT_METHODS.get(type(owner), ())
        if name in constant or _is_constant(function):
            return 0
        own = 0 if name in ("extend", "update") or not isinstance(owner, (*_TEXT, list)) else len(owner)
        return own + sum(map(_size, args)) + _size(result)

    def _match(self, pattern: re.Pattern[Any], name: str, text: Any, start: int = 0) -> int:
        self.patterns.add((pattern, name not in ("match", "fullmatch")))
        return len(text) - start


def _is_metered(module: str) -> bool:
    return module.partition(".")[0] in METERED


def _is_constant(function: object) -> bool:
    return any(function is constant for constant in _CONSTANT)


def _cost_of_find(owner: Any, name: str, part: Any, start: int = 0, *end: int, found: Any) -> int:
    """Return how much was searched: up to the match, or everything."""
    begin, stop, _ = slice(start, *(end or (None,))).indices(len(owner))
    if found < 0:
        return max(stop - begin, 0)
    return int(stop - found if name.startswith("r") else found - begin) + _size(part)


# Compiling metered code.


def _compile(tree: ast.Module, path: str) -> CodeType:
    return compile(ast.fix_missing_locations(_Functions().visit(tree)), path, "exec", dont_inherit=True)


def _meter(method: str, *arguments: ast.expr, keywords: Sequence[ast.keyword] = ()) -> ast.Call:
    function = ast.Attribute(ast.Name("__meter__", ast.Load()), method, ast.Load())
    return ast.Call(function, list(arguments), list(keywords))


class _Functions(ast.NodeTransformer):
    """Meters the bodies of functions only: the body of a module or class runs once."""

    def visit_FunctionDef(self, node: Any) -> Any:
        # Wrapped in a module, so that only the statements are visited, not decorators and annotations.
        node.body = _Operations().generic_visit(ast.Module(node.body, [])).body  # type: ignore[attr-defined]
        return node

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Lambda(self, node: ast.Lambda) -> ast.Lambda:
        node.body = _Operations().visit(node.body)
        return node


class _Operations(_Functions):
    """Meters each operation."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        node.value = self.visit(node.value) if node.value is not None else None
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "super":  # super() inspects its calling function
            return node
        return _meter("call", node.func, *node.args, keywords=node.keywords)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.slice, ast.Slice) and isinstance(node.ctx, ast.Load):
            return _meter("made", node)
        return node

    def visit_expression(self, node: Any) -> ast.expr:
        self.generic_visit(node)
        return _meter("made", node) if isinstance(getattr(node, "ctx", ast.Load()), ast.Load) else node

    visit_BinOp = visit_JoinedStr = visit_List = visit_Tuple = visit_expression  # noqa: N815

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Add) or isinstance(node.target, ast.Subscript):
            return node
        return ast.Assign(
            [node.target], _meter("add", ast.parse(ast.unparse(node.target), mode="eval").body, node.value)
        )

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        match node.ops:
            case [ast.In()]:
                return _meter("contains", node.left, node.comparators[0])
            case [ast.NotIn()]:
                return ast.UnaryOp(ast.Not(), _meter("contains", node.left, node.comparators[0]))
            case [ast.Eq() | ast.NotEq()]:
                return _meter("compare", node.left, node.comparators[0], node)
        return node

    def visit_For(self, node: ast.For) -> ast.For:
        self.generic_visit(node)
        node.iter = _meter("each", node.iter)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.comprehension:
        self.generic_visit(node)
        if not node.is_async:
            node.iter = _meter("each", node.iter)
        return node

    def visit_While(self, node: ast.While) -> ast.While:
        self.generic_visit(node)
        node.body.insert(0, ast.Expr(_meter("step")))
        return node

    def visit_Delete(self, node: ast.Delete) -> Any:
        self.generic_visit(node)
        slices = [t for t in node.targets if isinstance(t, ast.Subscript) and isinstance(t.slice, ast.Slice)]
        return [*(ast.Expr(_meter("delete", target.value)) for target in slices), node]


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules as usual, and compiles them metered."""

    def __init__(self, meter: Meter, names: Sequence[str]) -> None:
        self._meter = meter
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not _is_metered(fullname) and fullname not in self._names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            loader = _Loader(fullname, spec.origin, self._meter)
            return importlib.util.spec_from_file_location(
                fullname, spec.origin, loader=loader, submodule_search_locations=spec.submodule_search_locations
            )
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, meter: Meter) -> None:
        super().__init__(name, path)
        self._meter = meter

    def get_code(self, fullname: str) -> CodeType:
        return _compile(ast.parse(Path(self.path).read_bytes()), self.path)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__meter__"] = self._meter
        super().exec_module(module)
