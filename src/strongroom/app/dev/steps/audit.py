"""Step 6: every touch on one timeline, and how far a version is known."""

from strongroom.app.dev.bed import Bed
from strongroom.app.dev.evidence import Evidence
from strongroom.app.dev.steps.store import PATH


async def show_audit(bed: Bed) -> Evidence:
    """The timeline of the tour's own secret, and the exposure of its newest version."""
    logs = ("--store-log", str(bed.store_log), "--kube-log", str(bed.control.audit_log))
    timeline = await bed.cli("audit", "timeline", PATH, *logs)
    exposure = await bed.cli("audit", "exposure", PATH, *logs)
    return Evidence(
        "Audit: one timeline, and who could and did read",
        "The API server's log and the store's, joined by the id of the token. Exposure says who"
        " read the newest version, who could, and what no log shows.",
        (
            f"$ strongroom audit timeline {PATH} --store-log ... --kube-log ...",
            *timeline,
            f"$ strongroom audit exposure {PATH} --store-log ... --kube-log ...",
            *exposure,
        ),
    )
