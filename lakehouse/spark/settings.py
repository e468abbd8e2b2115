"""What a replica of the submission service is told by its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


class SettingsError(ValueError):
    """The environment is wrong; the message is one sentence for the operator."""


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
        bucket=_required(environment, "SPARK_JOBS_BUCKET"),
        s3_endpoint=_required(environment, "SPARK_JOBS_S3_ENDPOINT"),
        s3_region=environment.get("SPARK_JOBS_S3_REGION", "us-east-1"),
        s3_access_key=_required(environment, "AWS_ACCESS_KEY_ID"),
        s3_secret_key=_required(environment, "AWS_SECRET_ACCESS_KEY"),
        catalogue_uri=_required(environment, "SPARK_JOBS_CATALOGUE_URI"),
        namespace=_required(environment, "POD_NAMESPACE"),
        replica=_required(environment, "POD_NAME"),
        port=_number(environment, "SPARK_JOBS_PORT", "8182", at_most=65535),
        drain_s=float(_number(environment, "SPARK_JOBS_DRAIN_SECONDS", "3", at_most=600)),
        defaults=_properties(environment.get("SPARK_JOBS_DEFAULTS", "")),
        image=environment.get("SPARK_JOBS_IMAGE", "").strip(),
    )


def _required(environment: Mapping[str, str], name: str) -> str:
    if value := environment.get(name, "").strip():
        return value
    raise SettingsError(f"{name} is not set")


def _number(environment: Mapping[str, str], name: str, default: str, *, at_most: int) -> int:
    text = environment.get(name, default).strip()
    if not (text.isascii() and text.isdigit()) or int(text) > at_most:
        raise SettingsError(f"{name} is {text!r}; it is a whole number from 0 to {at_most}")
    return int(text)


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
