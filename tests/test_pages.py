"""The Python of the README and of the documentation runs as it stands, and its commands and options exist.

Notebooks are not run here: the build of the documentation runs them.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import torch
from matplotlib import pyplot as plt

from infoplane.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts)]
#: long loops and large images, made short: the first must stand in the page
SHORTER = {"README.md": ("range(400)", "range(2)"), "docs/start.md": ("range(60)", "range(2)")}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


CODE = [(name_of(page), k, block) for page in PAGES for k, block in enumerate(blocks_of(page, "python"))]


@pytest.mark.parametrize(("page", "number", "code"), CODE, ids=[f"{page}-{k}" for page, k, _ in CODE])
def test_the_python_of_a_page_runs(page, number, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if page in SHORTER:
        long, short = SHORTER[page]
        assert long in code
        code = code.replace(long, short)
    names: dict[str, object] = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(code, names)
    plt.close("all")
    capsys.readouterr()


def test_the_example_of_the_readme_records_an_exact_or_bounded_rate(capsys):
    ((_, _, code),) = [each for each in CODE if each[0] == "README.md"]
    names: dict[str, object] = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(code.replace(*SHORTER["README.md"]), names)
    frame = names["recorder"].frame()
    assert set(frame["layer"]) == {"0", "1", "1.echo", "2"}
    rate = frame[(frame["layer"] == "1.echo") & (frame["quantity"] == "I(Z;X)")]
    assert set(rate["standing"]) <= {"exact", "upper"}
    assert "value_nats" in capsys.readouterr().out


def test_the_estimator_that_a_page_adds_is_a_bound_and_can_be_registered(capsys):
    ((_, _, code),) = [each for each in CODE if each[0] == "docs/howto/add-estimator.md"]
    names: dict[str, object] = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(code, names)
    rows = names["recorder"].frame().query("quantity == 'I(X;T)'")
    values = rows.pivot(index="layer", columns="estimator", values="value_nats")
    assert (values["gaussian-bound"] > values["mixture"]).all()
    from infoplane.estimators import ESTIMATORS, parse_estimator

    ESTIMATORS["gaussian-bound"] = names["GaussianBound"]
    try:
        assert parse_estimator("gaussian-bound:noise_variance=0.5").noise_variance == 0.5
    finally:
        del ESTIMATORS["gaussian-bound"]
    capsys.readouterr()


def commands() -> list[tuple[str, str]]:
    """Every `infoplane ...` of a page: in blocks, where a backslash goes on with the next line, and in the text."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        fenced_or_indented = re.findall(r"^```(?!python|\{)[a-z]*\n(.*?)^```|^((?:    .*\n)+)", text, re.M | re.S)
        blocks = "\n".join(fenced or indented for fenced, indented in fenced_or_indented)
        lines = re.findall(r"^ *(?:\$ )?(?:.*&& )?(infoplane [a-z][^\n#]*)", blocks, re.M)
        lines += re.findall(r"`(infoplane [a-z][^`\n]*)`", text)
        found += [(name_of(page), line.strip()) for line in dict.fromkeys(lines)]
    return found


@pytest.mark.parametrize(("page", "line"), commands(), ids=lambda each: each[:60])
def test_every_command_and_option_of_a_page_exists(page, line):
    words = shlex.split(line.strip("`.,;"))[1:]
    command = main.commands.get(words[0])
    assert command is not None, f"{page}: infoplane has no command {words[0]!r}"
    known = {option for p in command.params if isinstance(p, click.Option) for option in (*p.opts, *p.secondary_opts)}
    known |= {"--help", "-h"}
    for word in words:
        if re.match(r"--?[a-z]", word):
            option = word.split("=")[0]
            assert option in known, f"{page}: infoplane {words[0]} has no option {option}"


def test_the_readme_is_an_invitation():
    words = (ROOT / "README.md").read_text(encoding="utf-8").split()
    assert len(words) <= 900


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if page.parent / target != page and not (page.parent / target).exists():
            assert "reference/api" in target, f"{name_of(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_prose_has_lines_of_at_most_100_characters(page):
    within = False
    for at, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        within ^= line.startswith("```")
        if not within and not line.startswith(("|", "[", "#")) and "](" not in line:
            assert len(line) <= 100, f"{name_of(page)}, line {at} has {len(line)} characters"
