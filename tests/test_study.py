"""Studies are found, listed and run, installed or in a checkout."""

import ast
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from infoplane.cli import main
from infoplane.records import InfoplaneError
from infoplane.study import run, studies

ROOT = Path(__file__).parents[1]


def test_every_study_says_what_it_claims():
    found = studies()
    assert "echo_versus_bounds" in found
    for study in found.values():
        assert study.claim.endswith(".")
        assert study.source
        assert study.time
        tree = ast.parse(study.path.read_text())
        assert [node.name for node in tree.body if isinstance(node, ast.FunctionDef)][-1] == "main"
        text = ast.get_docstring(tree)
        for word in ("Claim:", "Expected:", "What came out"):
            assert word in text


def test_the_list_names_them_all():
    output = CliRunner().invoke(main, ["studies"]).output
    assert all(name in output and study.claim in output for name, study in studies().items())


def test_the_wheel_holds_every_package_and_the_studies():
    """They are listed by hand, because studies/ is mapped into the package."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {"infoplane"} | {f"infoplane.{p.parent.name}" for p in (ROOT / "infoplane").glob("*/__init__.py")}
    assert listed == there | {"infoplane.studies"}


def test_an_unknown_study_is_refused(tmp_path):
    with pytest.raises(InfoplaneError, match="Did you mean 'echo_versus_bounds'"):
        run("echo_vs_bounds", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InfoplaneError, match="Cannot make the folder"):
        run("echo_versus_bounds", tmp_path / "file")


@pytest.mark.slow
@pytest.mark.parametrize("name", studies())
def test_a_study_runs(name, tmp_path):
    result = CliRunner().invoke(main, ["study", name, "--quick", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert {f"{name}.png", f"{name}.pdf", f"{name}.csv"} <= {p.name for p in tmp_path.iterdir()}
