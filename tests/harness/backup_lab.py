"""The provider's services that have to do with backups, as containers on a network of their own, without a cluster."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

from gameday.engine import Container, Engine, find_engine
from gameday.regions import Region
from gameday.waiting import wait_until
from lakehouse import provider
from lakehouse.backups.backup import Kind
from lakehouse.backups.hour import set_hour
from lakehouse.images import provider_image
from lakehouse.provider_services import start_service


@dataclass
class BackupLab:
    """A region that has a store of backups, and what a test begins beside it."""

    region: Region = field(default_factory=lambda: Region(f"lab{os.getpid() % 10**6}"))
    engine: Engine = field(default_factory=find_engine)

    def begin(self) -> None:
        """Make the network, and start the store of backups."""
        self.engine.call("network", "create", "--label", self.region.label, self.region.network)
        self.store()

    def store(self) -> Container:
        """Start the store of backups where it does not run."""
        return self._start(provider.backup_store(self.region.cluster, self._image, self._keys))

    def database(self, hour_s: float = 3600.0) -> Container:
        """Start the database, which takes a base backup at once."""
        keys = self.region.credentials()
        passwords = keys["postgres"], keys["console"], keys["backup"]
        database = self._start(provider.database(self.region.cluster, self._image, *passwords, self._keys))
        set_hour(self.engine, database.name, hour_s)
        return database

    def vectors(self) -> Container:
        """Start the object store, whose bucket `vectors` is copied."""
        return self._start(provider.object_store(self.region.cluster, self._image, self._keys))

    def customer(self, hour_s: float = 3600.0) -> Container:
        """Start the customer's machine, which copies at once."""
        customer = self._start(provider.customer_copy(self.region.cluster, self._image, self._keys))
        set_hour(self.engine, customer.name, hour_s)
        return customer

    def connect(self, database: str = provider.DATABASE) -> psycopg.Connection:
        """Return a connection to a database, as its owner."""
        (container,) = self.engine.inspect(f"{self.region.cluster}-postgres")
        password = self.region.credentials()["postgres" if database == provider.DATABASE else "console"]
        return psycopg.connect(
            host=container.address, dbname=database, user=database, password=password, autocommit=True
        )

    def in_store(self, *command: str) -> str:
        """Run a command where the store's buckets are folders, and return what it printed."""
        return self.engine.call("exec", "--workdir", "/data", f"{self.region.cluster}-backup-store", *command)

    def await_backup(self, kind: Kind, count: int = 1, deadline_s: float = 60.0) -> None:
        """Wait until there are so many backups of a kind."""

        def look() -> str | None:
            found = kind.backups()
            return None if len(found) >= count else f"there are {len(found)}"

        wait_until(f"{count} backups of {kind.name}", look, deadline_s=deadline_s)

    @contextmanager
    def spoilt(self, path: str, *command: str) -> Iterator[None]:
        """Spoil a file of the store by a command that is given its path, and put it right again."""
        self.in_store("cp", "--archive", path, "/saved")
        try:
            self.in_store(*command, path)
            yield
        finally:
            self.in_store("mv", "/saved", path)

    def end(self) -> None:
        """Remove all that was begun."""
        self.engine.remove(*(item.name for item in self.region.services(self.engine)))
        self.engine.call("network", "rm", self.region.network)
        shutil.rmtree(self.region.folder, ignore_errors=True)

    @property
    def _image(self) -> str:
        return provider_image(self.engine)

    @property
    def _keys(self) -> provider.Keys:
        keys = self.region.credentials()
        return provider.Keys(keys["object_store_key"], keys["object_store_secret"])

    def _start(self, service: provider.ProviderService) -> Container:
        return start_service(self.region, self.engine, service)
