"""What readers find in the site that ``make docs`` has built."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import click
import pytest
import snowballstemmer
import sphobjinv

import geartrain
from geartrain import blocking
from geartrain.cli.app import app

SITE = Path(__file__).parents[2] / "build" / "site"
STEMMER = snowballstemmer.stemmer("english")

# What a reader wants to know, what they type into the search box, and the page that answers it.
QUESTIONS = [
    ("Which job servers are used by default?", "GEARMAN_SERVERS", "reference/client"),
    ("What does JobLostError mean?", "JobLostError", "reference/errors"),
    ("What is known after ConnectionLostError?", "ConnectionLostError outcome", "failures"),
    ("How do I retry a job?", "retry_count", "how-to/retries"),
    ("How do I drain a worker?", "drain stop worker", "worker"),
    ("How do I run a function in processes?", "processes function worker", "worker"),
    ("How do I submit a background job?", "background job", "guide"),
    ("How do I submit many jobs?", "map workloads limit", "how-to/large-workloads"),
    ("What is a unique?", "unique merge", "how-to/unique-jobs"),
    ("How do I run a job later?", "run_at", "guide"),
    ("How do I use Flask or Django?", "Flask Django", "blocking"),
    ("Does it work under gevent?", "gevent", "blocking"),
    ("What happens at a fork?", "fork", "blocking"),
    ("How do I use a notebook?", "notebook", "blocking"),
    ("How do I encrypt connections?", "TLS certificate", "tls"),
    ("How do I use stunnel?", "stunnel", "tls"),
    ("How do I see the queues?", "queue status admin", "admin"),
    ("How do I limit a queue?", "maxqueue", "command-line"),
    ("How do I migrate from python-gearman?", "python gearman import", "coming-from-python-gearman"),
    ("How do I migrate from POE?", "POE", "coming-from-poe"),
    ("How do I migrate from gear?", "gear", "coming-from-python-gearman"),
    ("How fast is it?", "benchmarks", "benchmarks/README"),
    ("How do I make it faster?", "performance tuning", "performance"),
    ("Which packets does gearmand send?", "wire packets", "wire-notes"),
    ("How does a job travel through the code?", "path job layers", "architecture"),
    ("What is guaranteed?", "guarantees", "promises"),
    ("How do I run a first job?", "first job install", "tutorials/first-job"),
    ("How do I set a timeout?", "timeout", "how-to/timeouts"),
    ("What do I do if a job must not run twice?", "idempotent", "how-to/retries"),
    ("How do I set a priority?", "priority", "how-to/priorities"),
    ("How do I set up production?", "production gearmand workers", "tutorials/production"),
    ("How many jobs does a worker run at a time?", "concurrency", "worker"),
    ("How do I report progress?", "report progress", "how-to/progress"),
    ("How do I cancel a job?", "cancel", "how-to/cancelling"),
    ("How do I test without gearmand?", "JobServer tests", "how-to/testing"),
    ("How do I send large files?", "large workloads", "how-to/large-workloads"),
    ("How do I use FastAPI?", "FastAPI", "how-to/fastapi"),
    ("How do I show a page of Flask a result?", "Flask", "how-to/flask-django"),
    ("How do I report errors to Sentry?", "Sentry", "how-to/sentry"),
    ("Why do my jobs wait?", "queue stuck", "how-to/stuck-queue"),
    ("How does it compare with Celery?", "Celery", "how-to/other-queues"),
    ("What is retried?", "retried", "failures"),
    ("Which options has a task?", "task options", "guide"),
]
AMONG_THE_FIRST = 5  # results that fit on a screen


@pytest.fixture(scope="session")
def index() -> Any:
    text = (SITE / "searchindex.js").read_text()
    return json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))


@pytest.fixture(scope="session")
def names() -> set[str]:
    return {entry.name for entry in sphobjinv.Inventory(str(SITE / "objects.inv")).objects}


def search(index: Any, query: str) -> list[str]:
    """Return the pages that contain all words in the order of Sphinx's own search: by score, then by title."""
    scores: Counter[int] = Counter()
    pages: set[int] | None = None
    for word in query.lower().split():
        stem = STEMMER.stemWord(word)
        found: set[int] = set()
        for table, score in ((index["titleterms"], 15), (index["terms"], 5)):
            hits = table.get(stem, table.get(word, []))
            for page in [hits] if isinstance(hits, int) else hits:
                scores[page] += score
                found.add(page)
        for prefix, objects in index["objects"].items():
            for entry in objects:
                if word in f"{prefix}.{entry[4]}".lower().split("."):
                    scores[entry[0]] += 11
                    found.add(entry[0])
        pages = found if pages is None else pages & found
    found_pages = sorted(pages or (), key=lambda page: (-scores[page], index["titles"][page].lower()))
    return [index["docnames"][page] for page in found_pages]


@pytest.mark.parametrize(("question", "query", "page"), QUESTIONS, ids=[question for question, _, _ in QUESTIONS])
def test_one_search_answers(index: Any, question: str, query: str, page: str) -> None:
    assert page in search(index, query)[:AMONG_THE_FIRST], question


def test_every_page_is_two_clicks_from_the_first(index: Any) -> None:
    first = (SITE / "index.html").read_text()
    pages = set(index["docnames"]) - {"index"}
    linked = {page for page in pages if f'href="{page}.html"' in first}
    assert linked == pages


@pytest.mark.parametrize("module", [geartrain, blocking], ids=lambda module: module.__name__)
def test_every_public_name_is_in_the_reference(names: set[str], module: Any) -> None:
    expected = {f"{module.__name__}.{name}" for name in module.__all__ if name != "__version__"}
    assert expected <= names


def test_every_command_is_in_the_reference() -> None:
    page = (SITE / "reference" / "command-line.html").read_text()
    context = click.Context(app)
    for name in app.list_commands(context):
        assert re.search(rf"<h[2-4]>{name}<a", page), name
