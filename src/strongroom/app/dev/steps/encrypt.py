"""Step 2: what lies in etcd is read, before and after."""

from strongroom.app.dev.bed import Bed
from strongroom.app.dev.evidence import Evidence
from strongroom.app.dev.manifests import NAMESPACE
from strongroom.encrypt.etcd import read_prefix
from strongroom.wire.client import HttpClient

NOT_PROVED = 3


async def show_encrypt(bed: Bed) -> Evidence:
    """A Secret from before, the plugin turned on, the proof that fails, the proof that holds."""
    _make(bed, "before")
    plain = await _stored(bed, "before")
    await bed.start_kms()
    await bed.control.restart_apiserver(bed.encryption())
    _make(bed, "after")
    sealed = await _stored(bed, "after")
    words = ["encrypt", "prove", "--etcd", bed.control.etcd_url]
    words += ["--kms-socket", str(bed.kms_socket), "--provider", "strongroom"]
    failed = await bed.cli(*words, expect=NOT_PROVED)
    listing = bed.control.kubectl("get", "secrets", "-A", "-o", "json")
    bed.control.kubectl("replace", "-f", "-", stdin=listing)
    proved = await bed.cli(*words)
    return Evidence(
        "Encrypt: proved by reading etcd",
        "One Secret was made before encryption was turned on, one after. The configuration is the"
        " usual one (kms, then identity), so the first stays readable, and in plain text. The"
        " proof reads every value, fails, and holds after one rewrite.",
        (
            f"etcd before: {plain}",
            f"etcd after:  {sealed}",
            f"$ strongroom encrypt prove --etcd {bed.control.etcd_url} --kms-socket ...",
            *failed,
            "$ kubectl get secrets -A -o json | kubectl replace -f -",
            "$ strongroom encrypt prove ...",
            *[line for line in proved if "PROVED" in line],
        ),
    )


def _make(bed: Bed, name: str) -> None:
    bed.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "stringData": {"note": "a tour of strongroom"},
        }
    )


async def _stored(bed: Bed, name: str) -> str:
    """The first bytes as they lie in etcd."""
    async with HttpClient() as http:
        prefix = f"/registry/secrets/{NAMESPACE}/{name}"
        async for _, value in read_prefix(http, bed.control.etcd_url, prefix):
            return repr(value[:44])[2:-1]
    return "nothing"
