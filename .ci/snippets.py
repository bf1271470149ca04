"""Write the Python code of the README and of the documentation to files, one per page, for a type checker to read."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```", re.M | re.S)
#: the options at the top of a notebook's cell
OPTIONS = re.compile(r"\A(?:(?::[^\n]*\n)+|---\n.*?\n---\n)", re.S)


def main(folder: Path) -> None:
    """Write the code of each page to `folder`."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.py"):
        old.unlink()
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        if "_build" in page.parts:
            continue
        name = "_".join(page.relative_to(ROOT).with_suffix("").parts).replace("-", "_")
        for at, code in enumerate(code_of(page)):
            (folder / f"{name}_{at}.py").write_text(code, encoding="utf-8")


def code_of(page: Path) -> list[str]:
    """Return the blocks of Python of a page, which stand alone; the cells of a notebook are one."""
    text = page.read_text(encoding="utf-8")
    cells = [re.sub(r"^[%!].*$", "", OPTIONS.sub("", cell, count=1), flags=re.M) for cell in CELL.findall(text)]
    return [*BLOCK.findall(text), *(["\n".join(cells)] if cells else [])]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
