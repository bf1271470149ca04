"""Write the Python code of the README and of the documentation to files, one per page, for a type checker to read."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(?:python|\{code-cell\}[^\n]*)\n(.*?)^```", re.M | re.S)
#: the options of a notebook's cell
OPTIONS = re.compile(r"^(?::\w.*|---\n.*?---)\n", re.M | re.S)


def main(folder: Path) -> None:
    """Write the code of each page to `folder`."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.py"):
        old.unlink()
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        if "_build" in page.parts:
            continue
        cells = [OPTIONS.sub("", cell, count=1) if cell.startswith((":", "---")) else cell for cell in code_of(page)]
        if cells:
            name = "_".join(page.relative_to(ROOT).with_suffix("").parts).replace("-", "_")
            (folder / f"{name}.py").write_text("\n".join(cells), encoding="utf-8")


def code_of(page: Path) -> list[str]:
    """Return the blocks of Python of a page, without the magic of notebooks."""
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [re.sub(r"^[%!].*$", "", block, flags=re.M) for block in blocks]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
