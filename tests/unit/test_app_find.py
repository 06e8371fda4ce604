"""What is said of an application whose modules cannot be imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fastq import FastQ
from fastq.app.find import import_tasks
from fastq.errors import ApplicationError


def test_the_file_of_a_broken_module_of_tasks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken_parts" / "tasks.py"
    broken.parent.mkdir()
    broken.write_text("x = 1\nimport not_there\n")
    (broken.parent / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    app = FastQ("parts")
    app.autodiscover_tasks(["broken_parts"])
    with pytest.raises(ApplicationError, match="No module named 'not_there'") as caught:
        import_tasks(app)
    assert caught.value.message.endswith(f"({broken}:2)")
