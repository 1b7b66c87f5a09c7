"""The plugin's HTTP page for probes and Prometheus; loaded where an address is configured alone.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

import hashlib
from typing import TYPE_CHECKING

import orjson

from strongroom.encrypt.kms.keeper import Keeper
from strongroom.encrypt.kms.metrics import KmsMetrics
from strongroom.encrypt.kms.standing import Standing
from strongroom.wire.http import Request, Response

if TYPE_CHECKING:
    from strongroom.wire.listener import Exchange


class HealthPage:
    """`/healthz` says that the process lives, `/readyz` that it may answer, `/metrics` all.

    `/keys` names the key ids this node can decrypt with, which `kms promote` asks of its peers.
    """

    def __init__(self, keeper: Keeper, metrics: KmsMetrics) -> None:
        self._keeper = keeper
        self._metrics = metrics

    def __call__(self, request: Request, exchange: "Exchange") -> None:
        path = request.target.partition("?")[0]
        pages = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics_page,
            "/keys": self._keys,
        }
        page = pages.get(path)
        if page is None or request.method not in ("GET", "HEAD"):
            exchange.reply(Response(404, b'{"errors":[]}'))
        else:
            exchange.reply(page())

    def _healthz(self) -> Response:
        return Response(200, b"ok\n", content_type="text/plain")

    def _readyz(self) -> Response:
        snapshot, report = self._keeper.snapshot, self._keeper.report
        good = snapshot.standing in (Standing.READY, Standing.COASTING)
        said = {
            "standing": snapshot.standing,
            "reason": snapshot.reason,
            "backends": report.backends,
            "offline_seconds": round(report.offline_seconds, 1),
            "memory_locked": self._metrics.memory_locked,
        }
        return Response(200 if good else 503, orjson.dumps(said))

    def _keys(self) -> Response:
        keks, report = self._keeper.snapshot.keks, self._keeper.report
        said = {
            "current": keks.current if keks else "",
            "pending": report.pending,
            "epoch": report.epoch,
            "decrypts": sorted(keks.ciphers) if keks else [],
        }
        return Response(200, orjson.dumps(said))

    def _metrics_page(self) -> Response:
        snapshot, report = self._keeper.snapshot, self._keeper.report
        lines = self._metrics.lines()
        lines.append("# TYPE strongroom_kms_standing gauge")
        lines += [
            f'strongroom_kms_standing{{standing="{each}"}} {int(each is snapshot.standing)}'
            for each in Standing
        ]
        lines.append("# TYPE strongroom_kms_backend_up gauge")
        lines += [
            f'strongroom_kms_backend_up{{backend="{name}"}} {int(up)}'
            for name, up in sorted(report.backends.items())
        ]
        lines += [
            "# TYPE strongroom_kms_offline_seconds gauge",
            f"strongroom_kms_offline_seconds {report.offline_seconds:.1f}",
            "# TYPE strongroom_kms_backend_rotated gauge",
            f"strongroom_kms_backend_rotated {len(report.drifted)}",
            "# TYPE strongroom_kms_state_epoch gauge",
            f"strongroom_kms_state_epoch {report.epoch}",
            "# TYPE strongroom_kms_memory_locked gauge",
            f"strongroom_kms_memory_locked {int(self._metrics.memory_locked)}",
        ]
        if snapshot.keks:
            # The form in which the API server's own metrics name a key id.
            hashed = hashlib.sha256(snapshot.keks.current.encode()).hexdigest()
            lines.append("# TYPE strongroom_kms_key_info gauge")
            lines.append(f'strongroom_kms_key_info{{key_id_hash="sha256:{hashed}"}} 1')
        body = ("\n".join(lines) + "\n").encode()
        return Response(200, body, content_type="text/plain; version=0.0.4")
