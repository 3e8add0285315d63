"""Names that programs import."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from geartrain.compat import gearman, python3_gearman


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)


def test_the_packages_claim_no_name_of_others() -> None:
    program = """
import sys
from geartrain.compat import gearman, python3_gearman
print([name for name in sys.modules if name.startswith(("gearman", "python3_gearman"))])
"""
    assert run(program).stdout == "[]\n"


def test_installed_modules_are_found_under_the_original_names() -> None:
    program = """
import geartrain.compat
geartrain.compat.install()
geartrain.compat.install()  # again
import gearman, python3_gearman, gearman.errors
from gearman.job import GearmanJob, JOB_COMPLETE
from python3_gearman.admin_client import ServerUnavailable
from geartrain.compat.gearman import GearmanClient
assert gearman.GearmanClient is gearman.client.GearmanClient is GearmanClient
assert python3_gearman.errors.ServerUnavailable is ServerUnavailable is not gearman.errors.ServerUnavailable
try:
    import gearman.protocol
except ModuleNotFoundError as error:
    print(error)
"""
    result = run(program)
    assert result.stderr == ""
    assert result.stdout == "No module named 'gearman.protocol'\n"


def test_another_package_of_the_name_is_not_replaced() -> None:
    program = """
import sys, types
sys.modules["gearman.client"] = types.ModuleType("gearman.client")
from geartrain.compat import install
try:
    install()
except ImportError as error:
    print(error)
print("gearman" in sys.modules)
"""
    assert run(program).stdout == (
        "gearman.client was imported from another place already; call geartrain.compat.install() earlier\nFalse\n"
    )


SUBMODULES = (
    "admin_client", "client", "connection", "connection_manager", "constants", "errors", "job", "util", "version",
    "worker",
)  # fmt: skip


def test_submodules_are_attributes(flavour: Any) -> None:
    for name in SUBMODULES:
        assert getattr(flavour, name).__name__ == f"{flavour.__name__}.{name}"
    assert flavour.__version__ == flavour.version.__version__


def test_constants_have_the_values_that_programs_compare_with(flavour: Any) -> None:
    expected = {
        "PRIORITY_NONE": None, "PRIORITY_LOW": "LOW", "PRIORITY_HIGH": "HIGH", "JOB_UNKNOWN": "UNKNOWN",
        "JOB_PENDING": "PENDING", "JOB_CREATED": "CREATED", "JOB_FAILED": "FAILED", "JOB_COMPLETE": "COMPLETE",
    }  # fmt: skip
    for module in (flavour, flavour.constants):
        assert {name: getattr(module, name) for name in expected} == expected
    assert flavour.job.JOB_COMPLETE == "COMPLETE"
    assert flavour.constants.DEFAULT_GEARMAN_PORT == 4730
    assert flavour.worker.POLL_TIMEOUT_IN_SECONDS == 60
    assert flavour.admin_client.DEFAULT_ADMIN_CLIENT_TIMEOUT == 10
    assert flavour.client.RANDOM_UNIQUE_BYTES == 16


def test_errors_have_one_base_and_are_not_shared() -> None:
    for name in gearman.errors.__all__:
        ours, theirs = getattr(gearman.errors, name), getattr(python3_gearman.errors, name)
        assert ours is not theirs
        for kind, module in ((ours, gearman), (theirs, python3_gearman)):
            bases = (Exception,) if name == "GearmanError" else (module.errors.GearmanError,)
            assert kind.__bases__ == bases
    assert gearman.admin_client.ServerUnavailable is gearman.errors.ServerUnavailable


def test_helpers_return_what_those_of_python_gearman_do(flavour: Any) -> None:
    util = flavour.util
    assert util.unlist([]) is None
    assert util.unlist(["a"]) == "a"
    with pytest.raises(ValueError, match="2"):
        util.unlist(["a", "b"])
    assert util.disambiguate_server_parameter("host") == ("host", 4730)
    assert util.Stopwatch(None).has_time_remaining()
    assert util.Stopwatch(None).get_time_remaining() is None
    assert not util.Stopwatch(0.0).has_time_remaining()
    assert 0 < util.Stopwatch(100.0).get_time_remaining() <= 100


def test_a_request_needs_no_real_job(flavour: Any) -> None:
    """Archivematica's tests make requests of mocks, and set what they return."""
    request = flavour.job.GearmanJobRequest(object(), background=True, max_attempts=0)
    assert request.job is request.gearman_job
    assert not request.complete
    assert not request.status_updates
    request.state = flavour.JOB_CREATED
    assert request.complete
    assert {request: 1}[request] == 1


def test_jobs_and_requests_show_what_they_are(flavour: Any) -> None:
    job = flavour.job.GearmanJob(None, "H:1", "task", "key", "data")
    assert repr(job) == "GearmanJob(connection=None, handle='H:1', task='task', unique='key', data='data')"
    assert "task='task'" in repr(flavour.job.GearmanJobRequest(job))


def test_the_default_encoder_is_abstract_only_in_its_base(flavour: Any) -> None:
    for method in (flavour.DataEncoder.encode, flavour.DataEncoder.decode):
        with pytest.raises(NotImplementedError):
            method("abc")
    assert flavour.connection_manager.NoopEncoder.encode("abc") == "abc"
