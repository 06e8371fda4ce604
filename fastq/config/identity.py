"""Become the user and the group that a process is to run as, for good."""

from __future__ import annotations

import os

import msgspec

from fastq.errors import OptionError, SurroundingsError


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to become. None: stay. A user without a group brings its own groups."""

    uid: int | None = None
    gid: int | None = None

    @property
    def is_ours(self) -> bool:
        """Whether this process is that already. Everybody is nobody in particular, and root stays what it is."""
        user = self.uid in (None, 0, os.geteuid())
        return user and (self.gid in (None, os.getegid()) or (self.uid is not None and self.uid == os.geteuid() != 0))


def identity(user: str | int | None, group: str | int | None) -> Identity:
    """Look up names or numbers. Raises OptionError for what the system does not know."""
    uid = None if user in (None, "") else _uid(str(user))
    gid = None if group in (None, "") else _gid(str(group))
    if uid and gid is None:
        gid = _primary_group(uid)
    return Identity(uid=uid, gid=gid)


def become(whom: Identity) -> str:
    """Change user and group of this process. Returns "", or why nothing was changed.

    Only root can. For others it is a remark and no error, as in Celery: start scripts name the user everywhere.
    """
    if whom.is_ours:
        return ""
    if os.geteuid() != 0:
        return f"only root can change to user {whom.uid}, group {whom.gid}; staying user {os.geteuid()}"
    # Groups first: without root's rights they cannot be changed any more.
    if whom.gid is not None:
        os.setgid(whom.gid)
    if whom.uid:
        _take_groups(whom.uid, whom.gid)
        os.setuid(whom.uid)
        _make_sure_it_is_final()
    return ""


def _take_groups(uid: int, gid: int | None) -> None:
    """The supplementary groups of the user; root's must not stay."""
    import pwd  # Windows has none, and reads settings, too

    group = os.getgid() if gid is None else gid
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        os.setgroups([group])
    else:
        os.initgroups(name, group)


def _make_sure_it_is_final() -> None:
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise SurroundingsError("this process could become root again after it had changed its user; check capabilities")


def _uid(user: str) -> int:
    if user.isdigit():
        return int(user)
    import pwd

    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise OptionError(f"--uid: there is no user {user!r}") from None


def _gid(group: str) -> int:
    if group.isdigit():
        return int(group)
    import grp

    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise OptionError(f"--gid: there is no group {group!r}") from None


def _primary_group(uid: int) -> int:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        raise OptionError(f"--uid: user {uid} has no entry, and so no group; name one with --gid") from None
