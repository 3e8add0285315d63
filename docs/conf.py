"""Sphinx configuration of the documentation site; ``make docs`` builds it."""

from __future__ import annotations

from pathlib import Path

import click
import sphobjinv
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from geartrain import __version__
from geartrain.cli.example_command import ExampleCommand

project = "geartrain"
author = "geartrain contributors"
copyright = f"2026, {author}"  # noqa: A001  # Sphinx's name
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_click",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["benchmarks/*.json"]
nitpicky = True

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# What annotations and docstrings name of Python's standard library, by the page that describes it. The site is built
# offline, so Python's own inventory cannot be fetched.
PYTHON_NAMES = {
    "asyncio-eventloop": ["asyncio.AbstractEventLoop"],
    "asyncio-exceptions": ["asyncio.CancelledError"],
    "asyncio-future": ["asyncio.wrap_future"],
    "collections.abc": [
        f"collections.abc.{name}"
        for name in ("AsyncGenerator", "AsyncIterable", "Awaitable", "Callable", "Iterable", "Iterator", "Mapping")
    ],
    "concurrent.futures": [
        f"concurrent.futures.{name}" for name in ("CancelledError", "Future", "as_completed", "wait")
    ],
    "datetime": ["datetime.datetime"],
    "enum": ["enum.Enum"],
    "logging": ["logging.Logger"],
    "ssl": ["ssl.SSLContext"],
}
# Names that are not documented: type variables, and types that users get but never name.
nitpick_ignore_regex = [
    ("py:class", r"(geartrain\..*\.)?(F|T|AsyncClient|JobReporter|Resident|RunState|UpdateStream)"),
    ("py:class", r"collections\.abc\.Callable\[\[\]"),  # Sphinx splits a Callable without arguments in the wrong place
]
# What Sphinx finds under another name than users.
OTHER_NAMES = {"asyncio.events.AbstractEventLoop": "asyncio.AbstractEventLoop", "datetime": "datetime.datetime"}


def write_inventory() -> str:
    """Write the names of the standard library in the format of intersphinx, and return the path of the file."""
    inventory = sphobjinv.Inventory()
    inventory.project, inventory.version = "Python", "3"
    for page, names in PYTHON_NAMES.items():
        for name in names:
            is_function = name.rpartition(".")[2].islower() and name != "datetime.datetime"
            inventory.objects.append(
                sphobjinv.DataObjStr(
                    name=name,
                    domain="py",
                    role="function" if is_function else "exception" if name.endswith("Error") else "class",
                    priority="1",
                    uri=f"library/{page}.html#$",
                    dispname="-",
                )
            )
    path = Path(__file__).parent.parent / "build" / "python.inv"
    path.parent.mkdir(exist_ok=True)
    sphobjinv.writebytes(path, sphobjinv.compress(inventory.data_file()))
    return str(path)


intersphinx_mapping = {"python": ("https://docs.python.org/3", write_inventory())}


def find_elsewhere(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element
) -> nodes.reference | None:
    """Resolve the short names of docstrings, which are written as seen from ``geartrain``."""
    from sphinx.ext.intersphinx import resolve_reference_detect_inventory

    target = str(node.get("reftarget", ""))
    if node.get("refdomain") != "py":
        return None
    if target in OTHER_NAMES:
        node["reftarget"] = OTHER_NAMES[target]
        found = resolve_reference_detect_inventory(env, node, content)
        return found if isinstance(found, nodes.reference) else None
    domain = env.domains.python_domain
    for name in (f"geartrain.{target}", f"geartrain.{target.rpartition('.')[2]}"):
        if name in domain.objects:
            entry = domain.objects[name]
            uri = app.builder.get_relative_uri(env.docname, entry.docname)
            return nodes.reference("", "", content, internal=True, refuri=f"{uri}#{entry.node_id}")
    return None


def add_examples(app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """Show the examples of a command below its options."""
    if isinstance(context.command, ExampleCommand):
        lines += [".. code-block:: shell", "", *(f"   {example}" for example in context.command.examples), ""]


ACCESSIBLE = {
    'role="heading"': 'role="heading" aria-level="2"',  # captions of tables of contents
    "<pre>": '<pre tabindex="0">',  # so that the keyboard can scroll long lines
}


def make_accessible(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, str], doctree: nodes.document | None
) -> None:
    """Complete the HTML that Sphinx writes."""
    for name in {"body", "furo_navigation_tree"} & context.keys():
        for written, wanted in ACCESSIBLE.items():
            context[name] = context[name].replace(written, wanted)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("missing-reference", find_elsewhere)
    app.connect("sphinx-click-process-epilog", add_examples)
    app.connect("html-page-context", make_accessible, priority=900)  # after the theme's own


html_theme = "furo"
html_title = f"geartrain {__version__}"
html_copy_source = False
