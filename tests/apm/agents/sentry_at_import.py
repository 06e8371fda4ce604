"""Sentry, set up when the application is imported: before any fork, and also in what only sends tasks."""

from __future__ import annotations

from typing import Any

from tests.apm.agents.sentry import COMMAND, PACKAGES, answer, begin, environment, read

__all__ = ["COMMAND", "PACKAGES", "answer", "environment", "read", "set_up"]


def set_up(app: Any) -> None:
    """As in most applications."""
    begin()
