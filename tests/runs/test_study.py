"""Studies are found, listed and run, in a checkout and in an installed package."""

import ast
import os
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from infoplane.cli import main
from infoplane.errors import InfoplaneError
from infoplane.runs.study import Study, run, studies

ROOT = Path(__file__).parents[2]


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


FINE = '''"""It works."""
SOURCE, TIME = "none", "none"
def main(out, quick):
    (out / "fine.txt").write_text(str(quick))
'''
LACKING = """from infoplane.records import InfoplaneError
def main(out, quick):
    raise InfoplaneError("There are no data. Get some.")
"""


def test_all_studies_run_and_one_that_fails_stops_none(tmp_path, monkeypatch):
    for name, text in (("a_broken", "def main(out, quick):\n    1 / 0\n"), ("b_lacking", LACKING), ("c_fine", FINE)):
        (tmp_path / f"{name}.py").write_text(text)
    found = {path.stem: Study(path.stem, path, "", "", "") for path in sorted(tmp_path.glob("*.py"))}
    monkeypatch.setattr("infoplane.runs.study.studies", lambda: found)
    result = CliRunner().invoke(main, ["study", "--all", "--quick", "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert (tmp_path / "out" / "fine.txt").read_text() == "True"
    for name, how in (("a_broken", "failed"), ("b_lacking", "failed"), ("c_fine", "done")):
        assert re.search(rf"^{name}: {how} after \d+ s$", result.stdout, re.MULTILINE)
    assert "1 / 0" in result.stderr  # where in the study it was
    end = result.stderr[result.stderr.index("2 of 3 studies failed:") :]
    assert "a_broken: ZeroDivisionError: division by zero" in end
    assert "b_lacking: There are no data. Get some." in end
    assert "c_fine" not in end
    del found["a_broken"], found["b_lacking"]
    assert CliRunner().invoke(main, ["study", "--all", "--out", str(tmp_path / "out")]).exit_code == 0
    assert (tmp_path / "out" / "fine.txt").read_text() == "False"


def test_a_study_without_its_data_says_so_and_is_told_to_fetch_them(tmp_path, monkeypatch):
    monkeypatch.setenv("INFOPLANE_DATA", str(tmp_path / "nowhere"))
    result = CliRunner().invoke(main, ["study", "saxe_mnist", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "Cannot read the training part of MNIST" in result.stderr
    assert "$INFOPLANE_DATA, or fetch it with --download" in result.stderr
    told = []
    monkeypatch.setattr("infoplane.data.load_points", lambda name, place: told.append(place.download) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("saxe_mnist", tmp_path / "out", download=True)
    assert told == [True]


@pytest.mark.parametrize(
    ("arguments", "message"), [([], "neither a NAME nor --all"), (["saxe_linear", "--all"], "both --all")]
)
def test_one_study_or_all_of_them(arguments, message, tmp_path):
    result = CliRunner().invoke(main, ["study", *arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert message in result.stderr
    assert "echo_versus_bounds" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_quick_study_leaves_the_figures_of_a_full_one_alone(tmp_path, monkeypatch):
    (tmp_path / "fine.py").write_text(FINE)
    monkeypatch.setattr(
        "infoplane.runs.study.studies", lambda: {"fine": Study("fine", tmp_path / "fine.py", "", "", "")}
    )
    monkeypatch.chdir(tmp_path)
    for options, folder in ((["--quick"], "figures/quick"), ([], "figures"), (["--quick", "--out", "here"], "here")):
        result = CliRunner().invoke(main, ["study", "fine", *options])
        assert result.exit_code == 0, result.output
        assert (tmp_path / folder / "fine.txt").read_text() == str("--quick" in options)
        assert ("do not use its numbers" in result.stdout) == ("--quick" in options)


@pytest.mark.slow
@pytest.mark.parametrize("name", studies())
def test_a_study_runs(name, tmp_path, monkeypatch):
    monkeypatch.setenv("INFOPLANE_DATA", os.environ.get("INFOPLANE_DATA", str(ROOT.parent / "shared" / "data")))
    result = CliRunner().invoke(main, ["study", name, "--quick", "--out", str(tmp_path)])
    if "fetch it with --download" in result.stderr:
        pytest.skip(result.stderr)
    assert result.exit_code == 0, result.output
    assert {f"{name}.png", f"{name}.pdf", f"{name}.csv"} <= {p.name for p in tmp_path.iterdir()}
