"""The API server's own metrics about encryption, from its `/metrics` text. Pure.

Names: kubernetes/apiserver pkg/server/options/encryptionconfig/metrics and
pkg/storage/value/metrics.go (all ALPHA).
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_LINE: Final = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
OPERATIONS: Final = "apiserver_storage_transformation_operations_total"
CONFIG_INFO: Final = "apiserver_encryption_config_controller_last_config_info"
RELOADS: Final = "apiserver_encryption_config_controller_automatic_reloads_total"
RELOAD_TIME: Final = (
    "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds"
)
STATUS_TIME: Final = "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds"
KEY_TIME: Final = "apiserver_envelope_encryption_key_id_hash_last_timestamp_seconds"
KEY_USES: Final = "apiserver_envelope_encryption_key_id_hash_total"
START_TIME: Final = "process_start_time_seconds"
# After a load the probes of the file before go on for twice the sum of its providers' timeouts, of
# three seconds each; those of the new one have just asked, and ask again after twenty seconds.
LINGERS_SECONDS: Final = 19.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One line."""

    name: str
    labels: Mapping[str, str]
    value: float


def parse(text: str) -> tuple[Sample, ...]:
    """The samples that are about encryption, and when the process started."""
    return tuple(_samples(text))


def _samples(text: str) -> Iterator[Sample]:
    for line in text.splitlines():
        if not any(word in line for word in ("encrypt", "transformation", START_TIME)):
            continue
        found = _LINE.match(line)
        if found:
            try:
                yield Sample(found[1], dict(_LABEL.findall(found[2] or "")), float(found[3]))
            except ValueError:
                continue


def of(samples: tuple[Sample, ...], name: str, **labels: str) -> list[Sample]:
    """Samples of a name with these labels."""
    return [
        each
        for each in samples
        if each.name == name
        and all(each.labels.get(label) == value for label, value in labels.items())
    ]


def started(samples: tuple[Sample, ...]) -> float | None:
    """When the server's process started, epoch seconds; None when its metrics do not say."""
    found = of(samples, START_TIME)
    return found[0].value if found else None


def loaded(samples: tuple[Sample, ...]) -> str:
    """The digest of the configuration that the server has loaded; "" when it does not say."""
    found = of(samples, CONFIG_INFO)
    return found[0].labels.get("hash", "") if found else ""


def key_hash(key_id: str) -> str:
    """How metrics name a key id."""
    return "sha256:" + hashlib.sha256(key_id.encode()).hexdigest()


def plaintext_writes(samples: tuple[Sample, ...], resource: str) -> float:
    """Writes that identity did; servers before 1.32 do not say of which resource."""
    found = of(samples, OPERATIONS, transformation_type="to_storage", transformer_prefix="")
    return sum(each.value for each in found if each.labels.get("resource", resource) == resource)


def identity_reads(samples: tuple[Sample, ...], resource: str) -> float:
    """Reads of values that were not encrypted."""
    found = of(
        samples, OPERATIONS, transformation_type="from_storage", transformer_prefix="identity"
    )
    return sum(each.value for each in found if each.labels.get("resource", resource) == resource)


def sealed_reads(samples: tuple[Sample, ...], resource: str) -> float:
    """Reads of values that were encrypted."""
    found = of(samples, OPERATIONS, transformation_type="from_storage", status="OK")
    return sum(
        each.value
        for each in found
        if each.labels.get("transformer_prefix", "").startswith("k8s:enc:")
        and each.labels.get("resource", resource) == resource
    )


def key_reads(samples: tuple[Sample, ...], provider: str, key_id: str) -> float:
    """Reads of values under a key of KMS v2; of any provider when none is named."""
    found = of(
        samples, KEY_USES, transformation_type="from_storage", key_id_hash=key_hash(key_id),
        **({"provider_name": provider} if provider else {}),
    )  # fmt: skip
    return sum(each.value for each in found)


def status_times(samples: tuple[Sample, ...], provider: str) -> dict[str, float]:
    """Key-id hash to the time the server last heard it from the plugin's Status.

    What it heard before it last loaded its file, or soon after, does not count: its counters
    outlive a provider that the new file has no longer, and for a while its probes do too.
    """
    loads = of(samples, RELOAD_TIME, status="success")
    since = max((each.value + LINGERS_SECONDS for each in loads), default=0.0)
    found = of(samples, STATUS_TIME, provider_name=provider)
    return {each.labels.get("key_id_hash", ""): each.value for each in found if each.value >= since}
