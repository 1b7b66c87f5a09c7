"""A way to a secret that somebody has: what "who could read it" is made of."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Reach:
    """`subject` (a `kind` such as ServiceAccount, User, Group, token, role) can read by `how`.

    `rule` cites what grants it. `direct` is False when another step lies between, such as making
    a pod that mounts the Secret.
    """

    kind: str
    subject: str
    how: str
    rule: str
    direct: bool = True

    @property
    def built_in(self) -> bool:
        """Whether Kubernetes brings the binding itself, for its own components."""
        return self.rule.startswith("ClusterRoleBinding system:")
