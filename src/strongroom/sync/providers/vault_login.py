"""The logins of a Vault store: a function of a client that gives a token and its seconds.

Fields: https://external-secrets.io/latest/provider/hashicorp-vault/#authentication.
Paths: https://developer.hashicorp.com/vault/api-docs/auth.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from strongroom.model.secret import Secret
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.references import References, Surroundings
from strongroom.wire.vault import VaultClient

# In this order the other controller looks for a login, and for an identity within one.
PRECEDENCE: Final = (
    "tokenSecretRef", "appRole", "kubernetes", "ldap", "userPass", "jwt", "cert", "iam", "gcp",
)  # fmt: skip
ALTERNATIVES: Final = {
    "appRole": ("roleId", "roleRef"),
    "kubernetes": ("serviceAccountRef", "secretRef"),
    "jwt": ("secretRef", "kubernetesServiceAccountToken"),
}
# A token from a Secret is read again after this time, so that a replaced one is taken up.
REREAD_SECONDS: Final = 600
# What is posted, made anew for each login.
Body = Callable[[], Awaitable[dict[str, Any]]]
# A login gives a token and the seconds it lives, 0 for ever.
Login = Callable[[VaultClient], Awaitable[tuple[Secret, float]]]


def login_of(auth: Fields, references: References, around: Surroundings) -> Login:
    """The login of `spec.provider.vault.auth`; raises Invalid for none or a bad one."""
    kinds = {
        "tokenSecretRef": _token,
        "appRole": _app_role,
        "kubernetes": _kubernetes,
        "ldap": _user_pass,
        "userPass": _user_pass,
        "jwt": _jwt,
        "cert": _cert,
    }
    kind = kind_of(auth)
    if kind in ("iam", "gcp"):
        # What signs for the clouds takes longer to load than the rest of the provider.
        from strongroom.sync.providers.vault_cloud_login import gcp_login, iam_login

        clouds = {"iam": iam_login, "gcp": gcp_login}
        return _posting(*clouds[kind](auth.needed(kind), references, around))
    return kinds[kind](auth.needed(kind), references)


async def no_login(client: VaultClient) -> tuple[Secret, float]:  # noqa: ARG001 - nobody to ask
    """Of a store without `auth`: a proxy before the server gives each request its token."""
    return Secret(""), 0


def kind_of(auth: Fields) -> str:
    """The login that is meant: of several the first, as it is for the other controller."""
    return auth.first_of(*PRECEDENCE)


def passed_over(auth: Fields) -> tuple[str, ...]:
    """A sentence for each choice between alternatives, of which one alone should be given. Pure."""
    kind = kind_of(auth)
    choices: list[tuple[Fields, tuple[str, ...]]] = [(auth, PRECEDENCE)]
    if kind in ALTERNATIVES:
        choices.append((auth.needed(kind), ALTERNATIVES[kind]))
    return tuple(said for part, names in choices for said in part.passed_over(*names))


def _posting(path: str, body: Body) -> Login:
    async def login(client: VaultClient) -> tuple[Secret, float]:
        result = await client.login(f"auth/{path}", await body())
        return result.token, result.lease_duration

    return login


def _token(part: Fields, references: References) -> Login:
    async def login(client: VaultClient) -> tuple[Secret, float]:  # noqa: ARG001 - nobody to ask
        return Secret(await references.text(part, "token")), REREAD_SECONDS

    return login


def _app_role(part: Fields, references: References) -> Login:
    mount, secret = part.text("path", "approle"), part.needed("secretRef")
    # An empty roleId is none.
    role = None if part.text("roleId") else part.needed("roleRef")

    async def body() -> dict[str, Any]:
        role_id = await references.text(role) if role else part.required("roleId")
        return {"role_id": role_id, "secret_id": await references.text(secret)}

    return _posting(f"{mount}/login", body)


def _kubernetes(part: Fields, references: References) -> Login:
    mount, role = part.text("mountPath", "kubernetes"), part.required("role")
    one = part.first_of(*ALTERNATIVES["kubernetes"], default="own")
    source = part if one == "own" else part.needed(one)
    if one == "own":
        references.lend(part)

    async def body() -> dict[str, Any]:
        if one == "secretRef":
            return {"role": role, "jwt": await references.text(source, "token")}
        if one == "own":
            return {"role": role, "jwt": references.own_token().reveal_text()}
        # Without audiences of its own a token is asked for the store alone.
        wanted = () if source.texts("audiences") else ("vault",)
        jwt = await references.account_token(source, wanted)
        return {"role": role, "jwt": jwt.reveal_text()}

    return _posting(f"{mount}/login", body)


def _jwt(part: Fields, references: References) -> Login:
    mount, role = part.text("path", "jwt"), part.text("role")
    one = part.first_of(*ALTERNATIVES["jwt"])
    source = part.needed(one)
    account = source.needed("serviceAccountRef") if one != "secretRef" else None
    audiences = source.texts("audiences") or ("vault",)
    seconds = source.number("expirationSeconds", 600)

    async def body() -> dict[str, Any]:
        if account is None:
            jwt = await references.text(source, "jwt")
        else:
            jwt = (await references.account_token(account, audiences, seconds)).reveal_text()
        return {"jwt": jwt} | ({"role": role} if role else {})

    return _posting(f"{mount}/login", body)


def _user_pass(part: Fields, references: References) -> Login:
    kind = part.where.rpartition(".")[2]
    mount, user = part.text("path", kind.lower()), part.required("username")
    secret = part.needed("secretRef")

    async def body() -> dict[str, Any]:
        return {"password": await references.text(secret, "password")}

    return _posting(f"{mount}/login/{user}", body)


def _cert(part: Fields, references: References) -> Login:  # noqa: ARG001 - TLS has it
    role = part.text("vaultRole")

    async def body() -> dict[str, Any]:
        return {"name": role} if role else {}

    return _posting(f"{part.text('path', 'cert')}/login", body)
