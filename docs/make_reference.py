"""Write docs/reference from the sources: every public class and function with its signature and its docstring.

Read, not imported, so that the pages are the same whatever is installed.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "reference"

#: Page, title, and the modules (with the names in them; none: all that are public) that it is made of.
PAGES: dict[str, tuple[str, list[tuple[str, tuple[str, ...]]]]] = {
    "app": ("Applications", [("fastq/app/app.py", ("FastQ",)), ("fastq/app/schedule.py", ("Scheduling",))]),
    "task": ("Tasks", [("fastq/app/task.py", ()), ("fastq/app/running/context.py", ("Request",))]),
    "canvas": ("Workflows", [("fastq/app/canvas.py", ())]),
    "producer": (
        "Producers",
        [("fastq/producer/producer.py", ("Producer", "AsyncProducer")), ("fastq/producer/options.py", ())],
    ),
    "handle": ("Handles and results", [("fastq/producer/handle.py", ()), ("fastq/producer/outcome.py", ("Outcome",))]),
    "errors": ("Errors", [("fastq/errors.py", ())]),
    "settings": ("Settings of native applications", [("fastq/app/settings.py", ("Settings",))]),
    "signals": ("Signals", [("fastq/app/signals.py", ())]),
    "testing": (
        "Testing",
        [
            ("fastq/app/eager.py", ("Eager", "Ran")),
            ("fastq/testing/forked.py", ("ForkedWorker",)),
            ("fastq/testing/plugin.py", ()),
        ],
    ),
    "schedules": ("Schedules", [("fastq/schedules.py", ())]),
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def page(name: str) -> str:
    """One page."""
    title, modules = PAGES[name]
    parts = [f"# {title}", "Made by `make docs` from the docstrings of the sources."]
    for path, names in modules:
        parts += module(path, names)
    return "\n\n".join(parts) + "\n"


def module(path: str, names: tuple[str, ...]) -> Iterator[str]:
    """What one file adds to a page."""
    source = (ROOT / path).read_text()
    lines, tree = source.splitlines(), ast.parse(source)
    yield f"From `{path}`."
    if not names and (text := ast.get_docstring(tree)):
        yield fenced(text)
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, *(ast.FunctionDef, ast.AsyncFunctionDef))):
            if not node.name.startswith("_") and (not names or node.name in names):
                yield from class_(node, lines) if isinstance(node, ast.ClassDef) else function(node, level=2)
        elif not names and isinstance(node, ast.AnnAssign):
            yield from field(node, lines, mark="## ")


def class_(node: ast.ClassDef, lines: list[str]) -> Iterator[str]:
    """A class, its fields and its methods."""
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    yield f"## class `{node.name}{f'({bases})' if bases else ''}`"
    yield fenced(ast.get_docstring(node) or "")
    for item in node.body:
        if isinstance(item, ast.AnnAssign):
            yield from field(item, lines, mark="- ")
        elif isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from function(item, level=3)


def function(node: Function, *, level: int) -> Iterator[str]:
    """A function or a method; overloads and what is not public are left out."""
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    private = node.name.startswith("_") and node.name not in ("__init__", "__call__")
    if private or "overload" in decorators:
        return
    kind = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    yield f"{'#' * level} {kind}`{node.name}`"
    prefix = "@property\n" if "property" in decorators else ""
    yield f"```text\n{prefix}{kind}def {node.name}({ast.unparse(node.args)}){result}\n```"
    if text := ast.get_docstring(node):
        yield fenced(text)


def field(node: ast.AnnAssign, lines: list[str], *, mark: str) -> Iterator[str]:
    """A field or a name of a module, with the comment above it that begins with `#:`."""
    name = ast.unparse(node.target)
    if name.startswith("_") or name == "logger":
        return
    above = []
    number = node.lineno - 2
    while number >= 0 and lines[number].strip().startswith("#:"):
        above.insert(0, lines[number].strip()[2:].strip())
        number -= 1
    default = f" = {ast.unparse(node.value)}" if node.value is not None else ""
    yield f"{mark}`{name}: {ast.unparse(node.annotation)}{default}`" + (f"  \n  {' '.join(above)}" if above else "")


def fenced(text: str) -> str:
    """A docstring: prose as it is; what is indented stays so, which makes it code."""
    return inspect.cleandoc(text)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in PAGES:
        (FOLDER / f"{name}.md").write_text(page(name))


if __name__ == "__main__":
    main()
