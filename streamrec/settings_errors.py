"""Error messages for settings, with variable names and valid example values."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from streamrec.environment import variable_name
from streamrec.errors import SettingsError


def example(field: str, fields: Mapping[str, FieldInfo]) -> str:
    """Return the variable of a field with a valid example value."""
    examples = fields[field].examples or [""]
    return f"{variable_name(field)}={examples[0]}"


def missing(field: str, fields: Mapping[str, FieldInfo]) -> SettingsError:
    """Return the error for a missing address."""
    return SettingsError(
        f"{variable_name(field)} is not set (example: {example(field, fields)}); "
        "`streamrec up` starts local servers and needs none"
    )


def explain(error: ValidationError, fields: Mapping[str, FieldInfo]) -> str:
    """Describe invalid variables in one line, without showing their values."""
    lines = []
    for fault in error.errors(include_input=False, include_url=False):
        field = str(fault["loc"][0])
        if field not in fields:
            lines.append(f"{field}: no such setting")
            continue
        message = fault["msg"].removeprefix("Value error, ")
        lines.append(f"{variable_name(field)}: {message[0].lower()}{message[1:]} (example: {example(field, fields)})")
    return "; ".join(lines)
