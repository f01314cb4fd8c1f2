"""What is wrong with the settings, in the words of whoever sets them: variables, with a value that works."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from streamrec.environment import variable_name
from streamrec.errors import SettingsError


def example(field: str, fields: Mapping[str, FieldInfo]) -> str:
    """Return the variable of a field with a value that works."""
    examples = fields[field].examples or [""]
    return f"{variable_name(field)}={examples[0]}"


def missing(field: str, fields: Mapping[str, FieldInfo]) -> SettingsError:
    """Return the error that an address is not set."""
    return SettingsError(
        f"{variable_name(field)} is not set (example: {example(field, fields)}); "
        "`streamrec up` starts local servers and needs none"
    )


def explain(error: ValidationError, fields: Mapping[str, FieldInfo]) -> str:
    """Return which variables have wrong values and why, in one line that shows none of these values."""
    lines = []
    for fault in error.errors(include_input=False, include_url=False):
        field = str(fault["loc"][0])
        if field not in fields:
            lines.append(f"{field}: no such setting")
            continue
        message = fault["msg"].removeprefix("Value error, ")
        lines.append(f"{variable_name(field)}: {message[0].lower()}{message[1:]} (example: {example(field, fields)})")
    return "; ".join(lines)
