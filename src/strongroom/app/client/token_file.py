"""`~/.vault-token`: where a login leaves the token for the next command, for its owner alone."""

import os
from pathlib import Path

from strongroom.app.home import home
from strongroom.app.token_helper import ask_helper, token_helper
from strongroom.model.errors import Unavailable
from strongroom.model.secret import Secret


def token_path() -> Path:
    """The file that Vault's own command line uses as well."""
    return home() / ".vault-token"


def store_token(token: Secret, path: Path | None = None) -> None:
    """Write it with mode 0600, whole or not at all; raises Unavailable(`token-file`).

    Where a token helper is named and no path is given, that one gets it and no file is written.
    """
    if path is None and (helper := token_helper()):
        ask_helper(helper, "store", token)
        return
    target = path or token_path()
    draft = target.with_name(target.name + ".new")
    try:
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(token.reveal())
        draft.replace(target)
    except OSError as error:
        raise Unavailable(
            "token-file", f"cannot write {target}: {error.strerror}", hint="use -no-store"
        ) from error
