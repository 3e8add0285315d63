"""Pages of the documentation about software that takes long to install or to import."""

from __future__ import annotations

from tests.support.job_server import AnyJobServer
from tests.support.pages import needs_more, run_pages
from tests.test_documents import RUNNING


def test_all_code_of_pages_about_other_software_runs(job_server: AnyJobServer) -> None:
    run_pages([page for page in RUNNING if needs_more(page)], job_server.address)
