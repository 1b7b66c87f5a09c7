"""What a KV v2 secret becomes when it is written, deleted, undeleted or destroyed. Pure.

Rules: https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from strongroom.model.clock import rfc3339
from strongroom.model.errors import Invalid
from strongroom.store.call import go_duration, parse_flag, parse_seconds, whole_number
from strongroom.store.engine.contract import KvMetadata, KvVersionInfo

MAX_DIGITS: Final = 9
DEFAULT_MAX_VERSIONS: Final = 10
NOTHING_SET: Final[Mapping[str, Any]] = {
    "max_versions": 0, "cas_required": False, "delete_version_after": 0, "custom_metadata": {},
}  # fmt: skip
CUSTOM_FAILED: Final = "custom_metadata validation failed"
CUSTOM_KEYS, CUSTOM_KEY_BYTES, CUSTOM_VALUE_BYTES = 64, 128, 512


class KvSettings(Struct, frozen=True):
    """A mount's settings: 0 versions means the default, 0 seconds never.

    A negative `delete_version_after` switches it off for every secret of the mount.
    """

    max_versions: int = 0
    cas_required: bool = False
    delete_version_after: int = 0

    def as_data(self) -> dict[str, Any]:
        """The form the API shows."""
        return {
            "max_versions": self.max_versions,
            "cas_required": self.cas_required,
            "delete_version_after": go_duration(self.delete_version_after),
        }


def check_cas(old: KvMetadata | None, settings: KvSettings, options: Any) -> None:  # noqa: ANN401
    """Refuse a write whose `cas` is not the current version; raises Invalid."""
    if options is not None and not isinstance(options, dict):
        raise Invalid("bad-options", "options must be an object")
    cas = (options or {}).get("cas")
    if cas is None:
        if settings.cas_required or (old is not None and old.cas_required):
            raise Invalid("cas-required", "check-and-set parameter required for this call")
        return
    try:
        wanted = whole_number(cas)
    except ValueError:
        raise Invalid("bad-cas", "error parsing check-and-set parameter") from None
    if wanted != (old.current_version if old else 0):
        raise Invalid(
            "cas-mismatch",
            "check-and-set parameter did not match the current version",
            hint=f"the current version is {old.current_version if old else 0}",
        )


def with_new_version(old: KvMetadata, settings: KvSettings, now: float) -> KvMetadata:
    """The secret with one more version; the oldest beyond the limit are gone."""
    number = old.current_version + 1
    entry = KvVersionInfo(number, now, deleted=_deletion(old, settings, now))
    keep = max(old.max_versions, settings.max_versions) or DEFAULT_MAX_VERSIONS
    versions = (*old.versions, entry)[-keep:]
    return replace(
        old,
        updated=now,
        current_version=number,
        oldest_version=versions[0].version if versions[0].version > 1 else 0,
        versions=versions,
    )


def _deletion(old: KvMetadata, settings: KvSettings, now: float) -> float | None:
    """When a version that begins to live now is deleted: the shorter of the two settings."""
    if settings.delete_version_after < 0:
        return None
    both = (old.delete_version_after, settings.delete_version_after)
    if both == (0, 0):
        return None
    after = min((each for each in both if each > 0), default=0)
    return now + after if after else None


def with_deleted(
    old: KvMetadata,
    numbers: Iterable[int],
    now: float,
    settings: KvSettings,  # noqa: ARG001 - the shape of a change
) -> KvMetadata:
    """The secret with versions deleted; what is gone already stays as it is."""
    chosen = set(numbers)
    return _changed(
        old,
        now,
        [
            replace(each, deleted=now, by_request=True)
            if each.version in chosen and not each.destroyed and not is_deleted(each, now)
            else each
            for each in old.versions
        ],
    )


def with_undeleted(
    old: KvMetadata, numbers: Iterable[int], now: float, settings: KvSettings
) -> KvMetadata:
    """The secret with versions back, for a full `delete_version_after` from now on.

    Destroyed ones stay destroyed.
    """
    chosen, until = set(numbers), _deletion(old, settings, now)
    return _changed(
        old,
        now,
        [
            replace(each, deleted=until, by_request=False)
            if each.version in chosen and not each.destroyed
            else each
            for each in old.versions
        ],
    )


def with_destroyed(
    old: KvMetadata,
    numbers: Iterable[int],
    now: float,
    settings: KvSettings,  # noqa: ARG001 - the shape of a change
) -> KvMetadata:
    """The secret with the values of versions gone for good."""
    chosen = set(numbers)
    return _changed(
        old,
        now,
        [
            replace(each, destroyed=True) if each.version in chosen else each
            for each in old.versions
        ],
    )


def _changed(old: KvMetadata, now: float, versions: list[KvVersionInfo]) -> KvMetadata:
    if tuple(versions) == old.versions:
        return old
    return replace(old, updated=now, versions=tuple(versions))


def is_deleted(info: KvVersionInfo, now: float) -> bool:
    """Whether somebody has deleted it, or its time has come.

    The clock of who deleted it may be ahead of this one, or this one was stepped back since.
    """
    return info.by_request or (info.deleted is not None and info.deleted <= now)


def version_data(info: KvVersionInfo, custom: Mapping[str, str]) -> dict[str, Any]:
    """The `metadata` of a read or write."""
    return {
        "created_time": rfc3339(info.created),
        "custom_metadata": dict(custom) or None,
        "deletion_time": "" if info.deleted is None else rfc3339(info.deleted),
        "destroyed": info.destroyed,
        "version": info.version,
    }


def metadata_data(row: KvMetadata) -> dict[str, Any]:
    """What a read of `metadata/` shows."""
    return {
        "cas_required": row.cas_required,
        "created_time": rfc3339(row.created),
        "current_version": row.current_version,
        "custom_metadata": dict(row.custom) or None,
        "delete_version_after": go_duration(row.delete_version_after),
        "max_versions": row.max_versions,
        "oldest_version": row.oldest_version,
        "updated_time": rfc3339(row.updated),
        "versions": {
            str(each.version): {
                "created_time": rfc3339(each.created),
                "deletion_time": "" if each.deleted is None else rfc3339(each.deleted),
                "destroyed": each.destroyed,
            }
            for each in row.versions
        },
    }


def with_settings(
    old: KvMetadata, data: Mapping[str, Any], now: float, *, merge: bool
) -> KvMetadata:
    """The secret with the settings of a `metadata/` write; `merge` keeps other custom keys.

    In a merge null is what no setting is (RFC 7396). Raises Invalid for one that cannot be.
    """
    if merge:
        gone_names = {name for name in NOTHING_SET if name in data and data[name] is None}
        data = {**data, **{name: NOTHING_SET[name] for name in gone_names}}
        if "custom_metadata" in gone_names:
            old = replace(old, custom={})
    custom = dict(old.custom)
    if "custom_metadata" in data:
        given = _custom(data["custom_metadata"])
        kept = custom if merge else {}
        gone = {key for key, value in given.items() if merge and value is None}
        added = {key: _text(value) for key, value in given.items() if key not in gone}
        _check_custom(added)
        custom = {key: value for key, value in {**kept, **added}.items() if key not in gone}
        _check_count(custom)
    return replace(
        old,
        updated=now,
        custom=custom,
        max_versions=_number(data, "max_versions", old.max_versions),
        cas_required=parse_flag(data.get("cas_required", old.cas_required), "cas_required"),
        delete_version_after=_duration(data, old.delete_version_after),
    )


def _duration(data: Mapping[str, Any], default: int) -> int:
    value = parse_seconds(data.get("delete_version_after"), "delete_version_after", default)
    if value < 0:
        raise Invalid("bad-parameter", f"cannot provide negative value '{value}'")
    return value


def _number(data: Mapping[str, Any], name: str, default: int) -> int:
    value = data.get(name, default)
    if isinstance(value, str) and value.isascii() and value.isdigit():
        # Command lines send text.
        value = int(value) if len(value) <= MAX_DIGITS else -1
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Invalid("bad-parameter", f"{name} must be a whole number")
    return value


def _custom(value: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Invalid("bad-custom-metadata", "custom_metadata must be a map of strings")
    return value


def _text(value: Any) -> str:  # noqa: ANN401 - JSON
    """Vault takes numbers and booleans for strings here; nested values it refuses."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, str | int | float):
        return str(value)
    if value is None:
        return ""
    raise Invalid("bad-custom-metadata", f"{CUSTOM_FAILED}: expected type 'string'")


def _check_count(custom: Mapping[str, str]) -> None:
    if len(custom) > CUSTOM_KEYS:
        raise Invalid(
            "bad-custom-metadata",
            f"{CUSTOM_FAILED}: payload must contain at most {CUSTOM_KEYS} keys,"
            f" provided {len(custom)}",
        )


def _check_custom(custom: Mapping[str, str]) -> None:
    """Every problem at once, without a value in the text."""
    _check_count(custom)
    problems = []
    for key, value in custom.items():
        if not 0 < len(key.encode()) <= CUSTOM_KEY_BYTES:
            problems.append(
                f"length of key {key[:CUSTOM_KEY_BYTES]!r} is {len(key.encode())}"
                f" but must be 0 < len(key) <= {CUSTOM_KEY_BYTES}"
            )
        elif not 0 < len(value.encode()) <= CUSTOM_VALUE_BYTES:
            problems.append(
                f"length of value for key {key!r} is {len(value.encode())}"
                f" but must be 0 < len(value) <= {CUSTOM_VALUE_BYTES}"
            )
        if not (key + value).isprintable():
            problems.append(f"the entry {key!r} contains unprintable characters")
    if problems:
        raise Invalid("bad-custom-metadata", f"{CUSTOM_FAILED}: " + "; ".join(problems))


def merge_patch(target: Any, patch: Any) -> Any:  # noqa: ANN401 - JSON
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def leaves_hidden(value: dict[str, Any], depth: int) -> dict[str, Any]:
    """The keys of a secret with every leaf null, down to `depth` levels (0: all).

    A map without keys is a leaf, unless it is the whole secret.
    """
    if depth == 1:
        return dict.fromkeys(value)
    return {
        key: leaves_hidden(each, depth - 1 if depth else 0)
        if isinstance(each, dict) and each
        else None
        for key, each in value.items()
    }
