"""A stand-in for Kubernetes: its API for pods over HTTPS, and pods that are processes.

It speaks what the official client does when Parsl asks it to: create, read, list and delete pods,
and read their logs, with the errors, phases and container states of the real one. A pod is a
process in PID and mount namespaces of its own where that is allowed, in an "image": a directory
whose ``bin`` is first on its PATH. Its containers start again as their restart policy says, which
is "Always" where a pod names none.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import ipaddress
import json
import os
import secrets
import shlex
import signal
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.services.processes import (
    MarkedProcesses,
    Service,
    ServiceError,
    connects,
    free_ports,
    tails,
    wait_while_alive,
    write_private,
)

#: What a pod has of time between SIGTERM and SIGKILL; 30 s on a real cluster.
GRACE_S = 1.0
#: Before a container starts again; that doubles each time, up to the maximum. A real kubelet has
#: 10 s and 300 s.
BACK_OFF_S, MAX_BACK_OFF_S = 1.0, 30.0
LOOK_S = 0.1
#: So long a pod is pending while its container is created.
CREATING_S = 0.3
NODE_PATH = "/usr/local/bin:/usr/bin:/bin"


class KubernetesApi(Service):
    """A Kubernetes of one node, as tests use it.

    Parameters
    ----------
    directory
        Where its certificates, kubeconfig and logs are.
    images
        Directories of images, by name.
    hidden
        Directories that pods see empty, such as those of the client.
    """

    def __init__(
        self,
        directory: Path,
        *,
        images: dict[str, Path] | None = None,
        hidden: tuple[Path, ...] = (),
        namespace: str = "default",
    ) -> None:
        super().__init__(directory)
        self.images = {name: str(path) for name, path in (images or {}).items()}
        self.hidden = [str(path) for path in hidden]
        self.namespace = namespace
        self._processes = MarkedProcesses(self.directory)

    @property
    def kubeconfig(self) -> Path:
        """The configuration of a client."""
        return self.directory / "kubeconfig"

    @property
    def env(self) -> dict[str, str]:
        """What a client needs in its environment."""
        return {"KUBECONFIG": str(self.kubeconfig), "NO_PROXY": "127.0.0.1"}

    def _start(self) -> None:
        (port,) = free_ports(1)
        self._make_certificates()
        token = secrets.token_hex(16)
        settings = {
            "port": port,
            "token": token,
            "images": self.images,
            "hidden": self.hidden,
            "namespace": self.namespace,
        }
        write_private(self.directory / "settings.json", json.dumps(settings))
        write_private(self.kubeconfig, json.dumps(self._config(port, token)))
        log = self.directory / "api.log"
        command = [sys.executable, __file__, self.directory]
        env = {"PATH": NODE_PATH}
        self._processes.launch(command, env=env, output=log, cwd=self.directory)
        problem = wait_while_alive(lambda: connects(port), self._processes.found, 20)
        if problem:
            raise ServiceError(f"the Kubernetes API {problem}:\n{tails([log])}")

    def _stop(self) -> None:
        self._processes.kill()

    def _make_certificates(self) -> None:
        """A certificate authority that nobody knows but the kubeconfig, and one certificate."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        def named(name: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])

        now = dt.datetime.now(dt.timezone.utc)
        keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ca", "api")}
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        for name, key in keys.items():
            authority = name == "ca"
            builder = (
                x509.CertificateBuilder()
                .subject_name(named(name))
                .issuer_name(named("ca"))
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - dt.timedelta(days=1))
                .not_valid_after(now + dt.timedelta(days=1))
                .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
                .add_extension(
                    x509.AuthorityKeyIdentifier.from_issuer_public_key(keys["ca"].public_key()),
                    critical=False,
                )
                .add_extension(
                    x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
                )
            )
            if authority:
                usage = dict.fromkeys(
                    (
                        *("digital_signature", "content_commitment", "key_encipherment"),
                        *("data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
                    ),
                    False,
                )
                usage.update(key_cert_sign=True, crl_sign=True)
                builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
            else:
                builder = builder.add_extension(
                    x509.SubjectAlternativeName([loopback]), critical=False
                )
            certificate = builder.sign(keys["ca"], hashes.SHA256())
            text = certificate.public_bytes(serialization.Encoding.PEM)
            (self.directory / f"{name}.crt").write_bytes(text)
            private = key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            write_private(self.directory / f"{name}.key", private.decode())

    def _config(self, port: int, token: str) -> dict[str, Any]:
        authority = base64.b64encode((self.directory / "ca.crt").read_bytes()).decode()
        server = f"https://127.0.0.1:{port}"
        cluster = {"server": server, "certificate-authority-data": authority}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "stand-in", "cluster": cluster}],
            "users": [{"name": "tester", "user": {"token": token}}],
            "contexts": [
                {"name": "stand-in", "context": {"cluster": "stand-in", "user": "tester"}}
            ],
            "current-context": "stand-in",
        }

    # What tests do as users and administrators

    def _client(self) -> Any:
        from kubernetes import client, config

        return client.CoreV1Api(config.new_client_from_config(str(self.kubeconfig)))

    def jobs(self) -> dict[str, str]:
        """Tell the phases of the pods that are there, by name."""
        client = self._client()
        with client.api_client:
            pods = client.list_namespaced_pod(self.namespace).items
        return {pod.metadata.name: pod.status.phase for pod in pods}

    def cancel(self, job: str) -> None:
        """Delete a pod, as ``kubectl delete pod`` does."""
        client = self._client()
        with client.api_client:
            client.delete_namespaced_pod(job, self.namespace)

    def drain(self) -> None:
        """Place no further pods on the node until `resume`."""
        (self.directory / "cordoned").touch()

    def resume(self) -> None:
        """Place pods again."""
        (self.directory / "cordoned").unlink(missing_ok=True)


def time_text(seconds: float | None = None) -> str:
    """Write a time as Kubernetes does."""
    moment = dt.datetime.fromtimestamp(seconds or time.time(), dt.timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


class Pod:
    """One pod of one container, and the thread that lives its life."""

    def __init__(self, directory: Path, settings: dict[str, Any], asked: dict[str, Any]) -> None:
        self.name = asked["metadata"]["name"]
        self.asked = asked
        self.log = directory / f"{self.name}.log"
        self.gone = False
        self._cordoned = directory / "cordoned"
        self._settings = settings
        self._created = time_text()
        self._deleted_at: str | None = None
        self._phase = "Pending"
        self._placed = False
        self._state: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}
        self._last: dict[str, Any] = {}
        self._restarts = 0
        self._ending = threading.Event()
        threading.Thread(target=self._live, daemon=True).start()

    def delete(self) -> None:
        """Let it go."""
        self._deleted_at = self._deleted_at or time_text()
        self._ending.set()

    def _live(self) -> None:
        try:
            while self._cordoned.exists():
                if self._ending.wait(LOOK_S):
                    return
            self._placed = True
            policy = self.asked["spec"].get("restartPolicy", "Always")
            back_off_s = BACK_OFF_S
            if not self._pull():
                return
            while not self._ending.wait(CREATING_S):
                code, began = self._run()
                ended = {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}
                ended |= {"startedAt": time_text(began), "finishedAt": time_text()}
                if self._ending.is_set():
                    return
                if policy == "Never" or (policy == "OnFailure" and code == 0):
                    self._state = {"terminated": ended}
                    self._phase = "Succeeded" if code == 0 else "Failed"
                    self._ending.wait()
                    return
                self._last = {"terminated": ended}
                text = f"back-off {back_off_s:.0f}s restarting failed container"
                self._state = {"waiting": {"reason": "CrashLoopBackOff", "message": text}}
                self._ending.wait(back_off_s)
                back_off_s = min(2 * back_off_s, MAX_BACK_OFF_S)
                self._restarts += 1
        finally:
            self.gone = self._ending.is_set()

    def _pull(self) -> bool:
        image = self.asked["spec"]["containers"][0]["image"]
        if image in self._settings["images"]:
            return True
        text = f'Back-off pulling image "{image}"'
        self._state = {"waiting": {"reason": "ImagePullBackOff", "message": text}}
        self._ending.wait()
        return False

    def _run(self) -> tuple[int, float]:
        container = self.asked["spec"]["containers"][0]
        image = Path(self._settings["images"][container["image"]])
        env = {
            "PATH": f"{image}/bin:{NODE_PATH}",
            "HOME": "/root",
            "HOSTNAME": self.name,
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self._settings["port"]),
            **{pair["name"]: pair["value"] for pair in container.get("env") or ()},
        }
        command = [*container["command"], *container["args"]]
        began = time.time()
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                _isolated(command, self._settings["hidden"]),
                env=env,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._phase = "Running"
        self._state = {"running": {"startedAt": time_text()}}
        while process.poll() is None and not self._ending.wait(LOOK_S):
            pass
        if process.poll() is None:
            # The first process of a PID namespace has to care for SIGTERM; bash does not.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        return (code if code >= 0 else 128 - code), began

    def document(self) -> dict[str, Any]:
        """Return it as the API does."""
        container = self.asked["spec"]["containers"][0]
        metadata = {**self.asked["metadata"], "namespace": self._settings["namespace"]}
        metadata["creationTimestamp"] = self._created
        if self._deleted_at:
            metadata["deletionTimestamp"] = self._deleted_at
        status: dict[str, Any] = {"phase": self._phase}
        if not self._placed:
            text = "0/1 nodes are available: 1 node(s) were unschedulable."
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            status["conditions"] = [{**condition, "message": text}]
        else:
            status["containerStatuses"] = [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": "running" in self._state,
                    "restartCount": self._restarts,
                    "state": self._state,
                    "lastState": self._last,
                }
            ]
        spec = {"restartPolicy": "Always", **self.asked["spec"]}
        head = {"apiVersion": "v1", "kind": "Pod"}
        return {**head, "metadata": metadata, "spec": spec, "status": status}


def can_unshare() -> bool:
    """Tell whether processes can have namespaces of their own here."""
    command = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _isolated(command: list[str], hidden: list[str]) -> list[str]:
    if not can_unshare():
        return command
    mounts = "".join(f"mount -t tmpfs tmpfs {shlex.quote(path)} || exit 1\n" for path in hidden)
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*namespaces, "sh", "-c", f'{mounts}exec "$@"', "sh", *command]


class Refused(Exception):
    """An answer of the API that is an error."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
        self.document = {**status, "code": code, "reason": reason, "message": message}


class Cluster:
    """The pods, and what the API does with them."""

    def __init__(self, directory: Path, settings: dict[str, Any]) -> None:
        self.directory = directory
        self.settings = settings
        self._pods: dict[str, Pod] = {}
        self._lock = threading.Lock()

    def admit(self, authorization: str | None) -> None:
        """Refuse whoever has no token."""
        if authorization != f"Bearer {self.settings['token']}":
            raise Refused(401, "Unauthorized", "Unauthorized")

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        """Answer a request: status, and a document or a text."""
        url = urlsplit(target)
        parts = [*url.path.split("/")[1:], *[""] * 5]
        api, version, namespaces, namespace, pods, *rest = parts[:7]
        if (api, version, namespaces, pods) != ("api", "v1", "namespaces", "pods"):
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        if namespace != self.settings["namespace"]:
            verb = {"POST": "create", "GET": "get", "DELETE": "delete"}[method]
            raise Refused(
                403,
                "Forbidden",
                f'pods is forbidden: User "tester" cannot {verb} resource "pods" in API group "" '
                f'in the namespace "{namespace}"',
            )
        with self._lock:
            for name in [name for name, pod in self._pods.items() if pod.gone]:
                del self._pods[name]
            name, sub = rest[0], rest[1]
            if method == "POST":
                return 201, self._create(json.loads(body))
            if not name:
                selector = parse_qs(url.query).get("labelSelector", [""])[0]
                return 200, self._list(selector)
            if name not in self._pods:
                raise Refused(404, "NotFound", f'pods "{name}" not found')
            pod = self._pods[name]
            if method == "DELETE":
                pod.delete()
                return 200, pod.document()
            if sub == "log":
                return 200, pod.log.read_text(errors="replace") if pod.log.exists() else ""
            return 200, pod.document()

    def _create(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["metadata"]["name"]
        if name in self._pods:
            raise Refused(409, "AlreadyExists", f'pods "{name}" already exists')
        self._pods[name] = Pod(self.directory, self.settings, asked)
        return self._pods[name].document()

    def _list(self, selector: str) -> dict[str, Any]:
        key, _, value = selector.partition("=")
        items = [
            pod.document()
            for pod in self._pods.values()
            if not key or pod.asked["metadata"].get("labels", {}).get(key) == value
        ]
        return {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items}


def serve(directory: Path) -> None:
    """Serve the API until this process ends."""
    settings = json.loads((directory / "settings.json").read_text())
    cluster = Cluster(directory, settings)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                cluster.admit(self.headers.get("Authorization"))
                code, answer = cluster.answer(self.command, self.path, body)
            except Refused as refused:
                code, answer = refused.code, refused.document
            text = isinstance(answer, str)
            content = (answer if text else json.dumps(answer)).encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if text else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_DELETE = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", settings["port"]), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "api.crt", directory / "api.key")
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    server.serve_forever()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
