"""What a replica of the submission service is told by its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lakehouse.environment import SettingsError, number, required


@dataclass(frozen=True)
class Settings:
    """Settings of one replica; `defaults` are the properties that every job of Spark begins with.

    `image` is the image of drivers and executors, empty where they run in that of the service.
    """

    bucket: str
    s3_endpoint: str
    s3_region: str
    s3_access_key: str
    s3_secret_key: str
    catalogue_uri: str
    namespace: str
    replica: str
    port: int
    drain_s: float
    defaults: Mapping[str, str] = field(default_factory=dict)
    image: str = ""


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Return what SPARK_JOBS_*, AWS_* and POD_* describe; raises SettingsError for one that is missing or wrong."""
    return Settings(
        bucket=required(environment, "SPARK_JOBS_BUCKET"),
        s3_endpoint=required(environment, "SPARK_JOBS_S3_ENDPOINT"),
        s3_region=environment.get("SPARK_JOBS_S3_REGION", "us-east-1"),
        s3_access_key=required(environment, "AWS_ACCESS_KEY_ID"),
        s3_secret_key=required(environment, "AWS_SECRET_ACCESS_KEY"),
        catalogue_uri=required(environment, "SPARK_JOBS_CATALOGUE_URI"),
        namespace=required(environment, "POD_NAMESPACE"),
        replica=required(environment, "POD_NAME"),
        port=number(environment, "SPARK_JOBS_PORT", "8182", at_most=65535),
        drain_s=float(number(environment, "SPARK_JOBS_DRAIN_SECONDS", "3", at_most=600)),
        defaults=_properties(environment.get("SPARK_JOBS_DEFAULTS", "")),
        image=environment.get("SPARK_JOBS_IMAGE", "").strip(),
    )


def _properties(text: str) -> dict[str, str]:
    """Return properties from lines of a name, blanks, and a value, as Spark's own file of defaults has them."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.strip().partition(" ")
        if name and not name.startswith("spark."):
            raise SettingsError(f"SPARK_JOBS_DEFAULTS has a line {line!r}; each is spark.NAME VALUE")
        if name:
            found[name] = value.strip()
    return found
