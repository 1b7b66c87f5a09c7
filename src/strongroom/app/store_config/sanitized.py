"""What a server may say of its configuration: addresses, kinds and times, never a credential.

Fields are those of Vault's `sys/config/state/sanitized`; only what is named here is shown.
"""

from typing import Any

from strongroom.app.store_config.settings import ListenerSetting, ServerSettings
from strongroom.app.store_config.sources import Stanza


def sanitized(settings: ServerSettings) -> dict[str, Any]:
    """The fields, from settings that hold more."""
    seals = [{"type": _kind(settings.seal), "disabled": False}]
    if settings.old_seal:
        seals.append({"type": _kind(settings.old_seal), "disabled": True})
    return {
        "api_addr": settings.api_addr,
        "cluster_addr": settings.cluster_addr,
        "default_lease_ttl": settings.default_ttl,
        "max_lease_ttl": settings.max_ttl,
        "default_max_request_duration": settings.request_seconds,
        "enable_ui": settings.ui,
        "log_level": settings.log_level,
        "log_format": settings.log_format,
        "workers": settings.workers,
        "listeners": [_listener(each) for each in settings.listeners],
        "seals": seals,
        "storage": {"type": settings.storage.named, "engine": settings.storage.engine},
        "audit": [{"type": each.type, "path": each.path} for each in settings.audit],
        "unsafe_allow_api_audit_creation": settings.api_audit,
    }


def _kind(seal: Stanza | None) -> str:
    if seal is None:
        return "shamir"
    return seal.labels[0] if seal.labels else str(seal.fields.get("type", ""))


def _listener(listener: ListenerSetting) -> dict[str, Any]:
    config: dict[str, Any] = {
        "address": str(listener.socket or f"{listener.host}:{listener.port}"),
        "tls_disable": listener.tls is None,
        "max_request_size": listener.body_bytes,
    }
    if "metrics" in listener.opens:
        config["telemetry"] = {"unauthenticated_metrics_access": True}
    if "in-flight" in listener.opens:
        config["profiling"] = {"unauthenticated_in_flight_request_access": True}
    if listener.tls:
        config["tls_min_version"] = listener.tls.minimum
    return {"type": "unix" if listener.socket else "tcp", "config": config}
