"""The public face: few names at the top, everything lazy, and a docstring with a running example for each name."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import infoplane as ip

ROOT = Path(ip.__file__).parent
STUBS = sorted(ROOT.rglob("__init__.pyi"))


def names_of(stub: Path) -> dict[str, object]:
    """The names that a stub lists, with what they are; no modules."""
    module = importlib.import_module(".".join(("infoplane", *stub.parent.relative_to(ROOT).parts)))
    listed = re.findall(r"^from \S+ import \w+ as (\w+)$", stub.read_text(), re.M)
    assert len(listed) == len(set(listed))
    assert {*module.__all__} == {*listed}
    found = {name: getattr(module, name) for name in listed}
    return {name: value for name, value in found.items() if not inspect.ismodule(value)}


PUBLIC = {(stub.parent.name, name): value for stub in STUBS for name, value in names_of(stub).items()}
DOCUMENTED = {key: value for key, value in PUBLIC.items() if inspect.isroutine(value) or inspect.isclass(value)}


def test_the_top_has_about_25_names():
    assert 20 <= len(ip.__all__) <= 28


def test_importing_the_package_and_the_command_line_loads_neither_torch_nor_pandas():
    code = (
        "import sys, infoplane, infoplane.cli, infoplane.runs.settings; dir(infoplane);"
        "print([m for m in ('torch', 'pandas', 'matplotlib', 'numba', 'scipy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert found.stdout.strip() == "[]"


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="KDE"):
        ip.KDE  # noqa: B018
    assert "Recorder" in dir(ip)
    assert callable(ip.channels.echo)  # the function, and not the module of the same name


@pytest.mark.parametrize(("place", "name"), DOCUMENTED)
def test_every_public_name_has_a_summary_and_a_running_example(place, name):
    doc = inspect.getdoc(DOCUMENTED[place, name]) or ""
    assert ">>>" in doc, f"{place}.{name} has no example"
    first = doc.partition("\n")[0]
    assert first.endswith((".", ":"))
    assert not first.startswith("What ")


@pytest.mark.parametrize(("place", "name"), DOCUMENTED)
def test_the_arguments_of_a_public_function_are_described(place, name):
    value = DOCUMENTED[place, name]
    if inspect.isclass(value) or not inspect.signature(value).parameters:
        return
    doc = inspect.getdoc(value) or ""
    missing = [p for p in inspect.signature(value).parameters if not re.search(rf"\b{p}\b", doc)]
    assert "Args:" in doc
    assert not missing, f"{place}.{name} does not describe {missing}"
