"""The site as a reader sees it, in Debian's Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from tests.conftest import ENVIRONMENT

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "site"
PICTURES = ROOT / "build" / "site-check"
PAGES = ("index", "quick-start", "guide", "worker", "reference/client", "reference/command-line")
SCREENS = {"desktop": (1280, 800), "phone": (390, 844)}
SCHEMES = ("light", "dark")
# The rules of WCAG 2.1, levels A and AA.
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    PICTURES.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium")
    assert chromium is not None
    with sync_playwright() as playwright:
        # Without its sandbox, which root cannot use; it opens only files of the project.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"], env=ENVIRONMENT)
        yield browser
        browser.close()


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=SCREENS)
def page(request: pytest.FixtureRequest, browser: Browser, scheme: str) -> Iterator[Page]:
    width, height = SCREENS[request.param]
    page: Any = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    yield page
    page.close()


def open_page(page: Page, name: str) -> None:
    page.goto(f"{(SITE / name).as_uri()}.html")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_screen(page: Page, scheme: str, name: str) -> None:
    """Wide tables and long lines of code scroll by themselves."""
    open_page(page, name)
    size = page.viewport_size
    assert size is not None
    page.screenshot(path=PICTURES / f"{name.replace('/', '-')}-{size['width']}-{scheme}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible(browser: Browser, scheme: str, name: str) -> None:
    page: Any = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
    open_page(page, name)
    found = Axe().run(page, options=RULES).response["violations"]
    page.close()
    violations = "\n".join(f"{each['id']}: {node['html'][:200]}" for each in found for node in each["nodes"][:3])
    assert not violations, violations


@pytest.mark.parametrize("query", ["timeout", "GEARMAN_SERVERS", "JobLostError"])
def test_the_search_finds(browser: Browser, query: str) -> None:
    page = browser.new_page()
    page.goto(f"{(SITE / 'search.html').as_uri()}?q={query}")
    page.wait_for_selector("ul.search li a")
    assert page.locator("ul.search li a").count() >= 1
    page.close()
