"""Escaping of untrusted text: no cursor movement, colours or changes of text direction."""

from __future__ import annotations

import re

_CONTROLS = (
    r"\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks, embeddings, overrides and isolates of direction
    r"\u2028\u2029\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # line separators, and invisible characters
    r"\ud800-\udfff"  # undecodable bytes of a command line or a file name
)
_ANY = re.compile(f"[{_CONTROLS}]")
_ANY_BUT_LINES = re.compile(rf"(?!\n)[{_CONTROLS}]")


def visible(text: str, *, lines: bool = False) -> str:
    r"""Return text with control characters escaped.

    Parameters
    ----------
    lines
        Whether to keep line breaks.

    Examples
    --------
    >>> visible("a\x1b[31mb\u202ec\nd")
    'a\\x1b[31mb\\u202ec\\nd'
    """
    if text.isascii() and text.isprintable():
        return text
    return (_ANY_BUT_LINES if lines else _ANY).sub(_code, text)


def visible_json(document: str) -> str:
    r"""Return a JSON document with control characters, which only occur in strings, as JSON escapes.

    Examples
    --------
    >>> visible_json('"\x9b31m"')
    '"\\u009b31m"'
    """
    return _ANY_BUT_LINES.sub(_json_code, document)


def _code(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _json_code(found: re.Match[str]) -> str:
    code = ord(found[0])
    return "".join(f"\\u{unit:04x}" for unit in _utf_16(code))


def _utf_16(code: int) -> tuple[int, ...]:
    if code < 0x1_0000:
        return (code,)
    return 0xD800 + ((code - 0x1_0000) >> 10), 0xDC00 + ((code - 0x1_0000) & 0x3FF)
