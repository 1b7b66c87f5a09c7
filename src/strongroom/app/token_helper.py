"""A token helper: a program that keeps the token in place of `~/.vault-token`.

Vault's users name one in `~/.vault` (or the file of VAULT_CONFIG_PATH) to have the token in the
keyring of their desktop. It is called with `get`, `store` or `erase`; the token travels by its
standard input and output. Form: https://developer.hashicorp.com/vault/docs/commands/token-helper.
"""

import os
import subprocess
from pathlib import Path

from strongroom.app.home import home
from strongroom.model.errors import Invalid, Unavailable
from strongroom.model.secret import Secret


def token_helper() -> Path | None:
    """The program that is named, or None; raises Invalid(`bad-config`) for a file that says less.

    It is an absolute path, so that nobody's folder on PATH gets the token.
    """
    named = os.environ.get("VAULT_CONFIG_PATH")
    source = Path(named) if named else home() / ".vault"
    if not named and not source.is_file():
        return None
    # Loaded for those who have such a file alone.
    from strongroom.access.hcl import Attribute, parse

    try:
        items = parse(source.read_text(), code="bad-config").items
    except OSError as error:
        raise Invalid("bad-config", f"cannot read {source}: {error.strerror}") from None
    except (UnicodeDecodeError, Invalid):
        raise Invalid(
            "bad-config", f"{source} cannot be read", hint='token_helper = "/usr/local/bin/helper"'
        ) from None
    said = [each.value for each in items if isinstance(each, Attribute)
            and each.name == "token_helper"]  # fmt: skip
    if not said or not said[-1]:
        return None
    helper = Path(str(said[-1])).expanduser()
    if not helper.is_absolute():
        raise Invalid("bad-config", f"{source}: token_helper is the whole path of a program")
    return helper


def ask_helper(helper: Path, verb: str, token: Secret | None = None) -> str:
    """What it says to `get`, `store` or `erase`; raises Unavailable(`token-helper`)."""
    try:
        done = subprocess.run(
            [helper, verb], input=token.reveal() if token else b"", capture_output=True, check=False
        )
    except OSError as error:
        why = str(error.strerror)
    else:
        if done.returncode == 0:
            return done.stdout.decode().strip()
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = words[-1] if words else f"status {done.returncode}"
    raise Unavailable(
        "token-helper",
        f"the token helper {helper} failed at {verb}: {why}",
        hint="VAULT_TOKEN or -token-file goes before it; ~/.vault names it",
    )
