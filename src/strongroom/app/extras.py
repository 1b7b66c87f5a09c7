"""Which extra of the distribution brings a package that a command needs and that is not there.

`pip install strongroom` alone is the agent's; every other part has an extra in pyproject.toml.
"""

from typing import Final

# What one extra alone brings, by the names that are imported.
OWN: Final = {
    "asyncpg": "postgres",
    "greenlet": "postgres",
    "bcrypt": "operator",
    "jsonpath": "operator",
    "re2": "operator",
    "spnego": "operator",
    "tzdata": "operator",
    "grpc": "kms",
    "jwt": "server",
    "pkcs11": "pkcs11",
    "wsproto": "server",
}
# What several bring: the command says which is meant.
SHARED: Final = frozenset(
    {"aiohttp", "cryptography", "httptools", "msgspec", "orjson", "rich", "uvloop", "yaml"}
)
# Of those, what `kms` does without.
NOT_IN_KMS: Final = frozenset({"msgspec", "uvloop"})
OF_COMMAND: Final = {
    "encrypt": "kms",
    "explain": "operator",
    "install": "operator",
    "kms": "kms",
    "operator": "operator",
    "sync": "operator",
    "template": "operator",
}


def extra_with(module: str, command: str) -> str:
    """The extra that brings a module to a command; "" for one that none of them brings."""
    package = module.partition(".")[0]
    if package in SHARED:
        extra = OF_COMMAND.get(command, "server")
        return "server" if extra == "kms" and package in NOT_IN_KMS else extra
    return OWN.get(package, "")
