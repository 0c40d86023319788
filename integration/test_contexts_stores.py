"""Contexts in buckets, in real builds: moto for S3, azurite for Azure, our own for Google."""

from __future__ import annotations

import base64
import gzip
import io
import json
import random
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from integration import readers
from integration.clouds_world import Internet, running_internet
from integration.programs import Build, Finished, said
from integration.stores_world import (
    AZURITE_HOST,
    AZURITE_KEY,
    Amazon,
    Azure,
    breaking,
    running_amazon,
    running_azure,
)
from tests.object_server import Answer, Asked, ObjectServer, running_objects
from tests.repository import COMMITTED
from tests.serving import Handler, served

_DOCKERFILE = "FROM scratch\nCOPY file /copied\n"
# Nothing that fails here gets better by waiting.
_AT_ONCE = "--image-download-retry=0"
_LARGE = 40 << 20


def packed(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), COMMITTED
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def archive(content: bytes, dockerfile: str = _DOCKERFILE) -> bytes:
    return gzip.compress(packed({"Dockerfile": dockerfile.encode(), "file": content}), 1)


def content(build: Build, name: str = "copied") -> bytes:
    """Return the bytes of a file of the image."""
    with readers.unpacked(build.image) as root:
        return (root / name).read_bytes()


def run(
    build: Build, context: str, env: Mapping[str, str], *flags: str, check: bool = True
) -> Finished:
    where = () if context == "" else (f"--context={context}",)
    # Whatever shows a secret, shows it then.
    talk = ("--verbosity=trace",) if check else ()
    return build.programs.executor(
        *where, f"--destination={build.image}", *talk, *flags, env=env, check=check
    )


# --- S3 ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def amazon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Amazon]:
    with running_amazon(tmp_path_factory.mktemp("amazon")) as started:
        yield started


def test_context_in_s3_with_static_keys(build: Build, amazon: Amazon) -> None:
    amazon.put("team", "a/context.tar.gz", archive(b"of s3"))
    done = run(build, "s3://team/a/context.tar.gz", amazon.environment)

    assert content(build) == b"of s3"
    assert amazon.environment["AWS_SECRET_ACCESS_KEY"] not in done.written
    assert build.programs.leftovers() == []


def test_context_in_s3_with_a_web_identity(build: Build, amazon: Amazon, tmp_path: Path) -> None:
    """Moto gives keys for the role, but wants to know who asks; so the bucket is elsewhere."""

    def guard(asked: Asked) -> Answer | None:
        of_the_role = "Credential=ASIA" in asked.headers.get("authorization", "")
        return None if of_the_role and "x-amz-security-token" in asked.headers else Answer(403)

    token = tmp_path / "token"
    token.write_text("of-the-pod-hunter2")
    with running_objects() as store:
        store.add("bucket/irsa.tar.gz", archive(b"of a role"))
        store.guard = guard
        env = {
            "S3_ENDPOINT": store.url,
            "AWS_ENDPOINT_URL_STS": amazon.url,
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
            "AWS_ROLE_ARN": amazon.role,
            "AWS_REGION": "eu-central-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        refused = run(build, "s3://bucket/irsa.tar.gz", env, check=False)
        amazon.admit_anybody(requests=1)
        done = run(build, "s3://bucket/irsa.tar.gz", env)

    said(refused, "cannot fetch s3://bucket/irsa.tar.gz: no credentials", "web identity")
    assert content(build) == b"of a role"
    assert "hunter2" not in done.written + refused.written


def test_context_in_s3_with_a_profile(build: Build, amazon: Amazon) -> None:
    amazon.put("team", "context.tar.gz", archive(b"of a profile"))
    home = build.programs.directory / ".aws"
    home.mkdir()
    keys = amazon.environment
    (home / "credentials").write_text(
        f"[team]\naws_access_key_id = {keys['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {keys['AWS_SECRET_ACCESS_KEY']}\n"
    )
    (home / "config").write_text("[profile team]\nregion = eu-central-1\n")
    env = {
        "S3_ENDPOINT": amazon.url,
        "S3_FORCE_PATH_STYLE": "true",
        "AWS_PROFILE": "team",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    # No key: the usual one.
    run(build, "s3://team", env)

    assert content(build) == b"of a profile"


def test_context_at_amazons_own_address(build: Build, amazon: Amazon, tmp_path: Path) -> None:
    amazon.put("team", "named.tar.gz", archive(b"by name"))
    host = "team.s3.eu-central-1.amazonaws.com"
    with running_internet({host: amazon.url.removeprefix("http://")}) as internet:
        env = {**amazon.environment, **internet.environment(tmp_path)}
        del env["AWS_ENDPOINT_URL"]
        run(build, "s3://team/named.tar.gz", env)

    assert content(build) == b"by name"
    assert f"GET {host}/named.tar.gz" in internet.asked


def test_commands_run_in_what_came_from_a_bucket(
    build: Build, busybox: str, amazon: Amazon
) -> None:
    dockerfile = f"FROM {busybox}\nCOPY file /file\nRUN tr a-z A-Z </file >/copied\n"
    amazon.put("team", "run.tar.gz", archive(b"loud", dockerfile))
    run(build, "s3://team/run.tar.gz", amazon.environment)

    assert content(build) == b"LOUD"
    assert build.programs.leftovers() == []


def test_large_context_comes_in_parts_though_connections_break(
    build: Build, amazon: Amazon
) -> None:
    data = random.Random(7).randbytes(_LARGE)
    amazon.put("team", "large.tar.gz", archive(data))
    with breaking(amazon.url.removeprefix("http://"), [3 << 20, 1 << 20]) as proxy:
        env = {**amazon.environment, "AWS_ENDPOINT_URL": f"http://{proxy.address}"}
        run(build, "s3://team/large.tar.gz", env)

    assert proxy.broken == 2
    assert content(build) == data


def test_named_context_and_add_of_s3(build: Build, amazon: Amazon) -> None:
    amazon.put("team", "named.tar", packed({"inside": b"of an archive"}))
    amazon.put("team", "dir/plain file", b"as it is")
    build.fill(
        {
            "Dockerfile": "FROM scratch\nCOPY --from=code inside /inside\n"
            'ADD ["s3://team/dir/plain file", "/added/"]\nADD s3://team/named.tar /archive\n'
        }
    )
    build.programs.executor(
        *build.arguments, "--build-context=code=s3://team/named.tar", env=amazon.environment
    )

    assert content(build, "inside") == b"of an archive"
    assert content(build, "added/plain file") == b"as it is"
    assert content(build, "archive") == packed({"inside": b"of an archive"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "hunter2-hunter2"}, ("refuses the credentials", "env")),
        ({"AWS_ACCESS_KEY_ID": "AKIANOBODY"}, ("refuses the credentials", "not known there")),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, ("cannot reach 127.0.0.1:1", "S3_ENDPOINT")),
        ({"AWS_PROFILE": "nobody"}, ("no credentials", "nobody")),
    ],
)
def test_s3_that_refuses_says_so(
    build: Build, amazon: Amazon, change: dict[str, str], words: tuple[str, ...]
) -> None:
    amazon.put("team", "context.tar.gz", archive(b""))
    env = {**amazon.environment, **change}
    if "AWS_PROFILE" in change:
        del env["AWS_ACCESS_KEY_ID"]
    done = run(build, "s3://team/context.tar.gz", env, check=False)

    said(done, "s3://team/context.tar.gz", *words)
    assert env["AWS_SECRET_ACCESS_KEY"] not in done.written
    assert build.programs.leftovers() == []


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("s3://team/missing.tar.gz", "there is no object missing.tar.gz in the bucket team"),
        ("s3://nowhere/context.tar.gz", "there is no bucket nowhere at 127.0.0.1"),
    ],
)
def test_what_is_not_in_s3_is_told(build: Build, amazon: Amazon, address: str, words: str) -> None:
    amazon.put("team", "context.tar.gz", archive(b""))

    said(run(build, address, amazon.environment, check=False), address, words)


def test_damaged_context_is_not_built(build: Build) -> None:
    with running_objects() as store:
        # A checksum of other bytes than those that come.
        store.add("bucket/context.tar.gz", archive(b""), x_amz_checksum_crc32="AAAAAA==")
        env = {"S3_ENDPOINT": store.url, "AWS_EC2_METADATA_DISABLED": "true"}
        done = run(build, "s3://bucket/context.tar.gz", env, check=False)

    said(done, "s3://bucket/context.tar.gz was damaged on the way: its CRC-32 is")
    assert build.programs.leftovers() == []


# --- Google -------------------------------------------------------------------------------------

GOOGLE = "storage.googleapis.com"
TOKEN = "ya29.hunter2"


@dataclass
class Google:
    """Google's storage, which takes one token; its token service; and the metadata server."""

    address: str
    key: rsa.RSAPrivateKey = field(
        default_factory=lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )

    def key_file(self, path: Path) -> Path:
        """Write a service account's key, as Google gives it out."""
        pem = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        account = {
            "type": "service_account",
            "project_id": "project",
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": "builder@project.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": f"http://{self.address}/token",
        }
        path.write_text(json.dumps(account))
        return path

    def admits(self, assertion: str) -> bool:
        """Whether a JWT is of our account, and signed with its key."""
        signed, _, signature = assertion.rpartition(".")
        raw = base64.urlsafe_b64decode(signature + "==")
        try:
            self.key.public_key().verify(raw, signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        claims = json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))
        return bool(
            claims["iss"] == "builder@project.iam.gserviceaccount.com"
            and claims["aud"].endswith("/token")
            and claims["scope"].endswith("/auth/cloud-platform")
            and claims["exp"] > time.time()
        )


class _GoogleHandler(Handler):
    def do_GET(self) -> None:  # noqa: N802 - the library's name
        good = self.headers["Metadata-Flavor"] == "Google"
        self._answer(good and self.path.endswith("/service-accounts/default/token"))

    def do_POST(self) -> None:  # noqa: N802 - the library's name
        google: Google = self.server.state  # type: ignore[attr-defined]
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self._answer(google.admits(form["assertion"][0]))

    def _answer(self, good: bool) -> None:
        token = {"access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer"}
        body = json.dumps(token if good else {"error": "invalid_grant"}).encode()
        self.send_response(200 if good else 400)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def google() -> Iterator[Google]:
    with served(_GoogleHandler, Google) as started:
        yield started


@pytest.fixture
def bucket() -> Iterator[ObjectServer]:
    """A store with a bucket that wants Google's token."""

    def guard(asked: Asked) -> Answer | None:
        sent = asked.headers.get("authorization")
        return None if sent == f"Bearer {TOKEN}" else Answer(401, "AuthenticationRequired")

    with running_objects() as store:
        store.guard = guard
        store.add("bucket/context.tar.gz", archive(b"of google"))
        yield store


@pytest.fixture
def internet(bucket: ObjectServer) -> Iterator[Internet]:
    with running_internet({GOOGLE: bucket.address}) as running:
        yield running


def test_context_at_google_with_a_key_file(
    build: Build, google: Google, internet: Internet, tmp_path: Path
) -> None:
    key = google.key_file(tmp_path / "key.json")
    env = {**internet.environment(tmp_path), "GOOGLE_APPLICATION_CREDENTIALS": str(key)}
    done = run(build, "gs://bucket/context.tar.gz", env)

    assert content(build) == b"of google"
    assert TOKEN not in done.written and "PRIVATE KEY" not in done.written


@pytest.mark.parametrize("flag", ["--context=gs://bucket", "--bucket=bucket"])
def test_context_at_google_with_the_metadata_server(
    build: Build, google: Google, internet: Internet, tmp_path: Path, flag: str
) -> None:
    env = {**internet.environment(tmp_path), "GCE_METADATA_HOST": google.address}
    done = run(build, "", env, flag)

    assert content(build) == b"of google"
    assert TOKEN not in done.written


def test_google_that_wants_credentials_says_so(
    build: Build, internet: Internet, tmp_path: Path
) -> None:
    env = {**internet.environment(tmp_path), "GCE_METADATA_HOST": "127.0.0.1:1"}
    done = run(build, "gs://bucket/context.tar.gz", env, check=False)

    said(done, "gs://bucket/context.tar.gz", "no credentials were found", "metadata server")


def test_key_file_that_is_refused_is_named(
    build: Build, google: Google, internet: Internet, tmp_path: Path
) -> None:
    key = google.key_file(tmp_path / "key.json")
    google.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    env = {**internet.environment(tmp_path), "GOOGLE_APPLICATION_CREDENTIALS": str(key)}
    done = run(build, "gs://bucket/context.tar.gz", env, check=False)

    said(done, "gs://bucket/context.tar.gz", "no credentials", str(key), "invalid_grant")


def test_context_in_an_emulator_of_google(build: Build) -> None:
    with running_objects() as store:
        store.add("bucket/context.tar.gz", archive(b"emulated"))
        run(build, "gs://bucket/context.tar.gz", {"STORAGE_EMULATOR_HOST": store.address})

    assert content(build) == b"emulated"


# --- Azure --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    with running_azure(tmp_path_factory.mktemp("azure")) as started:
        yield started


def test_context_at_azure_with_a_key(build: Build, azure: Azure) -> None:
    azure.put("team", "a/context.tar.gz", archive(b"of azure"))
    env = {**azure.environment, "AZURE_STORAGE_ACCESS_KEY": AZURITE_KEY}
    done = run(build, "az://team/a/context.tar.gz", env)

    assert content(build) == b"of azure"
    assert AZURITE_KEY not in done.written


def test_context_at_azure_with_a_signature(build: Build, azure: Azure) -> None:
    azure.put("team", "context.tar.gz", archive(b"signed"))
    signature = azure.signature("team", "context.tar.gz")
    env = {**azure.environment, "AZURE_STORAGE_SAS_TOKEN": f"?{signature}"}
    done = run(build, "az://team", env)

    assert content(build) == b"signed"
    assert signature.rpartition("sig=")[2] not in done.written


def test_context_at_azure_with_a_connection_string(build: Build, azure: Azure) -> None:
    azure.put("team", "context.tar.gz", archive(b"connected"))
    env = {"AZURE_STORAGE_CONNECTION_STRING": azure.connection_string}
    run(build, "az://team/context.tar.gz", env)

    assert content(build) == b"connected"


@pytest.mark.parametrize("proof", ["key", "signature"])
def test_url_of_a_blob(build: Build, azure: Azure, tmp_path: Path, proof: str) -> None:
    azure.put("team", "url.tar.gz", archive(b"by url"))
    address = f"https://{AZURITE_HOST}/team/url.tar.gz"
    signature = azure.signature("team", "url.tar.gz")
    with running_internet({AZURITE_HOST: azure.address}) as internet:
        env = internet.environment(tmp_path)
        if proof == "key":
            env["AZURE_STORAGE_ACCESS_KEY"] = AZURITE_KEY
        context = address if proof == "key" else f"{address}?{signature}"
        done = run(build, context, env)

    assert content(build) == b"by url"
    assert f"GET {AZURITE_HOST}/team/url.tar.gz" in internet.asked
    for secret in (AZURITE_KEY, signature.rpartition("sig=")[2]):
        assert secret not in done.written


def test_large_context_at_azure_comes_in_parts(build: Build, azure: Azure) -> None:
    data = random.Random(8).randbytes(_LARGE)
    azure.put("team", "large.tar.gz", archive(data))
    env = {**azure.environment, "AZURE_STORAGE_KEY": AZURITE_KEY}
    run(build, "az://team/large.tar.gz", env)

    assert content(build) == data


@pytest.mark.parametrize(
    ("address", "env", "words"),
    [
        ("az://team/missing", {}, ("there is no blob missing in the container team",)),
        ("az://nowhere/context.tar.gz", {}, ("there is no container nowhere",)),
        (
            "az://team/context.tar.gz",
            {"AZURE_STORAGE_ACCESS_KEY": base64.b64encode(b"hunter2-hunter2").decode()},
            ("refuses the credentials", "AZURE_STORAGE_ACCESS_KEY"),
        ),
        (
            "az://team/context.tar.gz",
            {"AZURE_STORAGE_ACCESS_KEY": ""},
            ("no credentials were found", "AZURE_STORAGE_SAS_TOKEN"),
        ),
        ("az://team/context.tar.gz", {"AZURE_STORAGE_SAS_TOKEN": "sig=hunter2"}, ()),
    ],
)
def test_azure_that_refuses_says_so(
    build: Build, azure: Azure, address: str, env: dict[str, str], words: tuple[str, ...]
) -> None:
    azure.put("team", "context.tar.gz", archive(b""))
    key = {} if "AZURE_STORAGE_SAS_TOKEN" in env else {"AZURE_STORAGE_ACCESS_KEY": AZURITE_KEY}
    done = run(build, address, {**azure.environment, **key, **env}, check=False)

    said(done, address, *words)
    for secret in filter(None, (AZURITE_KEY, env.get("AZURE_STORAGE_ACCESS_KEY"), "hunter2")):
        assert secret not in done.written
