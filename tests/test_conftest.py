import asyncio

from tests.support.gearmand import Gearmand, ask


async def test_coroutine_tests_run_on_both_loops(event_loop_name: str) -> None:
    name = type(asyncio.get_running_loop()).__module__
    assert name.startswith("uvloop" if event_loop_name == "uvloop" else "asyncio")


def test_gearmand_is_restarted_on_its_port(gearmand: Gearmand) -> None:
    before = gearmand.pid
    gearmand.restart()
    assert ask(gearmand.port, "getpid") == f"OK {gearmand.pid}"
    assert gearmand.pid != before
