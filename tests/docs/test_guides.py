"""The code of native mode's guides, of the first steps and of the README runs as it stands there, in `app.testing()`.

Not here: producing.md, schedules.md, frameworks.md and from-celery.md, which have tests of their own.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

ROOT = Path(__file__).parents[2]
GUIDES = ("coroutines", "max-running", "testing", "unique", "workflows")
PAGES = ("README.md", "docs/quickstart.md", *(f"docs/guide/{name}.md" for name in GUIDES))

#: What code on a page takes for granted.
GIVEN = {"read": lambda _path: [SimpleNamespace(convert=lambda: None)]}


def blocks(page: str) -> list[str]:
    """Its code, but for what is marked as not to be run. A task whose body is left out returns a text, as it says."""
    code = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    return [block.replace("-> str: ...", "-> str: return 'text'") for block in code]


@pytest.mark.parametrize("page", PAGES)
def test_the_code_runs(page: str) -> None:
    names: dict[str, Any] = {"__name__": "shop", **GIVEN}
    first, *others = [compile(code, page, "exec") for code in blocks(page)]
    exec(first, names)
    testing: Any = contextlib.nullcontext() if isinstance(names["app"], Celery) else names["app"].testing()
    with testing:
        for code in others:
            exec(code, names)
