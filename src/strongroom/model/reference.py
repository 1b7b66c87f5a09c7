"""References to secrets: path plus version, the unit that rotation and audit speak of."""

from dataclasses import dataclass

from strongroom.model.digits import whole_number
from strongroom.model.errors import Invalid


@dataclass(frozen=True, slots=True, order=True)
class SecretRef:
    """`mount/path@version` of a versioned secret; version 0 means the current one."""

    mount: str
    path: str
    version: int = 0

    @property
    def api_path(self) -> str:
        """The KV v2 data path that the store's API and audit records use."""
        return f"{self.mount}/data/{self.path}"

    def __str__(self) -> str:
        return f"{self.mount}/{self.path}" + (f"@{self.version}" if self.version else "")


def parse_secret_ref(text: str, mount: str = "secret") -> SecretRef:
    """Read the forms users write: `prod/db`, `secret/prod/db`, `secret/data/prod/db`, `...@3`.

    A leading `mount/` is taken off, and a `data/` after it. Raises
    Invalid(`bad-reference`) when nothing or a bad version is left.
    """
    body, at, version = text.strip().strip("/").rpartition("@")
    if not at:
        body, version = version, "0"
    number = whole_number(version)
    if number is None:
        raise _bad(f"the version after @ must be a number: {text!r}")
    if body.startswith(f"{mount}/"):
        body = body[len(mount) + 1 :].removeprefix("data/")
    if not body:
        raise _bad(f"no path in {text!r}")
    return SecretRef(mount, body, number)


def _bad(what: str) -> Invalid:
    return Invalid("bad-reference", what, hint="write MOUNT/PATH or MOUNT/PATH@VERSION")
