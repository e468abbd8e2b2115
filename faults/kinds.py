"""What a fault is: an object that knows whether it is available, breaks, proves that it broke, and heals."""

from __future__ import annotations

from typing import Any, Protocol

from gameday.session import Session


class Fault(Protocol):
    """One kind of fault; all functions take the zones it is aimed at."""

    name: str

    def available(self, session: Session, zones: list[str]) -> str | None:
        """Return None where the fault can be injected now, else the reason why not."""

    def inject(self, session: Session, zones: list[str]) -> None:
        """Break it; raises HarnessError where that did not work."""

    def in_effect(self, session: Session, zones: list[str]) -> dict[str, Any] | None:
        """Return the proof, by a read that does not go through what injected it; None where it is not in effect."""

    def heal(self, session: Session, zones: list[str]) -> None:
        """Mend it and wait until that is usable again; does nothing where nothing is broken. Raises DeadlinePassed."""
