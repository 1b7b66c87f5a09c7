"""The files of a new installation, for each way a control plane is run. Pure.

Sources: https://kubernetes.io/docs/tasks/administer-cluster/kms-provider/,
https://docs.k3s.io/cli/server, https://docs.rke2.io/reference/server_config,
https://www.freedesktop.org/software/systemd/man/systemd.exec.html.
"""

from dataclasses import dataclass, field
from typing import Final

CONFIG_DIR: Final = "/etc/strongroom"
STATE_DIR: Final = "/var/lib/strongroom"
RUN_DIR: Final = "/run/strongroom"
SOCKET: Final = f"{RUN_DIR}/kms.sock"
PROVIDER: Final = "strongroom"
ENCRYPTION: Final = f"{CONFIG_DIR}/encryption/encryption.yaml"
FLAGS: Final = (
    f"encryption-provider-config={ENCRYPTION}",
    "encryption-provider-config-automatic-reload=true",
)

EXECUTABLE: Final = "/usr/local/bin/strongroom"


@dataclass(frozen=True, slots=True)
class Cloud:
    """A managed control plane: its own commands, and what stays undone after them."""

    says: str
    commands: tuple[str, ...]
    left: tuple[str, ...]


# Sources: https://docs.aws.amazon.com/eks/latest/userguide/enable-kms.html,
# https://cloud.google.com/kubernetes-engine/docs/how-to/encrypting-secrets,
# https://learn.microsoft.com/azure/aks/kms-data-encryption and use-kms-etcd-encryption.
CLOUDS: Final = {
    "eks": Cloud(
        "EKS runs the API server and its KMS plugin itself; from 1.28 on everything is under a key"
        " that AWS owns. For a key of yours:",
        (
            "aws eks associate-encryption-config --cluster-name NAME --encryption-config"
            ' \'[{"resources":["secrets"],"provider":{"keyArn":"KEY_ARN"}}]\'',
            "aws eks describe-cluster --name NAME --query cluster.encryptionConfig",
        ),
        (
            "it cannot be taken back, and the key must never be disabled or deleted",
            "when AWS rotates the key's material nothing is rewritten, and nothing shows it",
        ),
    ),
    "gke": Cloud(
        "GKE runs its own plugin. For Secrets under a Cloud KMS key of yours:",
        (
            "gcloud container clusters update NAME --location LOCATION --database-encryption-key"
            " projects/P/locations/L/keyRings/R/cryptoKeys/K",
            "gcloud container clusters describe NAME --location LOCATION"
            " --format 'value(databaseEncryption)'",
        ),
        (
            "Secrets alone are covered, not ConfigMaps and not custom resources",
            "GKE rewrites when this is set, but not when the key is rotated later",
        ),
    ),
    "aks": Cloud(
        "AKS runs its own plugin. Up to 1.32, for Secrets under a Key Vault key of yours:",
        (
            "az aks update -g GROUP -n NAME --enable-azure-keyvault-kms"
            " --azure-keyvault-kms-key-id KEY_ID",
            "az aks show -g GROUP -n NAME --query securityProfile.azureKeyVaultKms",
        ),
        (
            "from 1.33 on use KMS data encryption instead, with platform- or customer-managed keys",
            "the key, the vault and the identity must not be deleted",
            "AKS rewrites nothing: Secrets from before stay as they are until they are written",
        ),
    ),
}
KINDS: Final = ("plain", "kubeadm", "k3s", "rke2")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person chooses. `image` for the static pod, `executable` for the systemd unit."""

    kind: str
    cluster: str = "default"
    image: str = "strongroom:latest"
    executable: str = EXECUTABLE
    escrow: bool = False


@dataclass(frozen=True, slots=True)
class Setup:
    """Files by name, and what to do with them, in order."""

    files: dict[str, str] = field(default_factory=dict)
    steps: tuple[str, ...] = ()


def encryption_configuration(*, writes: bool = True) -> str:
    """kms first; identity stays until everything is rewritten.

    Without `writes` it is behind identity: a server reads what is under the key, and writes none.
    """
    kms = f"""\
  - kms:
      apiVersion: v2
      name: {PROVIDER}
      endpoint: unix://{SOCKET}
      timeout: 3s
"""
    last = "  - identity: {}   # until strongroom encrypt prove holds; then remove it\n"
    first = "  - identity: {}   # until every API server has this file; then encryption.yaml\n"
    return f"""\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources:
  - secrets
  providers:
{kms + last if writes else first + kms}"""


def kms_configuration(cluster: str, *, escrow: bool = False) -> str:
    """A key file to begin with; other backends are added to the list."""
    safe = f"escrow:\n- {{name: escrow, public_key: {CONFIG_DIR}/escrow.pem}}\n" if escrow else ""
    return f"""\
socket: {SOCKET}
state: {STATE_DIR}/kms.json
provider: {PROVIDER}
cluster: {cluster}
listen: 127.0.0.1:8085
on_backend_loss: coast
max_offline_age: 72h
backends:
- {{name: key-file, type: key_file, path: {CONFIG_DIR}/kms.key}}
{safe}"""


def systemd_unit(executable: str = EXECUTABLE) -> str:
    """Before the kubelet, confined, memory that may be locked."""
    return f"""\
[Unit]
Description=Strongroom KMS v2 plugin for kube-apiserver
Documentation=https://kubernetes.io/docs/tasks/administer-cluster/kms-provider/
Before=kubelet.service k3s.service rke2-server.service
After=network.target

[Service]
Type=exec
ExecStart={executable} kms serve --config {CONFIG_DIR}/kms.yaml
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1
RuntimeDirectory=strongroom
RuntimeDirectoryMode=0750
RuntimeDirectoryPreserve=yes
StateDirectory=strongroom
StateDirectoryMode=0700
LimitMEMLOCK=infinity
LimitCORE=0
MemoryMax=256M
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
LockPersonality=yes
CapabilityBoundingSet=CAP_IPC_LOCK
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""


def static_pod(image: str) -> str:
    """The same as a static pod: host files only, nothing of the API it protects."""
    return f"""\
apiVersion: v1
kind: Pod
metadata:
  name: strongroom-kms
  namespace: kube-system
  labels: {{app.kubernetes.io/name: strongroom-kms}}
spec:
  hostNetwork: true
  priorityClassName: system-node-critical
  automountServiceAccountToken: false
  containers:
  - name: kms
    image: {image}
    imagePullPolicy: Never
    command: [strongroom, kms, serve, --config, {CONFIG_DIR}/kms.yaml]
    livenessProbe: {{httpGet: {{host: 127.0.0.1, port: 8085, path: /healthz}}, periodSeconds: 10}}
    resources: {{requests: {{cpu: 10m, memory: 64Mi}}, limits: {{memory: 256Mi}}}}
    securityContext:
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {{drop: [ALL], add: [IPC_LOCK]}}
    volumeMounts:
    - {{name: config, mountPath: {CONFIG_DIR}, readOnly: true}}
    - {{name: state, mountPath: {STATE_DIR}}}
    - {{name: run, mountPath: {RUN_DIR}}}
  volumes:
  - {{name: config, hostPath: {{path: {CONFIG_DIR}, type: Directory}}}}
  - {{name: state, hostPath: {{path: {STATE_DIR}, type: DirectoryOrCreate}}}}
  - {{name: run, hostPath: {{path: {RUN_DIR}, type: DirectoryOrCreate}}}}
"""


def _kubeadm_patch() -> str:
    args = "\n".join(
        f'  - {{name: {name}, value: "{value}"}}'
        for name, _, value in (flag.partition("=") for flag in FLAGS)
    )
    return f"""\
# to be merged into your ClusterConfiguration (kubeadm v1beta4)
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
apiServer:
  extraArgs:
{args}
  extraVolumes:
  - {{name: encryption, hostPath: {CONFIG_DIR}/encryption, mountPath: {CONFIG_DIR}/encryption, readOnly: true, pathType: Directory}}
  - {{name: kms, hostPath: {RUN_DIR}, mountPath: {RUN_DIR}, pathType: DirectoryOrCreate}}
"""  # noqa: E501 - lines of a file


def _server_config(kind: str) -> str:
    """A file of its own; the plus adds to lists that other files have."""
    args = "\n".join(f'- "{flag}"' for flag in FLAGS)
    mounts = ""
    if kind == "rke2":
        mounts = (
            "kube-apiserver-extra-mount+:\n"
            f'- "{CONFIG_DIR}/encryption:{CONFIG_DIR}/encryption:ro"\n- "{RUN_DIR}:{RUN_DIR}"\n'
        )
    path = f"/etc/rancher/{kind}/config.yaml.d/strongroom.yaml"
    return f"# {path}\nkube-apiserver-arg+:\n{args}\n{mounts}"


def setup(wanted: Wanted) -> Setup:
    """Everything for a kind of control plane; keys and their first wraps are not in here."""
    files = {
        "encryption.yaml": encryption_configuration(),
        "encryption-read.yaml": encryption_configuration(writes=False),
        "kms.yaml": kms_configuration(wanted.cluster, escrow=wanted.escrow),
        "strongroom-kms.service": systemd_unit(wanted.executable),
        "strongroom-kms-pod.yaml": static_pod(wanted.image),
    }
    command = wanted.executable
    keys = "kms.yaml kms.key" + (" escrow.pem" if wanted.escrow else "")
    put = "  install -m 0600"
    steps = [
        "copy this folder to every control-plane node, and in it there:",
        f"  install -d -m 0700 {CONFIG_DIR} {CONFIG_DIR}/encryption {STATE_DIR}",
        f"{put} {keys} {CONFIG_DIR}/",
        f"{put} kms.json {STATE_DIR}/",
        f"{put} encryption-read.yaml {ENCRYPTION}",
        "  install -m 0644 strongroom-kms.service /etc/systemd/system/",
        "  systemctl daemon-reload",
        "  systemctl enable --now strongroom-kms",
        f"  {command} kms status --config {CONFIG_DIR}/kms.yaml",
        "every node must name the same key id; where a node has the image, strongroom-kms-pod.yaml"
        " in the folder of static pods can take the place of the service",
        *_wiring(wanted.kind, files),
        "when every server runs with that, and not before, or those that do not yet could read no"
        " Secret: on every node this, which servers load within a minute",
        f"{put} encryption.yaml {ENCRYPTION}",
        "on one of the nodes, as root and with an administrator's kubeconfig:",
        f"  {command} encrypt check --config encryption.yaml --plugin-config kms.yaml --live",
        f"  {command} encrypt migrate --kms-socket {SOCKET} --api-server URL of each",
        f"  {command} encrypt prove --etcd URL --kms-socket {SOCKET}",
        "remove identity from encryption.yaml once the proof holds, on every node",
    ]
    return Setup(files, tuple(steps))


def _wiring(kind: str, files: dict[str, str]) -> list[str]:
    """How the API server is told, and the file for it."""
    if kind == "kubeadm":
        files["kubeadm.yaml"] = _kubeadm_patch()
        return [
            "merge kubeadm.yaml into your ClusterConfiguration (the ConfigMap kubeadm-config in"
            " kube-system has it), then node by node:",
            "  kubeadm init phase control-plane apiserver --config MERGED.yaml",
        ]
    if kind in ("k3s", "rke2"):
        files[f"{kind}-config.yaml"] = _server_config(kind)
        service = "k3s" if kind == "k3s" else "rke2-server"
        return [
            f"server by server: {kind}-config.yaml to /etc/rancher/{kind}/config.yaml.d/, then"
            f" systemctl restart {service}; do not use {kind}'s own secrets-encryption beside it",
        ]
    return ["server by server, start kube-apiserver with:", *(f"  --{flag}" for flag in FLAGS)]
