"""Directives that show the registries of infoplane as they are when the site is built: nothing is copied by hand.

{registry} estimators | warnings | limits | datasets | standings | settings | tables | studies
{command} NAME        what `infoplane NAME --help` prints
{study} NAME          source, time and command of a study, and its docstring
"""

from __future__ import annotations

import ast
import dataclasses
import re
import typing
from collections.abc import Callable, Sequence
from typing import Any

from click.testing import CliRunner
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import infoplane as ip

Rows = list[list[str]]

#: The words of the column `standing`, explained; the build fails where the package has another set of them.
STANDINGS = {
    "exact": "The value is the information itself, up to the stated error, under the stated law and, for an Echo "
    "layer, at the stated resolution.",
    "upper": "The information is no larger than the value.",
    "lower": "The information is no smaller than the value.",
    "estimate": "The value may err on either side; the warnings say when it is known to.",
}


def inline(text: str) -> list[nodes.Node]:
    """Words and `code`."""
    parts = re.split(r"`+([^`]+)`+", text)
    return [nodes.literal(p, p) if at % 2 else nodes.Text(p) for at, p in enumerate(parts) if p]


def paragraph(text: str) -> nodes.paragraph:
    out = nodes.paragraph()
    out += inline(text)
    return out


def table(heads: Sequence[str], widths: Sequence[int], rows: Sequence[Sequence[str]]) -> nodes.table:
    """A table with one paragraph of text per cell."""
    out = nodes.table(classes=["registry"])
    group = nodes.tgroup(cols=len(widths))
    out += group
    group += [nodes.colspec(colwidth=width) for width in widths]
    for place, lines in ((nodes.thead(), [heads] if heads else []), (nodes.tbody(), rows)):
        if not lines:
            continue
        for line in lines:
            row = nodes.row()
            for cell in line:
                entry = nodes.entry()
                entry += paragraph(cell)
                row += entry
            place += row
        group += place
    return out


def _options(make: Any) -> str:
    """The fields of an estimator with their defaults."""
    said = []
    for field in dataclasses.fields(make):
        default = "" if field.default is dataclasses.MISSING else f"={field.default}"
        said.append(f"`{field.name}{default}`")
    return ", ".join(said)


def estimators() -> list[nodes.Node]:
    """One section per estimator."""
    found: list[nodes.Node] = []
    for name, make in ip.estimators.ESTIMATORS.items():
        about = make.about
        section = nodes.section(ids=[name], names=[name])
        section += nodes.title(name, name)
        rows = [
            ["Quantities", about.quantity],
            ["Standing", about.standing],
            ["Conditions", about.conditions],
            ["Options", _options(make) or "none"],
            ["Cost", about.cost],
            ["Source", about.source],
        ]
        section += table([], (15, 85), rows)
        found.append(section)
    return found


def warnings() -> nodes.table:
    rows = [[f"`{code}`", w.meaning, w.threshold, w.remedy] for code, w in ip.WARNINGS.items()]
    return table(["Code", "Meaning", "Raised when", "What to do"], (12, 34, 30, 24), rows)


def limits() -> nodes.table:
    from infoplane.warning_codes import LIMITS

    return table(["Value of the certificate", "Limit"], (60, 40), [[f"`{k}`", f"{v:g}"] for k, v in LIMITS.items()])


def datasets() -> nodes.table:
    rows = []
    for name, each in ip.data.DATASETS.items():
        rows.append([f"`{name}`", each.what, each.points, each.source])
    return table(["Name", "Task", "Points", "Source"], (18, 40, 24, 18), rows)


def standings() -> nodes.table:
    from infoplane.records import STANDINGS as known

    if set(known) != set(STANDINGS):
        raise ValueError(f"the documentation explains the standings {set(STANDINGS)}, and the package has {set(known)}")
    return table(["Standing", "Claim"], (15, 85), [[f"`{word}`", STANDINGS[word]] for word in known])


def settings() -> list[nodes.Node]:
    """One table per group of settings, in the order of `--help`."""
    from infoplane.runs.settings import FIELDS

    own = [FIELDS[f.name].about.group for f in dataclasses.fields(ip.Settings)]
    first = [field.about.group for field in FIELDS.values() if field.about.group not in own]
    groups: dict[str, Rows] = {group: [] for group in [*first, *own]}
    for field in FIELDS.values():
        default = field.about.default or f"`{field.text(field.default)}`"
        said = field.about.help + (f" One of {', '.join(f'`{c}`' for c in field.choices)}." if field.choices else "")
        groups[field.about.group].append([f"`{field.name}`", default, said])
    found: list[nodes.Node] = []
    for group, rows in groups.items():
        found.append(nodes.rubric(text=group))
        found.append(table(["Setting", "Default", "Meaning"], (18, 22, 60), rows))
    return found


def tables() -> list[nodes.Node]:
    """One table of columns per table of a run, from the schemas beside the records."""
    from infoplane.records import TABLES

    found: list[nodes.Node] = []
    for name, schema in TABLES.items():
        found.append(nodes.rubric(text=f"{name}.csv"))
        absent = f" A run has no such table if {schema.absent}." if schema.absent else ""
        found.append(paragraph(f"{schema.rows[0].upper()}{schema.rows[1:]}.{absent}"))
        rows = [[f"`{c}`", kind.__name__, "yes" if c in schema.key else ""] for c, kind in schema.columns.items()]
        found.append(table(["Column", "Type", "Part of the key"], (50, 25, 25), rows))
    return found


def studies() -> nodes.table:
    rows = [[f"`{name}`", s.claim, s.source, s.time] for name, s in _studies().items()]
    return table(["Study", "Claim", "Source", "Time on two cores"], (18, 42, 28, 12), rows)


def _studies() -> dict[str, Any]:
    from infoplane.runs.study import studies as found

    return typing.cast(dict[str, Any], found())


REGISTRIES: dict[str, Callable[[], Any]] = {
    f.__name__: f for f in (estimators, warnings, limits, datasets, standings, settings, tables, studies)
}


class Registry(SphinxDirective):
    """{registry} NAME"""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        found = REGISTRIES[self.arguments[0]]()
        return found if isinstance(found, list) else [found]


class Command(SphinxDirective):
    """{command} NAME"""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        from infoplane.cli import main

        name = self.arguments[0]
        words = [] if name == "infoplane" else [name]
        shown = CliRunner().invoke(
            main, [*words, "--help"], prog_name="infoplane", terminal_width=88, max_content_width=88
        )
        if shown.exit_code:
            raise self.error(f"infoplane {name} --help failed: {shown.output}")
        return [nodes.literal_block(shown.output, shown.output, language="text")]


class CheckCommands(SphinxDirective):
    """{all-commands} NAME NAME ...: fail the build where the command line has others."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        from infoplane.cli import main

        shown, known = set(self.arguments[0].split()), set(main.commands)
        if shown != known:
            raise self.error(f"the page shows the commands {sorted(shown)}, and there are {sorted(known)}")
        return []


class StudyFacts(SphinxDirective):
    """{study} NAME"""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        study = _studies()[name]
        facts = nodes.container(classes=["study-facts"])
        command = f"infoplane study {name}" + (" --download" if "needs" in study.time else "")
        facts += nodes.literal_block(command, command, language="console")
        facts += paragraph(f"Source: {study.source}. Time on two cores: {study.time}.")
        text = ast.get_docstring(ast.parse(study.path.read_text(encoding="utf-8"))) or ""
        summary = "The docstring of the study: claim, expectation and outcome"
        said = [nodes.raw("", f'<details class="study"><summary>{summary}</summary>', format="html")]
        said += [paragraph(p.replace("\n", " ")) for p in text.split("\n\n")]
        said.append(nodes.raw("", "</details>", format="html"))
        return [facts, *said]


def setup(app: Any) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("registry", Registry)
    app.add_directive("command", Command)
    app.add_directive("all-commands", CheckCommands)
    app.add_directive("study", StudyFacts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
