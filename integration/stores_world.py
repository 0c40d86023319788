"""Object stores for our programs: moto's server for S3, azurite for Azure, and what breaks off.

Google has no emulator that asks who one is and speaks what is spoken here; ``tests.object_server``
stands for it, behind Google's own name.

    <world cache>/
    ├── azurite-3.35.0/    azurite with its node modules, by npm
    └── azurite-….lock     held while it is being fetched
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from filelock import FileLock

from integration.world import world_cache

_START_SECONDS = 60.0
_NPM_SECONDS = 300.0
# Runs with node 18, which is Debian's; the engines of some of its modules say more.
_AZURITE = "3.35.0"
_ACCOUNT = "devstoreaccount1"
# Azurite's own, which everybody knows.
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
AZURITE_HOST = f"{_ACCOUNT}.blob.core.windows.net"
_VERSION = "2021-12-02"
_DAY = 24 * 3600.0


# --- processes ------------------------------------------------------------------------------


@contextmanager
def _running(
    argv: list[str], log: Path, listening: str, env: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run a server until the block ends; yield what *listening* finds in what it writes."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            # Whatever ends us ends it.
            ["setpriv", "--pdeathsig=KILL", *argv],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env=os.environ | (env or {}),
        )
    try:
        yield _found(process, log, re.compile(listening))
    finally:
        process.kill()
        process.wait(_START_SECONDS)


def _found(process: subprocess.Popen[bytes], log: Path, listening: re.Pattern[str]) -> str:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        match = listening.search(log.read_text(errors="replace"))
        if match is not None:
            return match[1]
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"a server did not start:\n{log.read_text(errors='replace')}")


# --- Amazon ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Amazon:
    """Moto's services, which know who may do what.

    Attributes:
        url: of all services.
        environment: the keys of a user who may read everything, and where the services are.
        role: one that a web identity may have, and that may read everything.
    """

    url: str
    environment: Mapping[str, str]
    role: str

    def client(self, service: str, region: str = "eu-central-1") -> Any:
        """Return boto3's client for somebody who may do everything."""
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=region,
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
        )

    def admit_anybody(self, *, requests: int) -> None:
        """Let so many requests pass, whoever makes them; then everybody is asked who they are."""
        connection = HTTPConnection(urlsplit(self.url).netloc)
        connection.request("POST", "/moto-api/reset-auth", str(requests))
        assert connection.getresponse().status == 200
        connection.close()

    def put(self, bucket: str, key: str, data: bytes, **more: Any) -> None:
        """Keep an object; the bucket is made if need be."""
        client = self.client("s3")
        where = {"LocationConstraint": "eu-central-1"}
        with suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
        client.put_object(Bucket=bucket, Key=key, Body=data, **more)


@contextmanager
def running_amazon(directory: Path) -> Iterator[Amazon]:
    """Run Amazon's services for as long as the block lasts."""
    argv = [sys.executable, "-m", "moto.server", "--host=127.0.0.1", "--port=0"]
    listening = r"Running on (http://127\.0\.0\.1:\d+)"
    # Everybody may do everything until there is somebody who may.
    env = {"INITIAL_NO_AUTH_ACTION_COUNT": "1000"}
    with _running(argv, directory / "moto.log", listening, env) as url:
        yield _inhabited(url)


def _inhabited(url: str) -> Amazon:
    first = Amazon(url, {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}, "")
    iam = first.client("iam")
    everything = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
        }
    )
    iam.create_user(UserName="builder")
    iam.put_user_policy(UserName="builder", PolicyName="all", PolicyDocument=everything)
    key = iam.create_access_key(UserName="builder")["AccessKey"]
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    role = iam.create_role(RoleName="builder", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    iam.put_role_policy(RoleName="builder", PolicyName="all", PolicyDocument=everything)
    environment = {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }
    amazon = Amazon(url, environment, role)
    amazon.admit_anybody(requests=0)
    return amazon


# --- Azure ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Azure:
    """Azurite, with its one account.

    Attributes:
        address: host and port.
    """

    address: str

    @property
    def environment(self) -> dict[str, str]:
        """Return where the account is, without what opens it."""
        return {
            "AZURE_STORAGE_ACCOUNT": _ACCOUNT,
            "AZURE_STORAGE_ENDPOINT": f"http://{self.address}/{_ACCOUNT}",
            # There is none of Azure's metadata servers, and nobody should wait for it.
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:1",
        }

    @property
    def connection_string(self) -> str:
        """Return what Azure's own tools take for all of this."""
        url = f"http://{self.address}/{_ACCOUNT}"
        return f"AccountName={_ACCOUNT};AccountKey={AZURITE_KEY};BlobEndpoint={url};"

    def put(self, container: str, blob: str, data: bytes) -> None:
        """Keep a blob; the container is made if need be."""
        self._send("PUT", f"/{container}", {"restype": "container"}, b"", (201, 409))
        self._send("PUT", f"/{container}/{quote(blob)}", {}, data, (201,))

    def signature(self, container: str, blob: str) -> str:
        """Return a SAS that lets anybody read a blob for a day."""
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + _DAY))
        resource = f"/blob/{_ACCOUNT}/{container}/{blob}"
        fields = ["r", "", until, resource, "", "", "", _VERSION, "b", *[""] * 7]
        return urlencode(
            {"sv": _VERSION, "sr": "b", "sp": "r", "se": until, "sig": _hmac("\n".join(fields))}
        )

    def _send(
        self, method: str, path: str, query: dict[str, str], body: bytes, good: tuple[int, ...]
    ) -> None:
        own = {
            "x-ms-blob-type": "BlockBlob",
            "x-ms-date": formatdate(usegmt=True),
            "x-ms-version": _VERSION,
        }
        whole = f"/{_ACCOUNT}{path}"
        lines = [method, "", "", str(len(body) or ""), *[""] * 8]
        lines += [f"{name}:{value}" for name, value in sorted(own.items())]
        lines += [f"/{_ACCOUNT}{whole}", *(f"{name}:{value}" for name, value in query.items())]
        own["Authorization"] = f"SharedKey {_ACCOUNT}:{_hmac(chr(10).join(lines))}"
        connection = HTTPConnection(self.address)
        connection.request(method, f"{whole}?{urlencode(query)}", body, own)
        answer = connection.getresponse()
        assert answer.status in good, answer.read()
        connection.close()


def _hmac(text: str) -> str:
    digest = hmac.digest(base64.b64decode(AZURITE_KEY), text.encode(), "sha256")
    return base64.b64encode(digest).decode()


@contextmanager
def running_azure(directory: Path) -> Iterator[Azure]:
    """Run azurite for as long as the block lasts; skip the test where it cannot be had."""
    program = _azurite()
    argv = ["node", str(program), "--blobHost=127.0.0.1", "--blobPort=0"]
    argv += ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
    listening = r"successfully listens on http://(127\.0\.0\.1:\d+)"
    with _running(argv, directory / "azurite.log", listening) as address:
        yield Azure(address)


def _azurite() -> Path:
    """Return azurite's program, fetched if need be (about 30 seconds)."""
    directory = world_cache() / f"azurite-{_AZURITE}"
    program = directory / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("azurite needs node and npm, which are not installed (`make setup`)")
    with FileLock(f"{directory}.lock"):
        if not program.exists():
            _install(directory)
    return program


def _install(directory: Path) -> None:
    making = directory.with_suffix(".making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    # No scripts: nothing of what is fetched runs as whoever runs the tests, but for azurite.
    flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    try:
        done = subprocess.run(
            ["npm", "install", f"--prefix={making}", *flags, f"azurite@{_AZURITE}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=making,
            timeout=_NPM_SECONDS,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not fetch azurite in time")
    if done.returncode != 0:
        pytest.skip(f"npm cannot fetch azurite: {done.stderr.strip()[-300:]}")
    shutil.rmtree(directory, ignore_errors=True)
    making.rename(directory)


# --- connections that break off -------------------------------------------------------------


@dataclass
class Breaking:
    """A server in front of another one that breaks off large answers.

    Attributes:
        address: host and port.
        after: for each connection that is to break off: after how many bytes of the answer.
        broken: how many did.
    """

    address: str
    after: list[int] = field(default_factory=list)
    broken: int = 0


@contextmanager
def breaking(address: str, after: list[int]) -> Iterator[Breaking]:
    """Stand in front of *address*; an answer as long as the next of *after* is cut there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        state = Breaking(f"127.0.0.1:{listener.getsockname()[1]}", list(after))
        lock = threading.Lock()

        def cut(passed: int) -> bool:
            with lock:
                if not state.after or passed < state.after[0]:
                    return False
                state.after.pop(0)
                state.broken += 1
                return True

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    _relay(client, address, cut)

        threading.Thread(target=accept, daemon=True).start()
        yield state
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _relay(client: socket.socket, address: str, cut: Callable[[int], bool]) -> None:
    host, _, port = address.partition(":")
    server = socket.create_connection((host, int(port)))

    def forth() -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def back() -> None:
        passed = 0
        with suppress(OSError), client, server:
            while data := server.recv(1 << 16):
                passed += len(data)
                if cut(passed):
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(data)

    for direction in (forth, back):
        threading.Thread(target=direction, daemon=True).start()
