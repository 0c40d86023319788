"""A network of its own, in which the hosts of the documentation's examples exist.

``unshare --net --mount python -m integration.contexts_town DIRECTORY`` runs the commands that come
on stdin, a JSON object each, and answers each with what became of it. There, example.com,
git.example.com, registry.example.com and the clouds' own names are this machine, by /etc/hosts,
with certificates of a CA in DIRECTORY; nothing of it is seen outside.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import trustme

from tests.serving import Handler, Server
from tests.web_server import Request, _backend

WEB, REGISTRY = "127.0.0.1", "127.0.0.2"
NAMES = (
    "example.com",
    "git.example.com",
    "account.blob.core.windows.net",
    "bucket.s3.us-east-1.amazonaws.com",
    "s3.us-east-1.amazonaws.com",
    "storage.googleapis.com",
)
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
TOKEN = "a-token-that-nobody-sees"
_ALLOWED = {
    f"Bearer {TOKEN}",
    *(
        f"Basic {base64.b64encode(pair.encode()).decode()}"
        for pair in (f"ci:{TOKEN}", f"x-access-token:{TOKEN}")
    ),
}


class _Site(Handler):
    """Serves DIRECTORY/files by host and path, and DIRECTORY/repositories by git's own program."""

    server: Server[Path]

    def _serve(self) -> None:
        host = self.headers.get("host", "").partition(":")[0]
        path = unquote(self.path.partition("?")[0])
        allowed = {text.lower() for text in _ALLOWED}
        given = self.headers.get("authorization", "").lower()
        if "/private" in path and given not in allowed:
            self._answer(401, b"who are you?", {"WWW-Authenticate": 'Basic realm="town"'})
            return
        if host == "git.example.com":
            size = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(size)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, f"/git{self.path}", headers, body)
            answer = _backend(replace(request), body, self.server.state / "repositories")
            self._answer(answer.status, answer.body, dict(answer.headers))
            return
        file = self.server.state / "files" / host / path.lstrip("/")
        if not file.is_file():
            self._answer(404, b"", {})
            return
        said = {"ETag": '"one"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
        data = file.read_bytes()
        match = _RANGE.fullmatch(self.headers.get("range", ""))
        if match is None:
            self._answer(200, data, said)
            return
        start, last = int(match[1]), min(int(match[2]), len(data) - 1)
        said["Content-Range"] = f"bytes {start}-{last}/{len(data)}"
        self._answer(206, data[start : last + 1], said)

    do_GET = do_HEAD = do_POST = _serve  # noqa: N815 - http.server's names

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _bound(directory: Path, name: str, text: str) -> None:
    """Let /etc/NAME have *text*, here."""
    file = directory / name
    file.write_text(text)
    subprocess.run(["mount", "--bind", file, f"/etc/{name}"], check=True)


def _prepare(directory: Path) -> None:
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    # sshd wants a directory of its own in there.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    hosts = [f"{WEB} localhost", *(f"{WEB} {name}" for name in NAMES)]
    _bound(directory, "hosts", "\n".join([*hosts, f"{REGISTRY} registry.example.com", ""]))
    shell = shutil.which("git-shell")
    user = f"git:x:0:0::{directory / 'repositories'}:{shell}\n"
    _bound(directory, "passwd", Path("/etc/passwd").read_text() + user)


def _web(directory: Path, certificate: trustme.LeafCert, stack: ExitStack) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    server: Server[Path] = Server((WEB, 443), _Site)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.state = directory
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stack.callback(server.shutdown)


def _registry(directory: Path, certificate: trustme.LeafCert, stack: ExitStack) -> None:
    pem, key = directory / "registry.pem", directory / "registry.key"
    certificate.cert_chain_pems[0].write_to_path(pem)
    certificate.private_key_pem.write_to_path(key)
    config = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "registry")}},
        "http": {"addr": f"{REGISTRY}:443", "tls": {"certificate": str(pem), "key": str(key)}},
    }
    path = directory / "registry.json"
    path.write_text(json.dumps(config))
    _started(["docker-registry", "serve", str(path)], stack)
    _await(REGISTRY, 443)


def _sshd(directory: Path, stack: ExitStack) -> None:
    program = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    if program is None:
        return
    Path("/run/sshd").mkdir()
    key = directory / "host_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    settings = {
        "Port": "22",
        "ListenAddress": WEB,
        "HostKey": key,
        "PidFile": "none",
        "UsePAM": "no",
        "StrictModes": "no",
        "PermitRootLogin": "yes",
        "PasswordAuthentication": "no",
        "AuthorizedKeysFile": directory / "keys" / "id_ed25519.pub",
    }
    path = directory / "sshd_config"
    path.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    _started([program, "-D", "-f", str(path)], stack)
    _await(WEB, 22)


def _await(host: str, port: int) -> None:
    for _ in range(500):
        with suppress(ConnectionRefusedError), socket.create_connection((host, port)):
            return
        time.sleep(0.02)
    raise RuntimeError(f"nobody listens on {host}:{port}")


def _started(command: list[str], stack: ExitStack) -> None:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)


def main() -> None:
    directory = Path(sys.argv[1])
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    _prepare(directory)
    with ExitStack() as stack:
        _web(directory, authority.issue_cert(*NAMES), stack)
        _registry(directory, authority.issue_cert("registry.example.com"), stack)
        _sshd(directory, stack)
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            wanted = json.loads(line)
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", wanted["command"]],
                env=wanted["environment"],
                cwd=wanted["directory"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=120,
            )
            said = [stream.decode(errors="replace") for stream in (done.stdout, done.stderr)]
            print(json.dumps([done.returncode, *said]), flush=True)


if __name__ == "__main__":
    main()
