"""Names and numbers of users and groups, and what becomes of the process."""

from __future__ import annotations

import os

import pytest

from fastq.config.identity import Identity, become, identity
from fastq.errors import OptionError


def test_nothing_asked_is_nothing_done() -> None:
    assert identity(None, "") == Identity()
    assert Identity().is_ours
    assert become(Identity()) == ""


def test_a_user_brings_its_group() -> None:
    assert identity("root", None).uid == 0
    nobody = identity("nobody", None)
    assert nobody.gid is not None
    assert identity("nobody", "0").gid == 0


@pytest.mark.parametrize(("user", "group"), [("no such user", None), (None, "no such group"), ("4000000000", None)])
def test_what_the_system_does_not_know_is_named(user: str | None, group: str | None) -> None:
    with pytest.raises(OptionError, match=r"no such|4000000000"):
        identity(user, group)


def test_root_stays_root_when_asked_for_root() -> None:
    assert identity("0", None).is_ours


def test_only_root_can_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    assert "only root" in become(Identity(uid=4321, gid=4321))
    assert become(Identity(uid=1234, gid=1)) == ""
