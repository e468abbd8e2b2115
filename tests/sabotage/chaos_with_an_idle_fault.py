"""`chaos` as ever, but for a zone power loss that says it was carried out and does nothing; for a test."""

from __future__ import annotations

from chaostoolkit.commands import cli

from faults.actions import FAULTS
from faults.zone_power import ZonePowerLoss
from gameday.session import Session


class IdleFault(ZonePowerLoss):
    """Everything of the real one but the injection."""

    def inject(self, session: Session, zones: list[str]) -> None:
        """Do nothing, and say nothing of it."""


FAULTS[IdleFault.name] = IdleFault()
cli()
