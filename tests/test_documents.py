"""The README, the docs and the examples work as shown, and refer to what exists."""

from __future__ import annotations

import ast
import asyncio
import re
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import geartrain
from geartrain import Client, JobExceptionError, Worker, WorkerJob
from tests.support.environment import without_coverage
from tests.support.gearmand import Gearmand
from tests.support.job_server import AnyJobServer
from tests.support.pages import needs_more, run_pages
from tests.support.processes import end_process
from tests.support.structure import PACKAGE, find_modules

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(path: Path) -> list[str]:
    return BLOCK.findall(path.read_text())


# These name job servers, files or workers that the reader has; some of their blocks have tests of their own.
NOT_RUN = {"README", "admin", "blocking", "guide", "quick-start", "tls"}
RUNNING = [path for path in DOCUMENTS if path.stem not in NOT_RUN and blocks(path)]


async def run_python(*arguments: str) -> str:
    """
    Run the interpreter with every warning an error; it must write nothing to stderr.

    The exception is asyncio's debug mode (-X dev), which reports slow callbacks on a busy machine.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-X",
        "dev",
        "-W",
        "error",
        *arguments,
        env=without_coverage(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert re.sub(rb"^Executing .* took \d+\.\d+ seconds\n", b"", errors, flags=re.MULTILINE) == b""
    assert process.returncode == 0
    return output.decode()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
async def test_the_examples_run_without_warnings(path: Path) -> None:
    assert await run_python(str(path))


async def test_the_first_example_of_the_readme_prints_the_documented_output() -> None:
    readme = ROOT / "README.md"
    output = await run_python("-c", blocks(readme)[0])
    assert f"It prints `{output.strip()}`" in readme.read_text()


async def test_the_first_example_of_the_guide_runs_on_gearmand(gearmand: Gearmand) -> None:
    worker = Worker([gearmand.address])

    @worker.function("reverse")
    async def reverse(job: WorkerJob) -> bytes:
        job.send_status(1, 1)
        return job.workload[::-1]

    script = blocks(ROOT / "docs" / "guide.md")[0].replace("127.0.0.1:4730", gearmand.address)
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        output = await run_python("-c", script)
        worker.stop()
    assert output.split("\n")[:8] == ["b'cba'", "1 of 1", "b'fed'", *(f"b'{str(n)[::-1]}'" for n in range(10, 15))]


async def test_the_worker_of_the_readme_divides(gearmand: Gearmand) -> None:
    script = blocks(ROOT / "README.md")[1].replace("127.0.0.1:4730", gearmand.address)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "dev", "-W", "error", "-c", script, env=without_coverage()
    )
    try:
        async with Client([gearmand.address]) as client:
            assert await client.do("divide", "1 2", timeout=20) == b"0.5"
            with pytest.raises(JobExceptionError, match="ValueError"):
                await client.do("divide", "one two", timeout=20)
    finally:
        await end_process(process, signal.SIGTERM)
    assert process.returncode == 0


async def test_the_example_without_asyncio_runs_on_gearmand(gearmand: Gearmand) -> None:
    worker = Worker([gearmand.address])

    @worker.function("reverse")
    async def reverse(job: WorkerJob) -> bytes:
        return job.workload[::-1]

    script = blocks(ROOT / "README.md")[2].replace("127.0.0.1:4730", gearmand.address)
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        output = await run_python("-c", script)
        worker.stop()
    assert output.split() == ["b'cba'", *(f"b'{str(n)[::-1]}'" for n in range(10, 15))]


async def test_the_page_on_programs_without_asyncio_shows_a_test_that_passes() -> None:
    await run_python("-c", blocks(ROOT / "docs" / "blocking.md")[3])


@pytest.mark.untraced
def test_all_code_of_most_pages_runs(job_server: AnyJobServer) -> None:
    """All pages in one process: it takes longer to start than they take to run."""
    run_pages([page for page in RUNNING if not needs_more(page)], job_server.address)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_python_block_of_the_documents_compiles_and_imports_what_exists(path: Path) -> None:
    for block in blocks(path):
        compile(block, str(path), "exec", flags=0x2000)  # PyCF_ALLOW_TOP_LEVEL_AWAIT
        for names in re.findall(r"^from geartrain import (.*)$", block, re.MULTILINE):
            for name in names.split(","):
                assert hasattr(geartrain, name.strip()), f"{path.name} imports {name}"


def test_every_guarantee_names_tests_and_they_exist() -> None:
    promises = re.split(r"^### ", (ROOT / "docs" / "promises.md").read_text(), flags=re.MULTILINE)[1:]
    assert promises
    for promise in promises:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", promise)
        assert named, f"no test named for: {promise.splitlines()[0]}"
        for path, name in named:
            assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}::{name}"


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "path", [*DOCUMENTS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=lambda path: path.stem
)
def test_every_link_to_a_document_has_a_target(path: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"
        if anchor:
            assert anchor in anchors(path.parent / target if target else path), (
                f"{path.name} links to {target}#{anchor}"
            )


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "images").glob("*.svg")), ids=lambda path: path.stem)
def test_every_diagram_has_a_title_and_dark_colours(path: Path) -> None:
    svg = ET.parse(path).getroot()
    title, style = (svg.find(f"{{http://www.w3.org/2000/svg}}{name}") for name in ("title", "style"))
    assert title is not None
    assert title.text
    assert style is not None
    light, _, dark = (style.text or "").partition("@media (prefers-color-scheme: dark)")
    coloured = [re.findall(r"^\s*([.\w]+) {.*#[0-9a-f]{6}", rules, re.MULTILINE) for rules in (light, dark)]
    assert coloured[0]
    assert set(coloured[0]) == set(coloured[1])


def test_every_path_in_contributing_exists() -> None:
    for path in re.findall(
        r"`((?:docs|examples|benchmarks|src|tests)/[\w./]*)`", (ROOT / "CONTRIBUTING.md").read_text()
    ):
        assert (ROOT / path).exists(), path


def find_names(path: Path) -> set[str]:
    """Return the functions, classes and constants of a module, and the members of its classes as ``Class.member``."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            for inner in ast.walk(node):
                match inner:
                    case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.Name(id=name):
                        names.add(f"{node.name}.{name}")
                    case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                        names.add(f"{node.name}.{name}")
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                names.add(name)
    return names


def test_every_file_that_the_architecture_page_names_exists() -> None:
    paths = re.findall(r"[\w./]+\.py|\w[\w/]*/(?=[\s`])", ARCHITECTURE.read_text())
    assert len(paths) > 50
    for path in paths:
        assert (PACKAGE / path).exists() or (ROOT / path).exists(), path


def test_every_name_on_the_architecture_page_is_defined_where_it_says() -> None:
    names_of = {path: find_names(path) for path in find_modules().values()}
    text = re.sub(r"^```.*?^```", "", ARCHITECTURE.read_text(), flags=re.MULTILINE | re.DOTALL)
    # `path`: `name`, `name`
    located = re.findall(r"`([\w/]+\.py)`: ((?:(?:, | and )?`[\w.]+`)+)", text)
    assert len(located) > 20
    for path, names in located:
        for name in re.findall(r"`([\w.]+)`", names):
            assert name.endswith(".py") or name in names_of[PACKAGE / path], f"{path}: {name}"
    for name in re.findall(r"`([A-Z]\w+(?:\.\w+)?)`", text):
        assert name in {"None", "Protocol"} or any(name in names for names in names_of.values()), name


def test_every_class_in_the_pictures_of_the_architecture_page_exists() -> None:
    pictures = "".join(re.findall(r"^```text\n(.*?)^```", ARCHITECTURE.read_text(), re.MULTILINE | re.DOTALL))
    names = set[str]().union(*(find_names(path) for path in find_modules().values()))
    classes = set(re.findall(r"\b[A-Z][a-z]\w*", pictures))
    assert len(classes) > 10
    assert classes <= names


def test_every_test_helper_is_listed() -> None:
    support = ROOT / "tests" / "support"
    listed = set(re.findall(r"`(\w+\.(?:py|c))`", (support / "README.md").read_text()))
    helpers = {path.name for path in support.glob("*.[pc]*") if not path.name.startswith(("__", "test_"))}
    assert listed == helpers
