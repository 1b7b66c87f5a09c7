"""A way to a secret that somebody has: what "who could read it" is made of."""

from dataclasses import dataclass
from typing import Final

# Whom the bindings are for that Kubernetes brings for its own components.
COMPONENTS: Final = ("system:kube-", "system:node", "kube-system/")


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
        """Whether Kubernetes brings the binding itself, for its own components.

        By its name alone anybody's binding would be taken for one.
        """
        named = self.rule.startswith("ClusterRoleBinding system:")
        return named and self.subject.startswith(COMPONENTS)
