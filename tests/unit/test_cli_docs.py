"""The table of options in the docs says what the table of settings says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastq.config.settings import SETTINGS

PAGE = Path(__file__).parents[2] / "docs" / "celery" / "moving-over.md"


def rows() -> dict[str, str]:
    """Flag to what the page says of it."""
    table = PAGE.read_text().split("## Options of")[1].split("\n## ")[0]
    found = re.findall(r"^\| (`-.*?) \| (.*) \|$", table, re.MULTILINE)
    return {flag: text for flags, text in found for flag in re.findall(r"`(-[^`]+)`", flags)}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_option_is_in_the_table_with_its_effect(name: str) -> None:
    setting = SETTINGS[name]
    documented = rows()
    for flag in setting.flags:
        assert documented[flag].startswith("not yet") == bool(setting.not_yet), flag
