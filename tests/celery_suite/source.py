"""Get the tests of the installed Celery from its source distribution. They stay in a cache, outside the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import celery

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "celery-suite"

#: What is unpacked. Not Celery itself: the installed one is tested.
_WANTED = ("t/", "pyproject.toml")


class SourceUnreachable(Exception):
    """The package index could not be asked for Celery's source distribution; the text says why."""


def suite_folder() -> Path:
    """The folder that holds Celery's package `t`, fetched if it is not there yet. Raises SourceUnreachable."""
    folder = CACHE / f"celery-{celery.__version__}"
    if not (folder / "t" / "integration").is_dir():
        _unpack(_archive(), folder)
    return folder


def _archive() -> Path:
    wanted = CACHE / f"celery-{celery.__version__}.tar.gz"
    if not wanted.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(_download(), capture_output=True, text=True, check=False)
        if not wanted.exists():
            says = " ".join(done.stderr.splitlines()[-1:])
            raise SourceUnreachable(f"pip cannot download the source of celery {celery.__version__}: {says}")
    return wanted


def _download() -> list[str]:
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--retries", "1"]
    command += ["--dest", str(CACHE), "--no-deps", "--no-binary", "celery", "--no-build-isolation"]
    return [*command, f"celery=={celery.__version__}"]


def _unpack(archive: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(archive) as tar:
        wanted = [member for member in tar.getmembers() if _is_wanted(member, under=folder.name)]
        tar.extractall(CACHE, members=wanted)


def _is_wanted(member: tarfile.TarInfo, *, under: str) -> bool:
    path = member.name.removeprefix(f"{under}/")
    return member.isfile() and ".." not in Path(path).parts and path.startswith(_WANTED)
