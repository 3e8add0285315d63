"""
Count what code costs, without a clock: one step for each operation, and one for each byte or item that it handles.

Lines or bytecode instructions would not do: ``buffer = buffer[n:]`` is one instruction, however much it copies. So
functions are compiled anew with each of their operations wrapped in a call of a :class:`Meter`, which does the same and
knows what built-in operations cost. What a regular expression costs is taken to be the length of the text; see
:mod:`tests.support.regex` for when that is true.
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

# Of these neither the arguments nor the result add to the cost.
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
    BytesIO: {"tell", "seek", "getvalue"},  # getvalue copies nothing if all of the buffer is used
    Struct: {"unpack_from", "iter_unpack"},
}
_FINDS: Final = {"find", "index", "rfind", "rindex"}
_LOOKS_AT_ENDS: Final = {"startswith", "endswith"}


def _size(value: object) -> int:
    return len(value) if type(value) in _SIZED else 0  # type: ignore[arg-type]


class Meter:
    """
    Does what metered code does, and counts it.

    Attributes:
        steps: What everything has cost so far.
        patterns: The regular expressions that were used, and whether by ``search``.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.patterns: set[tuple[re.Pattern[Any], bool]] = set()

    # Getting metered code.

    def instrument(self, function: Callable[..., Any]) -> Any:
        """Return a metered copy of a function of a module, which may use that module's names."""
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        namespace = {**sys.modules[function.__module__].__dict__, "__meter__": self}
        exec(_compile(tree, f"<metered {function.__name__}>"), namespace)
        return namespace[function.__name__]

    @contextmanager
    def modules(self, *names: str) -> Iterator[list[ModuleType]]:
        """Import modules, and what they use of :data:`METERED`, anew and metered; on exit the old ones are back."""
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

    # What metered code calls.

    def step(self) -> None:
        """Count one step."""
        self.steps += 1

    def made(self, value: Any) -> Any:
        """Count a slice, a sum or the like."""
        self.steps += 1 + (len(value) if type(value) in _COPIES else 0)
        return value

    def add(self, target: Any, value: Any) -> Any:
        """Do ``target += value``: what cannot be changed in place is copied."""
        in_place = type(target) in (bytearray, list)
        target += value
        self.steps += 1 + _size(value if in_place else target)
        return target

    def compare(self, left: Any, right: Any, equal: Any) -> Any:
        """Count ``left == right``, which has the result ``equal``."""
        same = type(left) in _COPIES and type(right) in _COPIES and len(left) == len(right)
        self.steps += 1 + (len(left) if same else 0)
        return equal

    def contains(self, item: Any, container: Any) -> bool:
        """Do ``item in container``."""
        self.steps += 1 + (len(container) if type(container) in (*_COPIES, deque) else 0)
        return item in container

    def delete(self, container: Any) -> None:
        """Count ``del container[a:b]``, which moves what follows; a bytearray only notes where it begins."""
        self.steps += 1 + (0 if type(container) is bytearray else _size(container))

    def each(self, iterable: Iterable[Any]) -> Iterator[Any]:
        """Iterate, and count the items."""
        for item in iterable:
            self.steps += 1
            yield item

    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function; if it is metered itself, that is one step."""
        result = function(*args, **kwargs)
        self.steps += 1
        if not _is_metered(getattr(function, "__module__", None) or ""):
            self.steps += self._cost(function, args, result)
        return result

    def _cost(self, function: Any, args: Sequence[Any], result: object) -> int:
        """Return the cost of a function that is not metered."""
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
    """Return how much was looked at: up to what was found, or everything."""
    begin, stop, _ = slice(start, *(end or (None,))).indices(len(owner))
    if found < 0:
        return max(stop - begin, 0)
    return int(stop - found if name.startswith("r") else found - begin) + _size(part)


# How code is compiled.


def _compile(tree: ast.Module, path: str) -> CodeType:
    return compile(ast.fix_missing_locations(_Functions().visit(tree)), path, "exec", dont_inherit=True)


def _meter(method: str, *arguments: ast.expr, keywords: Sequence[ast.keyword] = ()) -> ast.Call:
    function = ast.Attribute(ast.Name("__meter__", ast.Load()), method, ast.Load())
    return ast.Call(function, list(arguments), list(keywords))


class _Functions(ast.NodeTransformer):
    """Meters the bodies of functions. What a module or a class does when it is made is done once."""

    def visit_FunctionDef(self, node: Any) -> Any:
        # By way of a module, whose statements are visited and nothing else: neither decorators nor annotations.
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
        if isinstance(node.func, ast.Name) and node.func.id == "super":  # looks at the function that calls it
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
    """Finds modules as ever, and has them compiled metered."""

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
