"""How a validator says no: why, and what to write instead."""

from __future__ import annotations


class Rejected(ValueError):
    """
    A value of `deploy.toml` that cannot be used.

    In *hint*, `{key}` stands for the name of the key. A *secret* value is never shown.
    """

    def __init__(self, why: str, hint: str, *, secret: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.hint = hint
        self.secret = secret


def printable(text: str, what: str, hint: str, *, secret: bool = False) -> str:
    """*text* itself, or Rejected when it is empty or holds a NUL or another control character."""
    if not text:
        raise Rejected(f"an empty {what}", hint, secret=secret)
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise Rejected(f"a control character in a {what}", hint, secret=secret)
    return text


def string(value: object, what: str, hint: str, *, secret: bool = False) -> str:
    """*value* where it is a printable string; Rejected otherwise."""
    if not isinstance(value, str):
        raise Rejected(f"not a string; {what} was expected", hint, secret=secret)
    return printable(value, what, hint, secret=secret)
