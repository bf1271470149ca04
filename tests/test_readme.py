"""The README's Python runs as it stands, and its commands are those there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from infoplane.cli import main

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, *_ = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    names: dict[str, object] = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(code.replace("range(100)", "range(2)"), names)
    assert (tmp_path / "plane.png").stat().st_size > 1000
    assert set(names["recorder"].frame()["layer"]) == {"0", "1", "1.echo", "2"}
    from matplotlib import pyplot as plt

    plt.close("all")


def test_the_resnet_example_runs(capsys):
    _, code, _ = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    names: dict[str, object] = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(code.replace("64, 64", "32, 32"), names)
    frame = names["recorder"].frame()
    assert set(frame["layer"]) == {"layer1", "layer4", "avgpool.echo"}
    wide = frame[frame["quantity"] == "I(Z;X)"]
    assert list(wide["standing"]) == ["upper"]
    assert "wide" in wide["warnings"].iloc[0]
    assert "layer4" in capsys.readouterr().out


def test_the_estimator_that_it_adds_is_a_bound(capsys):
    *_, code = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    names: dict[str, object] = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(code, names)
    rows = (
        names["recorder"].frame().query("quantity == 'I(X;T)'").pivot(index="layer", columns="estimator")["value_nats"]
    )
    assert (rows["gaussian-bound"] > rows["mixture"]).all()
    assert "gaussian-bound" in capsys.readouterr().out
    from infoplane import estimators

    estimators.ESTIMATORS["gaussian-bound"] = names["GaussianBound"]  # the line that the registry takes
    try:
        assert estimators.parse_estimator("gaussian-bound:noise_variance=0.5").noise_variance == 0.5
    finally:
        del estimators.ESTIMATORS["gaussian-bound"]


@pytest.mark.parametrize(
    "line",
    re.findall(
        r"infoplane ((?:train|measure|plot|compare-estimators|study)[^`\n]*|estimators|warnings)", README.read_text()
    ),
)
def test_every_option_it_names_exists(line):
    words = shlex.split(line)
    help_text = CliRunner().invoke(main, [words[0], "--help"]).output
    assert all(word.split("=")[0] in help_text for word in words if word.startswith("--"))
