"""The code in docs/guide/schedules.md runs as it stands there; that of frameworks.md stands in the examples."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def blocks(page: str) -> list[str]:
    """The Python code of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "guide" / page).read_text(), re.DOTALL)


def test_the_schedule_can_be_made() -> None:
    names: dict[str, Any] = {"__name__": "shop.tasks"}
    for code in blocks("schedules.md"):
        exec(compile(code, "schedules.md", "exec"), names)
    entries = names["app"].entries()
    assert sorted(entries) == ["nightly", "shop.tasks.poll", "shop.tasks.refresh", "shop.tasks.tidy"]
    assert entries["nightly"].options == {"queue": "reports"}
    assert entries["shop.tasks.refresh"].schedule.zone == "Europe/Berlin"


@pytest.mark.parametrize(("folder", "mark"), [("fastapi_shop", "lifespan"), ("flask_shop", "task_prerun")])
def test_the_code_of_the_page_is_that_of_the_example(folder: str, mark: str) -> None:
    source = "".join(path.read_text() for path in (ROOT / "examples" / folder).glob("*.py"))
    known = {line.strip() for line in source.splitlines()}
    (code,) = (code for code in blocks("frameworks.md") if mark in code)
    assert not [line for line in code.splitlines() if line.strip() not in known]
