"""
Run the Python code of pages of the documentation, all pages in one process: ``python -m tests.support.pages PAGE ...``

All blocks of a page run in one module, in their order, in an empty directory, with the job server in GEARMAN_SERVERS.

- A block that begins with the name of a file, such as ``# tasks.py``, is a module that later blocks can import.
- If it ends with ``worker.main()``, its worker runs until the end of the page.
- pytest runs a file ``test_*.py``.
- Elsewhere, ``await`` may be used outside of functions, as in a notebook.
- A block prints exactly the text that follows "It prints:".

A page with code for other software names it in a comment, ``<!-- needs: fastapi -->``. `make examples` runs these
pages, because that software takes long to install or to import.
"""

from __future__ import annotations

import asyncio
import importlib
import io
import re
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, chdir, contextmanager, redirect_stdout
from inspect import CO_COROUTINE
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from geartrain import Worker
from tests.support.environment import without_coverage
from tests.support.eventually import wait_until

BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\nIt prints:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+)\.py\n")
NEEDS = re.compile(r"^<!-- needs: [\w ,-]+ -->$", re.MULTILINE)
TOP_LEVEL_AWAIT = 0x2000  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def needs_more(page: Path) -> bool:
    """Whether a page has code for other software, which takes long to install or to import."""
    return NEEDS.search(page.read_text()) is not None


def run_pages(pages: Iterable[Path], job_server: str) -> None:
    """Run pages with every warning an error."""
    process = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.support.pages", *pages],
        cwd=Path(__file__).parents[2],
        # Loading the plugins of pytest takes longer than all pages.
        env=without_coverage() | {"GEARMAN_SERVERS": job_server, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert process.returncode == 0, process.stderr + process.stdout


class Block(NamedTuple):
    """A block of Python code, and what it prints if the page says it."""

    line: int
    code: str
    output: str | None


def read_blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in BLOCK.finditer(text):
        yield Block(text.count("\n", 0, match.start(1)), match[1], match[2])


@contextmanager
def running(worker: Worker) -> Iterator[None]:
    """Run a worker in another thread during the block, which begins when the worker takes jobs."""
    thread = threading.Thread(target=lambda: asyncio.run(worker.run()))
    thread.start()
    try:
        wait_until(worker.ready)
        yield
    finally:
        worker.stop()
        thread.join()


class PageRunner(ExitStack):
    """What the blocks of a page share."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self._page = page
        self._module: dict[str, Any] = {"__name__": page.stem}
        self._loop = self.enter_context(asyncio.Runner())

    def run(self, block: Block) -> None:
        """Run one block, and compare what it prints."""
        output = io.StringIO()
        with redirect_stdout(output):
            if name := FILE.match(block.code):
                self._import(name[1], block)
            else:
                self._execute(block)
        if block.output is not None:
            assert output.getvalue() == block.output, f"it prints:\n{output.getvalue()}"

    def _execute(self, block: Block) -> None:
        # With the lines before the block, a traceback has the line numbers of the page.
        code = compile("\n" * block.line + block.code, str(self._page), "exec", TOP_LEVEL_AWAIT)
        result = eval(code, self._module)
        if code.co_flags & CO_COROUTINE:
            self._loop.run(result)

    def _import(self, name: str, block: Block) -> None:
        Path(f"{name}.py").write_text(block.code)
        if name.startswith("test_"):
            assert pytest.main(["-q", "-p", "no:cacheprovider", "--assert=plain", f"{name}.py"]) == pytest.ExitCode.OK
            return
        importlib.invalidate_caches()
        module: ModuleType = importlib.import_module(name)
        self.callback(sys.modules.pop, name)
        if block.code.rstrip().endswith("worker.main()"):
            self.enter_context(running(module.worker))


def run_page(page: Path) -> None:
    with tempfile.TemporaryDirectory() as directory, chdir(directory), PageRunner(page) as runner:
        sys.path.insert(0, directory)
        runner.callback(sys.path.remove, directory)
        for block in read_blocks(page):
            try:
                runner.run(block)
            except BaseException:
                print(f"{page}, line {block.line}:", file=sys.stderr)
                raise


def main() -> int:
    """Run the pages, and return how many failed."""
    failures = 0
    for page in [Path(name).absolute() for name in sys.argv[1:]]:
        try:
            run_page(page)
        except BaseException:  # noqa: BLE001  # a page may raise anything
            traceback.print_exc()
            failures += 1
    return failures


if __name__ == "__main__":
    sys.exit(main())
