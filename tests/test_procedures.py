"""What the documents tell an operator to do can be done: each procedure has a test, each command line is accepted."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from streamrec.cli.app import COMMANDS, load

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    "README.md",
    "SECURITY.md",
    "docs/guarantees.md",
    "docs/procedures.md",
    "docs/runbook.md",
    "docs/monitoring.md",
)
PROCEDURES = {
    section.split("\n", 1)[0]: section
    for section in re.split(r"^## ", (ROOT / "docs/procedures.md").read_text(), flags=re.MULTILINE)[1:]
}
NO_PROCEDURES = {"Try it"}
GUARANTEES = (ROOT / "docs/guarantees.md").read_text()


def command_lines():
    """Return every call of `streamrec` in code, with its document, without what a shell makes of the rest."""
    found = set()
    for name in DOCUMENTS:
        text = (ROOT / name).read_text()
        blocks = re.findall(r"```(?:\w*)\n(.*?)```", text, re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines()]
        lines += [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
        for line in lines:
            call = re.match(r"\s*(?:[A-Z_]+=\S+ )*streamrec ([a-z].*)", re.split(r"\s#|\s\(|[|;>]|`", line)[0])
            if call:
                found.add((name, call[1].strip()))
    return sorted(found)


def fault(command, arguments):
    """Have arguments parsed, down to the last subcommand, run nothing, and return what is wrong with them."""
    try:
        context = command.make_context(command.name, list(arguments))
    except typer.TyperException as error:
        # a line may name a command without what it asks for, as text does
        return "" if "Missing" in error.format_message() else error.format_message()
    except SystemExit:  # help, which groups print without arguments
        return ""
    rest = [*context._protected_args, *context.args]
    if not rest or not hasattr(command, "get_command"):
        return ""
    inner = command.get_command(context, rest[0])
    return f"no command {rest[0]}" if inner is None else fault(inner, rest[1:])


@pytest.mark.parametrize("title", sorted(PROCEDURES.keys() - NO_PROCEDURES))
def test_each_procedure_names_a_test_that_is_there(title):
    named = re.findall(r"`(tests/[\w/.]+)`", PROCEDURES[title])

    assert named
    assert all((ROOT / name).is_file() for name in named)


@pytest.mark.parametrize("row", re.findall(r"^\| (?!\*\*|-|guarantee)(.+) \|$", GUARANTEES, flags=re.MULTILINE))
def test_each_guarantee_names_tests_that_exist(row):
    named = re.findall(r"`(tests/[\w/.]+)`", row)

    assert named
    assert all((ROOT / name).exists() for name in named)


@pytest.mark.parametrize(("document", "line"), command_lines())
def test_each_command_line_of_the_documents_is_accepted(document, line):
    name, *arguments = shlex.split(line)
    assert name in COMMANDS, document
    assert fault(load(name), arguments) == "", document
