"""Step 5: a new password, evidence that everybody moved, and only then the end of the old."""

from strongroom.app.dev.bed import Bed
from strongroom.app.dev.evidence import Evidence
from strongroom.app.dev.steps.store import PATH


async def show_rotate(bed: Bed) -> Evidence:
    """The plan, then the rotation."""
    plan = await bed.cli("rotate", PATH, "--field", "password", "--dry-run")
    done = await bed.cli("rotate", PATH, "--field", "password", "--timeout", "60s")
    steps = [line for line in done if line.startswith("  ") and line.lstrip()[:2] not in _NUMBERS]
    return Evidence(
        "Rotate: the old version ends when nobody holds it",
        "The dry run names every holder and how it is known. The rotation writes the new version,"
        " waits until the Secret and the agent both show it, and then deletes the old ones.",
        (
            f"$ strongroom rotate {PATH} --dry-run",
            *plan,
            f"$ strongroom rotate {PATH}",
            *steps,
        ),
    )


_NUMBERS = tuple(f"{number}." for number in range(1, 10))
