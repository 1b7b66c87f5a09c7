"""What to do about an error of the store: a line under Vault's words, which say only what it was.

The sentences are told apart as Vault and this store write them. Pure.
"""

import re
from collections.abc import Sequence
from typing import Final

from strongroom.model.errors import Refusal

LOG_IN: Final = "there is no token: strongroom login, or set VAULT_TOKEN"
LOG_IN_AGAIN: Final = "the token is not valid here, or is no longer: strongroom login"
NO_RIGHT: Final = (
    "the token's policies do not allow it: strongroom token capabilities PATH says what they do,"
    " -output-policy what is needed"
)
UNTRUSTED: Final = (
    "-ca-cert (VAULT_CACERT) names the authority that signed it, -tls-server-name"
    " (VAULT_TLS_SERVER_NAME) the name that it is for"
)
IS_IT_THE_STORE: Final = (
    "is the address (-address, VAULT_ADDR) the store's, and does no proxy or login page answer for"
    " it?"
)
# In the place of a store's sentences, where a web page or another program has answered.
NO_STORES: Final = "this is no answer of a store"
SEALED: Final = "strongroom status says what it waits for; strongroom operator unseal"
_OF_TIME: Final = re.compile(r"certificate (has expired|is not yet valid)")
# What a sentence of the store contains, and what to do.
_SAID: Final[tuple[tuple[str, str], ...]] = (
    ("no handler for route", "strongroom secrets list and auth list name what is mounted"),
    (
        "not found in the catalog: ",
        "strongroom secrets enable -h and auth enable -h name the types",
    ),
    ("path is already in use", "another path is needed, of enable by -path=OTHER"),
    ("no such namespace", "leave -namespace out, and VAULT_NAMESPACE unset"),
    ("unsupported path", "strongroom path-help MOUNT lists the paths of a mount"),
    ("wrapping token is not valid", "it can be used once and not for long: ask for a new one"),
    ("already initialized", "strongroom status says whether it is sealed"),
    ("check-and-set parameter", "read it again and name its version: -cas=N"),
    ("Vault is not initialized", "strongroom operator init"),
    (NO_STORES, IS_IT_THE_STORE),
)


# What to do where a request was sent and no answer came, by what its path begins with.
_UNANSWERED: Final[tuple[tuple[str, str], ...]] = (
    (
        r"sys/init",
        "strongroom status says whether it is initialized; if it was not before and is now, its"
        " keys were in the answer that was lost, and nobody has them: begin again with an empty"
        " store",
    ),
    (r"sys/(unseal|seal)", "strongroom status says how many keys it has, and whether it is sealed"),
    (
        r"sys/(rekey|rekey-recovery-key|generate-root)/",
        "ask with -status whether it goes on; if not, it may be done, and what it made was in the"
        " answer that was lost",
    ),
    (
        r"sys/wrapping/(unwrap|rewrap)",
        "ask once more; a wrapping token that is not valid by then was used up: ask for a new one",
    ),
    (
        r"auth/token/create",
        "there may be a token that nobody has: until it ends, strongroom list auth/token/accessors"
        " has it too",
    ),
    (r"auth/.+/(login|callback)(/|$)", "log in again: if a token was made, it ends unused"),
)
_LOOK: Final = "it may be done: look (strongroom kv get, read, list) before you do it again"


def unanswered(path: str, said: str) -> str:
    """A hint for a request that may have been done, whose answer did not come.

    What was `said` of it is kept where it is that the address may want TLS.
    """
    from strongroom.wire.client import NOT_PLAIN

    hint = next((hint for start, hint in _UNANSWERED if re.match(start, path)), _LOOK)
    return f"{hint}; if nothing is ever answered: {said}" if said == NOT_PLAIN else hint


def hint_for(status: int, errors: Sequence[str], *, has_token: bool) -> str:
    """A hint for a reply's status and sentences, or ""."""
    if status == 503 and any("sealed" in each for each in errors):
        return SEALED
    # A bad token is named as one, or by one bare sentence where the server is older; what policies
    # deny comes in a list of errors.
    if status == 403 and any("permission denied" in each for each in errors):
        if not has_token:
            return LOG_IN
        bad = list(errors) == ["permission denied"] or any("invalid token" in e for e in errors)
        return LOG_IN_AGAIN if bad else NO_RIGHT
    for sentence, hint in _SAID:
        if any(sentence in each for each in errors):
            return hint
    return ""


# What a reply of the store comes to, where a command asks it for what it needs itself.
_REFUSED: Final[dict[str, str]] = {
    "store-denied": "the token has ended, or its policies do not allow it: strongroom token lookup,"
    " strongroom token capabilities PATH",
    "store-not-found": "is the path right? strongroom kv list; --mount names another engine",
}


def hint_of(refusal: Refusal) -> str:
    """A refusal's own hint, or what the command line has for it."""
    if "its certificate is not trusted" in refusal.message and not _OF_TIME.search(refusal.message):
        return UNTRUSTED
    if refusal.code == "store-unavailable" and "sealed" in refusal.message:
        return SEALED
    return refusal.hint or _REFUSED.get(refusal.code, "")
