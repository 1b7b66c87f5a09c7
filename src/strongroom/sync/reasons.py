"""Every condition type, condition reason and Event reason that is written, with its remedy.

One table, which the documentation and the code are checked against. Most words are External
Secrets Operator's.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Reason:
    """A word that stands in a condition or an Event, and what to do about it."""

    word: str
    where: str
    meaning: str
    remedy: str = ""


def _condition(kind: str, word: str, meaning: str, remedy: str = "") -> Reason:
    return Reason(word, f"condition {kind}", meaning, remedy)


def _event(word: str, meaning: str, remedy: str = "") -> Reason:
    return Reason(word, "Event", meaning, remedy)


REASONS: Final = (
    _condition("Ready", "SecretSynced", "the Secret holds what the store holds, or held last"),
    _condition(
        "Ready",
        "SecretSyncedError",
        "the Secret could not be made right; it is left as it was",
        "read the message, or run `strongroom explain externalsecret NAMESPACE/NAME`",
    ),
    _condition("Ready", "SecretDeleted", "the store has none of it and deletionPolicy is Delete"),
    _condition(
        "Ready",
        "SecretMissing",
        "creationPolicy is Merge and there is no Secret to merge into",
        "create the Secret, or use CreateOrMerge",
    ),
    _condition("Ready", "ResourceSynced", "the same as SecretSynced for a target manifest"),
    _condition("Ready", "ResourceSyncedError", "the same as SecretSyncedError for a manifest"),
    _condition("Ready", "ResourceDeleted", "the same as SecretDeleted for a target manifest"),
    _condition("Ready", "ResourceMissing", "the same as SecretMissing for a target manifest"),
    _condition("Ready", "Valid", "the store was reached and lets us in"),
    _condition(
        "Ready", "InvalidProviderConfig", "the store's spec cannot be used", "read the message"
    ),
    _condition(
        "Ready", "InvalidStoreConfiguration", "the store's conditions cannot be used",
        "check namespaceRegexes and selectors",
    ),
    _condition(
        "Ready", "ValidationFailed", "the store was not reached, or refuses the login",
        "check the address, the role and the network policy",
    ),
    _condition(
        "Ready",
        "ValidationUnknown",
        "the store can be used, and cannot be checked beforehand or without a namespace",
    ),
    _condition("Ready", "Synced", "the PushSecret's values are at all its stores"),
    _condition("Ready", "Errored", "a value could not be pushed; nothing was deleted"),
    _condition("Ready", "SourceDeleted", "the source is gone, and what was pushed is taken back"),
    _condition(
        "Stale",
        "ProviderUnavailable",
        "the store does not answer; the last good value stays and Ready stays True",
        "repair the store; nothing has to be done here",
    ),
    _condition(
        "Stale", "ProviderThrottled", "the store asks us to come back later", "raise its limits"
    ),
    _condition(
        "Contended",
        "FightDetected",
        "another writer undoes every repair, of values, labels or annotations;"
        " repairs are stopped for a while",
        "let one of the two own the Secret; the message names the other",
    ),
    _event("Created", "the target was created"),
    _event("Updated", "the target was changed to what the store holds"),
    _event("Deleted", "the target was deleted, as its policy says or because it was orphaned"),
    _event("MissingProviderSecret", "a key of the store is not there, and the policy skips it"),
    _event(
        "ParameterDeprecated",
        "a field is used that the API's documentation warns of; it is served",
        "use what the message names",
    ),
    _event("UpdateFailed", "the target could not be made right", "read the message"),
    _event("DriftRepaired", "somebody changed the target; the Event names who, as far as known"),
    _event("DriftKept", "somebody changed a target with creationPolicy Orphan; it is not repaired"),
    _event("FightDetected", "repairs are undone again and again by the writer it names"),
    _event("Pushed", "a value was written to a store"),
    _event("PushedDeleted", "a value that was pushed before was taken back"),
)  # fmt: skip
WORDS: Final = frozenset(each.word for each in REASONS)
