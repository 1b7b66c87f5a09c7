"""YAML as nodes, within a budget: a template writes the text, and one operator reads all of them.

Reading takes as long as there are nodes, so they are counted before they are made; what aliases
and merged maps stand for is charged as often as it stands there, for a few lines can mean more
than any machine holds.
"""

from typing import Any, Final

import yaml

from strongroom.template.budget import Budget, check_depth

# As libyaml, which Go's library is made after, reads it; in Python alone where it is not there.
Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
BYTES_IN_A_STEP: Final = 64 if hasattr(yaml, "CSafeLoader") else 1
# What it takes to read a node, in steps of a template.
NODE_STEPS: Final = 8


def check_nodes(text: str, budget: Budget) -> None:
    """Charge for reading a document; raises BudgetSpent, or YAMLError for what is no YAML.

    Before anything is made of it: libyaml takes as long as the square of its depth, and composing
    what is nested deep enough ends the process.
    """
    budget.step(len(text) // BYTES_IN_A_STEP)
    depth = 0
    for each in yaml.parse(text, Loader):
        budget.step(NODE_STEPS)
        if isinstance(each, yaml.CollectionStartEvent):
            depth += 1
            check_depth(depth)
        elif isinstance(each, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(each, yaml.DocumentEndEvent):
            # What comes after the first document nobody reads.
            return


def check_expanded(node: yaml.Node, budget: Budget, depth: int = 0) -> None:
    """Charge for all that a node stands for, aliases each time anew; raises BudgetSpent."""
    budget.step(NODE_STEPS)
    check_depth(depth)
    if isinstance(node, yaml.ScalarNode):
        budget.produce(len(node.value))
        return
    for each in node.value:
        for inner in each if isinstance(each, tuple) else (each,):
            check_expanded(inner, budget, depth + 1)
