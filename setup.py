"""Build the compiled core, where there is Linux, in the flavour that the environment asks for.

FASTQ_CORE=0                        no core: what runs on macOS and Windows, too (=1: the core, whatever the system)
FASTQ_DEBUG=1                       no optimization, debug symbols, assertions and bounds checks
FASTQ_SANITIZE=address,undefined    the compiler's sanitizers (load the runtime first, see `make sanitize-core`)

Everything else about the package is in pyproject.toml.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

CORE = Path("fastq/_core.pyx")
DEBUG = os.environ.get("FASTQ_DEBUG", "") not in ("", "0")
SANITIZERS = os.environ.get("FASTQ_SANITIZE", "")


def flavour() -> str:
    """Name the build, so that the C files of two flavours never stand in for each other."""
    parts = ["debug" if DEBUG else "release", *SANITIZERS.split(",")]
    return "-".join(part for part in parts if part)


def compiler_flags() -> list[str]:
    # Cython compares every result with the value that announces an exception, signed or not: many warnings, no news.
    flags = ["-std=gnu11", "-fvisibility=hidden", "-Wno-sign-compare"]
    flags += ["-O0", "-g"] if DEBUG else ["-O3"]
    return flags + sanitizer_flags()


def sanitizer_flags() -> list[str]:
    if not SANITIZERS:
        return []
    return [f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g"]


def macros() -> list[tuple[str, str | None]]:
    """FASTQ_DEBUG is always defined, as 0 or 1; `assert` in the core costs nothing in a release."""
    release_only: list[tuple[str, str | None]] = [] if DEBUG else [("CYTHON_WITHOUT_ASSERTIONS", "1")]
    return [("FASTQ_DEBUG", "1" if DEBUG else "0"), *release_only]


def directives() -> dict[str, object]:
    return {
        "language_level": 3,
        "boundscheck": DEBUG,
        "wraparound": False,
        "cdivision": True,
    }


def core() -> Extension:
    parts = sorted(str(path) for path in Path("fastq").glob("_core*/*.px[di]"))
    return Extension(
        "fastq._core",
        [str(CORE)],
        depends=[*parts, *(str(path) for path in Path("fastq").glob("_core.px[dy]"))],
        define_macros=macros(),
        extra_compile_args=compiler_flags(),
        extra_link_args=sanitizer_flags(),
    )


def wants_core() -> bool:
    """Workers run on Linux only; elsewhere the package sends tasks and reads results, and needs no compiler."""
    asked = os.environ.get("FASTQ_CORE", "")
    wanted = asked != "0" if asked else sys.platform == "linux"
    if not wanted:
        why = "FASTQ_CORE=0" if asked else f"this is {sys.platform}, and the core is for Linux"
        print(f"fastq: without the compiled core ({why}): no workers here, sending and results only", file=sys.stderr)
    return wanted


def extensions() -> list[Extension]:
    from Cython.Build import cythonize

    found: list[Extension] = cythonize(
        [core()],
        build_dir=f"build/cython-{flavour()}",
        compiler_directives=directives(),
        # A changed macro or directive is not in any file's date; the whole core takes a few seconds.
        force=True,
    )
    return found


setup(ext_modules=extensions() if wants_core() else [])
