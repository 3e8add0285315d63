"""What ``geartrain status --watch`` draws on a terminal."""

from __future__ import annotations

import io
from typing import cast

import pytest
from rich.console import Console

from geartrain.admin import AdminGroup
from geartrain.cli.function_rows import RowSelection
from geartrain.cli.live_status import LiveStatus
from geartrain.errors import GearmanError, NoServersError
from geartrain.protocol.text_replies import FunctionStatus

NAME = "images.resize.to.thumbnails.of.every.size"


class FakeAdmins:
    """Gives the same answers each time."""

    def __init__(self, **answers: list[FunctionStatus] | GearmanError) -> None:
        self.admins = {f"{server}:4730": answer for server, answer in answers.items()}

    async def status(self) -> dict[str, list[FunctionStatus] | GearmanError]:
        return self.admins


class Drawing:
    """A view, and what it draws."""

    def __init__(self, selection: RowSelection, **answers: list[FunctionStatus] | GearmanError) -> None:
        admins = cast(AdminGroup, FakeAdmins(**answers))
        self.view = LiveStatus(admins, selection, ascii_only=False, has_keyboard=True)

    def lines(self, width: int, height: int) -> list[str]:
        console = Console(file=io.StringIO(), width=width, height=height)
        console.print(self.view.draw(width, height))
        return cast(io.StringIO, console.file).getvalue().splitlines()


@pytest.fixture
def drawing() -> Drawing:
    functions = [FunctionStatus(NAME, 7, 2, 3), FunctionStatus("idle", 0, 0, 0), FunctionStatus("mail", 9, 0, 1)]
    return Drawing(RowSelection(), east=functions, west=NoServersError("down"))


async def test_before_the_first_answer_the_view_says_what_it_waits_for(drawing: Drawing) -> None:
    assert drawing.lines(80, 24)[0] == "querying east:4730, west:4730 ..."


async def test_80_columns_are_enough_for_all_numbers(drawing: Drawing) -> None:
    await drawing.view.update()
    heading, count, error, columns, *rows = drawing.lines(80, 24)
    assert heading.endswith("east:4730, west:4730")
    assert count == "3 functions; q quits"
    assert error == "west:4730 could not be reached: down"
    assert columns.split() == ["server", "function", "queued", "running", "workers", "per", "s"]
    assert [row.split() for row in rows] == [
        ["east:4730", f"{NAME[:35]}…", "5", "2", "3", "+0"],
        ["east:4730", "mail", "9", "0", "1", "+0"],
        ["east:4730", "idle", "0", "0", "0", "+0"],
    ]


async def test_200_columns_have_room_for_a_chart_of_a_minute(drawing: Drawing) -> None:
    for _ in range(70):
        await drawing.view.update()
    row = drawing.lines(200, 24)[4]
    assert NAME in row
    assert row.split()[-1] == "█" * 60


async def test_a_page_never_ends_beyond_the_last_function() -> None:
    functions = [FunctionStatus(f"f{number}", 0, 0, 0) for number in range(9)]
    drawing = Drawing(RowSelection("f*", "function"), east=functions)
    await drawing.view.update()
    assert drawing.lines(80, 7)[1].startswith("1-4 of 9 functions; q quits; arrow keys")
    for key, shown in [("down", "2-5"), ("page down", "6-9"), ("down", "6-9"), ("up", "5-8"), ("home", "1-4")]:
        drawing.view.press(key)
        count, _, *rows = drawing.lines(80, 7)[1:]
        assert count.startswith(shown)
        assert len(rows) == 4
