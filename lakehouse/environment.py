"""How the services written here read their settings from the environment.

It is copied into each service's image, so it imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Mapping


class SettingsError(ValueError):
    """The environment is wrong; the message is one sentence for the operator."""


def required(environment: Mapping[str, str], name: str) -> str:
    """Return a variable that must be there, without blanks around it; raises SettingsError where it is not."""
    if value := environment.get(name, "").strip():
        return value
    raise SettingsError(f"{name} is not set")


def number(environment: Mapping[str, str], name: str, default: str, *, at_most: int, at_least: int = 0) -> int:
    """Return a variable that is a whole number within bounds, `default` where it is not set; raises SettingsError."""
    text = environment.get(name, default).strip()
    if not (text.isascii() and text.isdigit()) or not at_least <= int(text) <= at_most:
        raise SettingsError(f"{name} is {text!r}; it is a whole number from {at_least} to {at_most}")
    return int(text)
