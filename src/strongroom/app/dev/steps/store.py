"""Step 1: a secret is written, encrypted, and recorded."""

import secrets

from strongroom.app.dev.bed import Bed
from strongroom.app.dev.evidence import Evidence
from strongroom.model.errors import Unavailable

PATH = "prod/db"
API_PATH = f"secret/data/{PATH}"


async def show_store(bed: Bed) -> Evidence:
    """Write a secret by the command line, then look for it on the disk."""
    password = secrets.token_urlsafe(18)
    said = await bed.cli(
        "kv", "put", f"secret/{PATH}", "username=shop", "password=-", stdin=password
    )
    files = [each for each in bed.folder.joinpath("store").iterdir() if each.is_file()]
    found = [each.name for each in files if password.encode() in each.read_bytes()]
    if found:
        raise Unavailable("plaintext", f"the value lies in plain text in {', '.join(found)}")
    record = next(
        line for line in reversed(bed.store_log.read_text().splitlines()) if API_PATH in line
    )
    return Evidence(
        "Store: written, encrypted, recorded",
        "The password went in by standard input. It is in none of the store's files in the clear,"
        " and the audit log has the request with a keyed hash in its place.",
        (
            f"$ strongroom kv put secret/{PATH} username=shop password=-",
            *said,
            f"$ grep -c PASSWORD {bed.folder}/store/*   # 0 of {len(files)} files",
            record[:240] + " ...",
        ),
    )
