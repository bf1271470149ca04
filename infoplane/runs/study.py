"""The studies that come with the package, one plain file per claim.

`infoplane study NAME` runs one. They lie in studies/ of a checkout, and in infoplane/studies/ of an
installed package.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InfoplaneError, choose

__all__ = ["Study", "run", "studies"]


@dataclass(frozen=True, slots=True)
class Study:
    """A study, as its file describes it.

    Args:
        name: The name of its file.
        path: Its file.
        claim: The claim that it tests, the first line of its docstring.
        source: The source of the claim.
        time: The time that it takes on two cores, in words.
    """

    name: str
    path: Path
    claim: str
    source: str
    time: str


def studies() -> dict[str, Study]:
    """Return all studies by name, read from their files without running them.

    Example:
        >>> import infoplane as ip
        >>> "echo_versus_bounds" in ip.runs.studies()
        True
    """
    here = Path(__file__).resolve().parents[1]
    folder = next((f for f in (here / "studies", here.parent / "studies") if f.is_dir()), None)
    found = {}
    for path in sorted(folder.glob("*.py")) if folder else ():
        if path.stem.startswith("_"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            target.id: ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and target.id in ("SOURCE", "TIME")
        }
        claim = (ast.get_docstring(tree) or "").partition("\n")[0]
        found[path.stem] = Study(path.stem, path, claim, constants.get("SOURCE", ""), constants.get("TIME", ""))
    return found


def run(name: str, out: Path, *, quick: bool = False, download: bool = False) -> None:
    """Run a study, which writes figures and the numbers behind them.

    Args:
        name: The name of the study.
        out: The folder to write to.
        quick: Whether to take few points, seeds and epochs, only to see that it runs.
        download: Whether to fetch missing data, for a study on real data.

    Raises:
        InfoplaneError: If there is no such study, its data are missing, or the folder cannot be
            made.
    """
    study = studies()[choose(name, studies(), "study")]
    spec = importlib.util.spec_from_file_location(f"infoplane_study_{name}", study.path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Callable[..., None] = module.main
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InfoplaneError(f"Cannot make the folder {out}: {error.strerror or error}.") from error
    if "download" in inspect.signature(main).parameters:
        main(out, quick, download)
    else:
        main(out, quick)
