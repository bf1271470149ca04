"""Write one page of reference per namespace of infoplane from its public names, before Sphinx reads the pages.

A name that is public at the top, such as `infoplane.Echo`, is described there and only named in its namespace.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import pkgutil
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.pycode import ModuleAnalyzer

import infoplane

NAMESPACES = (
    "analysis", "calibration", "channels", "data", "estimators", "nn", "plot", "recording", "runs", "theory",
)  # fmt: skip

_INTRODUCTION = """\
Write `import infoplane as ip`. About twenty names are at the top of the package; all others are in the namespaces
below, so that the bounds of a kernel density are `ip.estimators.kde_bounds`. A name that is not on these pages is
private and may change without notice."""


def _names(module: types.ModuleType) -> list[str]:
    """The public names of a module that are no modules themselves."""
    names = [n for n in module.__all__ if not n.startswith("__")]
    return [n for n in names if not isinstance(getattr(module, n), types.ModuleType)]


def _modules() -> Iterator[types.ModuleType]:
    for found in pkgutil.walk_packages(infoplane.__path__, "infoplane."):
        if not found.name.rpartition(".")[2].startswith("_") and ".studies" not in found.name:
            yield importlib.import_module(found.name)


def _comment(name: str, value: object, modules: list[types.ModuleType]) -> str:
    """Find the `#:` comment of a constant, in whichever module defines it."""
    for module in modules:
        if getattr(module, name, None) is value:
            analyzer = ModuleAnalyzer.for_module(module.__name__)
            analyzer.analyze()
            if lines := analyzer.attr_docs.get(("", name)):
                return " ".join(line.strip() for line in lines).strip()
    return ""


def _entry(full: str, value: object, modules: list[types.ModuleType]) -> str:
    if inspect.isclass(value):
        return f".. autoclass:: {full}\n   :members:\n   :exclude-members: extra_repr, forward\n"
    if inspect.isroutine(value):
        return f".. autofunction:: {full}\n"
    comment = "\n".join(_plain([_comment(full.rpartition(".")[2], value, modules)]))
    return f".. py:data:: {full}\n\n   {comment}\n"


def _page(module: types.ModuleType, names: list[str], elsewhere: list[str], modules: list[types.ModuleType]) -> str:
    full = module.__name__
    said = inspect.getdoc(module) or ""
    first = _plain([said.partition("\n\n")[0].replace("\n", " ")])[0]
    lines = [full, "=" * len(full), "", first, ""]
    if elsewhere:
        links = ", ".join(f":py:obj:`infoplane.{n}`" for n in elsewhere)
        lines += [f"The following names are described at the top of the package: {links}.", ""]
    described = [n for n in names if inspect.isclass(getattr(module, n)) or inspect.isroutine(getattr(module, n))]
    if described:
        lines += [".. autosummary::", "   :nosignatures:", "", *(f"   {full}.{n}" for n in described), ""]
    lines += [_entry(f"{full}.{n}", getattr(module, n), modules) for n in names]
    return "\n".join(lines) + "\n"


def write_pages(app: Any, _config: Any) -> None:
    """Write reference/api/*.rst, each only where its text has changed."""
    folder = Path(app.srcdir) / "reference" / "api"
    folder.mkdir(parents=True, exist_ok=True)
    modules = list(_modules())
    top = _names(infoplane)
    at_top = {id(getattr(infoplane, n)): n for n in top}
    pages = {"infoplane": _page(infoplane, top, [], modules)}
    for namespace in NAMESPACES:
        module = importlib.import_module(f"infoplane.{namespace}")
        names = _names(module)
        both = {n for n in names if at_top.get(id(getattr(module, n))) == n}
        pages[namespace] = _page(module, [n for n in names if n not in both], sorted(both), modules)
    links = [f"   {name}" for name in pages]
    pages["index"] = "\n".join(["API", "===", "", _INTRODUCTION, "", ".. toctree::", "", *links, ""])
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in folder.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()


# Docstrings are plain text with backticks: what reStructuredText would read as markup is escaped.

_CODE = re.compile(r"(``.+?``|`[^`]+`|:py:\w+:`[^`]+`)")


def _plain(lines: list[str]) -> list[str]:
    out, literal, session = [], -1, False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if literal >= 0 and line.strip() and indent <= literal:
            literal = -1
        session = bool(line.strip()) and (session or line.lstrip().startswith(">>>"))
        if literal >= 0 or session or line.lstrip().startswith((".. ", ":")):
            out.append(line)
            continue
        if line.rstrip().endswith("::"):
            literal = indent
        bullet = re.match(r"\s*[*-] ", line)
        start = bullet.end() if bullet else 0
        parts = _CODE.split(line[start:])
        for at in range(0, len(parts), 2):
            parts[at] = re.sub(r"(?<!\\)([*|])", r"\\\1", parts[at])
            parts[at] = re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", parts[at])
        out.append(line[:start] + "".join(parts))
    return out


def escape(_app: Any, _what: str, _name: str, _obj: object, _options: Any, lines: list[str]) -> None:
    """Escape markup in a docstring; runs before napoleon reads its sections."""
    lines[:] = _plain(lines)


class _Docstrings(logging.Filter):
    """Hold back complaints about the layout of docstrings, and count them."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        place = str(getattr(record, "location", ""))
        if record.levelno < logging.WARNING or "docstring of" not in place:
            return True
        self.held.append(f"{place}: {record.getMessage()}")
        return False


def setup(app: Any) -> dict[str, bool]:
    """Connect to Sphinx. With INFOPLANE_DOCS_STRICT=1 a docstring that is laid out badly is a warning too."""
    app.connect("config-inited", write_pages)
    app.connect("autodoc-process-docstring", escape, priority=400)
    if os.environ.get("INFOPLANE_DOCS_STRICT") != "1":
        held = _Docstrings()
        for handler in logging.getLogger("sphinx").handlers:
            handler.filters.insert(0, held)

        def report(app: Any, _error: Exception | None) -> None:
            if held.held:
                (Path(app.outdir) / "docstrings.txt").write_text("\n".join(held.held) + "\n", encoding="utf-8")
                print(f"{len(held.held)} complaints about docstrings, in docstrings.txt")

        app.connect("build-finished", report)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
