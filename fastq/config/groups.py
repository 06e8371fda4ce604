"""Find the folders of the control groups that limit this process, of versions 1 and 2, and read their files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def group_folders(root: Path, *, controller: str) -> Iterator[Path]:
    """The folders of the groups that limit this process, from its own up to the mount, of both versions.

    `controller` is `cpu` or `memory`; `root` is where /proc and /sys are, so that a test can bring its own.
    """
    mounts = root / "sys/fs/cgroup"
    for controllers, path in _memberships(root):
        for mount in _mount_names(controllers, controller):
            # A container sees its host's path in /proc, and itself at the top of the mount: paths that are not there
            # are passed over on the way up.
            yield from (mounts / mount / folder for folder in _upwards(path))


def _memberships(root: Path) -> list[tuple[str, str]]:
    """(controllers, path) of each hierarchy of /proc/self/cgroup; the top of version 2 where it cannot be read."""
    text = read(root / "proc/self/cgroup")
    lines = [line.split(":", 2) for line in text.splitlines()]
    return [(line[1], line[2]) for line in lines if len(line) == 3] or [("", "/")]


def _mount_names(controllers: str, controller: str) -> list[str]:
    """Below /sys/fs/cgroup: version 2 at the top or, on hybrid hosts, in `unified`; version 1 by its controllers."""
    if not controllers:
        return ["", "unified"]
    if controller not in controllers.split(","):
        return []
    return list(dict.fromkeys([controllers, controller]))


def _upwards(path: str) -> list[PurePosixPath]:
    """`/a/b` as a/b, a and the top. Parts that point upwards (a group outside of our namespace) do not count."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    return [PurePosixPath(*parts[:count]) for count in range(len(parts), -1, -1)]


def read(path: Path) -> str:
    """A small file's text; empty if it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""


def number(path: Path) -> int | None:
    """A file with one whole number; None for `max`, nonsense, and files that are not there."""
    text = read(path).strip()
    return int(text) if text.isdecimal() else None


def field(path: Path, name: str) -> int | None:
    """The number behind a name in a file of `name number` lines; None if there is none."""
    for line in read(path).splitlines():
        words = line.replace(":", " ").split()
        if len(words) >= 2 and words[0] == name and words[1].isdecimal():
            return int(words[1])
    return None
