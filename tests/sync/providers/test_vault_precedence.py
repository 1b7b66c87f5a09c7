"""Of several logins in one auth block the one counts that counts for the other controller."""

import pytest

from strongroom.model.errors import Invalid
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.vault_login import PRECEDENCE, kind_of, passed_over

USER = {"username": "u", "secretRef": {"name": "auth"}}
BLOCKS = {
    "tokenSecretRef": {"name": "auth"},
    "appRole": {"roleId": "r", "secretRef": {"name": "auth"}},
    "kubernetes": {"role": "r"},
    "ldap": USER,
    "userPass": USER,
    "jwt": {"secretRef": {"name": "auth"}},
    "cert": {"secretRef": {"name": "auth"}},
    "iam": {"vaultRole": "r"},
    "gcp": {"role": "r"},
}


def auth(**given: object) -> Fields:
    return Fields(given, "spec.provider.vault.auth")


def test_the_order_is_the_other_controllers() -> None:
    order = "tokenSecretRef appRole kubernetes ldap userPass jwt cert iam gcp"
    assert " ".join(PRECEDENCE) == order


@pytest.mark.parametrize("at", range(len(PRECEDENCE) - 1))
def test_an_earlier_login_goes_before_a_later_one(at: int) -> None:
    first, second = PRECEDENCE[at : at + 2]
    both = auth(**{second: BLOCKS[second], first: BLOCKS[first]})
    assert kind_of(both) == first
    assert passed_over(both) == (
        f"spec.provider.vault.auth has {second} besides {first}, which is used",
    )


@pytest.mark.parametrize("kind", PRECEDENCE)
def test_of_one_login_nothing_is_said(kind: str) -> None:
    assert kind_of(auth(**{kind: BLOCKS[kind]})) == kind
    assert passed_over(auth(**{kind: BLOCKS[kind]})) == ()


@pytest.mark.parametrize(
    ("kind", "given", "rest", "used"),
    [
        ("appRole", {"roleId": "r", "roleRef": {"name": "a"}}, "roleRef", "roleId"),
        (
            "kubernetes",
            {"serviceAccountRef": {"name": "a"}, "secretRef": {"name": "b"}},
            "secretRef",
            "serviceAccountRef",
        ),
        (
            "jwt",
            {"kubernetesServiceAccountToken": {}, "secretRef": {"name": "b"}},
            "kubernetesServiceAccountToken",
            "secretRef",
        ),
    ],
)
def test_alternatives_within_a_login_are_told(kind: str, given: dict, rest: str, used: str) -> None:
    assert passed_over(auth(**{kind: given})) == (
        f"spec.provider.vault.auth.{kind} has {rest} besides {used}, which is used",
    )


def test_an_empty_role_id_is_none() -> None:
    assert passed_over(auth(appRole={"roleId": "", "roleRef": {"name": "a"}})) == ()


def test_no_login_at_all_is_refused() -> None:
    with pytest.raises(Invalid, match="has none of: tokenSecretRef, appRole"):
        kind_of(auth())
