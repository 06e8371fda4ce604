"""The reference pages say what the sources say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

MAKE = Path(__file__).parents[2] / "docs" / "make_reference.py"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("make_reference", MAKE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = load()


@pytest.mark.parametrize("name", make.PAGES)
def test_a_page_is_up_to_date(name: str) -> None:
    assert (make.FOLDER / f"{name}.md").read_text() == make.page(name), "run make docs"


def test_there_are_no_other_pages() -> None:
    assert {path.stem for path in make.FOLDER.glob("*.md")} == set(make.PAGES)
