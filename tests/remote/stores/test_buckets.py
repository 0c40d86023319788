"""Objects of buckets, from a store in this process."""

from __future__ import annotations

import base64
import builtins
import hashlib
import hmac
import json
import random
import ssl
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from kaniko_core.addresses.archives import BucketObject, RemoteFile, Store, parse_remote_file
from kaniko_core.errors import ContentError, ContextError, KanikoError, UsageError
from kaniko_core.progress import BytesMoved, Direction, Event
from kaniko_core.registry.hosts import Trust
from kaniko_core.remote.stores.azure import azure_place
from kaniko_core.remote.stores.buckets import Buckets
from kaniko_core.remote.stores.checksums import Checksum, checksum_of
from kaniko_core.remote.stores.places import Surroundings
from tests.object_server import MTIME_NS, Answer, Asked, ObjectServer, running_objects
from tests.serving import Handler, served

SECRET = "hunter2hunter2"
MIB = 1 << 20
AZURE_KEY = base64.b64encode(SECRET.encode()).decode()


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no credentials of whoever runs the tests be found."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    with running_objects() as started:
        yield started


class World:
    """Opens objects of the server, and knows what was told."""

    def __init__(self, **environment: str) -> None:
        self.events: list[Event] = []
        self.stopped = threading.Event()
        self.buckets = Buckets(environment, lambda host: Trust(), self.events.append, self.stopped)

    def fetch(self, wanted: BucketObject) -> bytes:
        with self.buckets.open(wanted) as incoming:
            return incoming.stream.read()

    def refusal(self, wanted: BucketObject) -> KanikoError:
        with pytest.raises(KanikoError) as caught:
            self.fetch(wanted)
        said = f"{caught.value} {caught.value.hint}"
        assert SECRET not in said and AZURE_KEY not in said and "sig=" not in said
        return caught.value


@pytest.fixture
def s3(server: ObjectServer) -> World:
    return World(S3_ENDPOINT=server.url)


def wanted(text: str) -> BucketObject:
    found: RemoteFile | None = parse_remote_file(text)
    assert isinstance(found, BucketObject)
    return found


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


# --- what is fetched -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4 * MIB, 4 * MIB + 1, 11 * MIB])
def test_object_arrives_as_it_is(server: ObjectServer, s3: World, size: int) -> None:
    data = content(size)
    server.add("bucket/a/key", data)

    with s3.buckets.open(wanted("s3://bucket/a/key")) as incoming:
        assert (incoming.name, incoming.size) == ("s3://bucket/a/key", size)
        assert incoming.mtime_ns == MTIME_NS
        assert incoming.stream.read() == data
    moved = BytesMoved(Direction.PULL, "s3://bucket/a/key", size, size)
    assert s3.events[-1] == moved


def test_large_objects_come_in_parts_of_one_version(server: ObjectServer, s3: World) -> None:
    stored = server.add("bucket/key", content(9 * MIB))
    s3.fetch(wanted("s3://bucket/key"))

    parts = [asked for asked in server.asked if asked.method == "GET"]
    assert {part.range for part in parts} == {
        "bytes=0-4194303",
        "bytes=4194304-8388607",
        "bytes=8388608-9437183",
    }
    assert {part.headers["if-match"] for part in parts} == {stored.tag}


@pytest.mark.parametrize("key", ["spaced key", "ümlaut+plus%20", "deep/er/key.tar.gz", "a=b&c~d"])
def test_keys_may_have_any_character(server: ObjectServer, s3: World, keys: None, key: str) -> None:
    server.add(f"bucket/{key}", b"content")

    assert s3.fetch(BucketObject(Store.S3, "bucket", key)) == b"content"


@pytest.mark.parametrize("key", ["a//b", "a/../b", "./a"])
def test_keys_that_the_library_cannot_ask_for_are_told(s3: World, key: str) -> None:
    refusal = s3.refusal(BucketObject(Store.S3, "bucket", key))

    assert f"cannot fetch s3://bucket/{key}: the library obstore cannot ask for" in str(refusal)


def test_part_that_breaks_off_is_asked_for_again(server: ObjectServer, s3: World) -> None:
    data = content(9 * MIB)
    server.add("bucket/key", data)
    server.breaks = [0, 1000, 3 * MIB]

    assert s3.fetch(wanted("s3://bucket/key")) == data


def test_connection_that_always_breaks_off_is_given_up(
    server: ObjectServer, s3: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kaniko_core.remote.stores.buckets._PAUSE", 0.01)
    server.add("bucket/key", b"content")
    server.breaks = [0] * 1000

    refusal = s3.refusal(wanted("s3://bucket/key"))
    assert f"cannot reach {server.address}: the connection broke off" in str(refusal)


def test_object_that_changes_meanwhile_is_no_object(server: ObjectServer, s3: World) -> None:
    server.add("bucket/key", content(5 * MIB))
    server.before_get = lambda: server.add("bucket/key", content(6 * MIB)) and None

    assert "it changed while it was fetched" in str(s3.refusal(wanted("s3://bucket/key")))


def test_closing_early_leaves_no_thread(server: ObjectServer, s3: World) -> None:
    server.add("bucket/key", content(40 * MIB))
    before = threading.active_count()
    with s3.buckets.open(wanted("s3://bucket/key")) as incoming:
        incoming.stream.read(1)

    left = [t for t in threading.enumerate() if t.name == "store" or t.name.startswith("range")]
    assert (left, threading.active_count() >= before) == ([], True)


def test_stopping_ends_a_transfer_from_a_silent_server(server: ObjectServer, s3: World) -> None:
    server.add("bucket/key", content(9 * MIB))
    server.stalled = threading.Event()

    def stop() -> None:
        assert server.stalled is not None
        server.stalled.wait(60)
        s3.stopped.set()

    stopping = threading.Thread(target=stop)
    stopping.start()
    with (
        s3.buckets.open(wanted("s3://bucket/key")) as incoming,
        pytest.raises(ContextError, match="the transfer was cancelled"),
    ):
        incoming.stream.read()
    stopping.join()


# --- checksums -----------------------------------------------------------------------------


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


DATA = b"what was stored"
MD5, SHA256 = hashlib.md5(DATA).digest(), hashlib.sha256(DATA).digest()
CRC32 = zlib.crc32(DATA).to_bytes(4, "big")
OPAQUE = '"0x8DCAFE"'


@pytest.mark.parametrize(
    ("store", "headers", "algorithm"),
    [
        ("s3", {}, "MD5"),
        ("s3", {"x_amz_server_side_encryption": "AES256"}, "MD5"),
        ("s3", {"ETag": OPAQUE, "x_amz_checksum_sha256": b64(SHA256)}, "SHA-256"),
        ("s3", {"ETag": OPAQUE, "x_amz_checksum_sha1": b64(hashlib.sha1(DATA).digest())}, "SHA-1"),
        ("s3", {"ETag": OPAQUE, "x_amz_checksum_crc32": b64(CRC32)}, "CRC-32"),
        ("gs", {"ETag": OPAQUE, "x_goog_hash": f"crc32c=AAAAAA==, md5={b64(MD5)}"}, "MD5"),
        ("az", {"ETag": OPAQUE, "Content_MD5": b64(MD5)}, "MD5"),
    ],
)
def test_damage_is_noticed(
    server: ObjectServer, store: str, headers: dict[str, str], algorithm: str
) -> None:
    server.add("bucket/key", DATA, **headers)
    world = World(
        S3_ENDPOINT=server.url,
        STORAGE_EMULATOR_HOST=server.url,
        AZURE_STORAGE_ENDPOINT=server.url,
        AZURE_STORAGE_ACCOUNT="account",
        AZURE_STORAGE_KEY=AZURE_KEY,
    )
    assert world.fetch(wanted(f"{store}://bucket/key")) == DATA

    server.damaged = True
    with pytest.raises(ContentError) as caught:
        world.fetch(wanted(f"{store}://bucket/key"))
    assert f"was damaged on the way: its {algorithm} is " in str(caught.value)


@pytest.mark.parametrize(
    "headers",
    [
        {"etag": '"d41d8cd98f00b204e9800998ecf8427e-3"'},
        {"etag": f'"{MD5.hex()}"', "x-amz-server-side-encryption": "aws:kms"},
        {
            "etag": f'"{MD5.hex()}"',
            "x-amz-server-side-encryption-customer-algorithm": "AES256",
        },
        {"etag": OPAQUE, "x-amz-checksum-sha256": f"{b64(SHA256)}-2"},
        {
            "etag": OPAQUE,
            "x-amz-checksum-crc32": b64(CRC32),
            "x-amz-checksum-type": "COMPOSITE",
        },
        {"etag": OPAQUE, "x-amz-checksum-crc64nvme": "AAAAAAAAAAA="},
    ],
)
def test_what_is_no_checksum_of_the_whole_is_not_taken_for_one(headers: dict[str, str]) -> None:
    assert checksum_of(Store.S3, headers) is None


def test_checksum_of_amazon_is_better_than_a_tag() -> None:
    headers = {"etag": f'"{MD5.hex()}"', "x-amz-checksum-sha256": b64(SHA256)}

    assert checksum_of(Store.S3, headers) == Checksum("SHA-256", SHA256.hex())


def test_object_comes_though_nobody_tells_its_checksum(server: ObjectServer, s3: World) -> None:
    def guard(asked: Asked) -> Answer | None:
        return Answer(403) if "x-amz-checksum-mode" in asked.headers else None

    server.add("bucket/key", b"content")
    server.guard = guard

    assert s3.fetch(wanted("s3://bucket/key")) == b"content"
    assert any("x-amz-checksum-mode" in asked.headers for asked in server.asked)


# --- S3: where ------------------------------------------------------------------------------


def test_more_special_variable_says_where_the_store_is(server: ObjectServer) -> None:
    server.add("bucket/key", b"content")
    wrong = "http://127.0.0.1:1"
    variables = [
        {"S3_ENDPOINT": server.url, "AWS_ENDPOINT_URL_S3": wrong, "AWS_ENDPOINT_URL": wrong},
        {"AWS_ENDPOINT_URL_S3": server.url, "AWS_ENDPOINT_URL": wrong},
        {"AWS_ENDPOINT_URL": f"{server.url}/"},
    ]
    for environment in variables:
        assert World(**environment).fetch(wanted("s3://bucket/key")) == b"content"


def test_bucket_is_part_of_the_name_of_a_host_that_has_one(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever answers is a proxy that is asked for everything, by the whole URL."""
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server.guard = lambda asked: Answer(404, "NoSuchBucket")
    names = {
        "": "bucket.objects.test",
        "true": "objects.test",
    }
    for forced, host in names.items():
        world = World(S3_ENDPOINT="http://objects.test", S3_FORCE_PATH_STYLE=forced)
        world.refusal(wanted("s3://bucket/key"))
        assert server.asked[-1].headers["host"] == host


def test_proxy_is_not_asked_for_what_is_on_this_machine(
    server: ObjectServer, s3: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.add("bucket/key", b"content")

    assert s3.fetch(wanted("s3://bucket/key")) == b"content"


def test_bucket_of_another_region_is_asked_for_there(
    server: ObjectServer, s3: World, keys: None
) -> None:
    def guard(asked: Asked) -> Answer | None:
        if "/eu-south-2/s3/" in asked.headers.get("authorization", ""):
            return None
        return Answer(301, "PermanentRedirect", {"x-amz-bucket-region": "eu-south-2"})

    server.add("bucket/key", b"content")
    server.guard = guard

    assert s3.fetch(wanted("s3://bucket/key")) == b"content"


def test_bucket_that_is_ever_elsewhere_is_told(server: ObjectServer, s3: World, keys: None) -> None:
    regions = iter(f"region-{number}" for number in range(1000))
    server.guard = lambda asked: Answer(301, "", {"x-amz-bucket-region": next(regions)})

    assert "the bucket is elsewhere" in str(s3.refusal(wanted("s3://bucket/key")))


def test_weak_tag_is_no_condition(server: ObjectServer, s3: World) -> None:
    server.add("bucket/key", b"content", ETag='W/"1"')

    assert s3.fetch(wanted("s3://bucket/key")) == b"content"
    assert not any("if-match" in asked.headers for asked in server.asked)


def test_bucket_that_is_nowhere_else_is_told(server: ObjectServer, s3: World, keys: None) -> None:
    server.guard = lambda asked: Answer(301, "PermanentRedirect")
    refusal = s3.refusal(wanted("s3://bucket/key"))

    assert "the bucket is elsewhere" in str(refusal)
    assert refusal.hint == "set AWS_REGION to the bucket's region"


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_region_is_that_of_the_environment(server: ObjectServer, keys: None, name: str) -> None:
    server.add("bucket/key", b"content")
    World(S3_ENDPOINT=server.url, **{name: "ap-east-1"}).fetch(wanted("s3://bucket/key"))

    assert all("/ap-east-1/s3/" in asked.headers["authorization"] for asked in server.asked)


@pytest.mark.parametrize("address", ["http://", "ftp://host", "https://user:hunter2hunter2@host"])
def test_address_that_is_none_is_told(address: str) -> None:
    refusal = World(S3_ENDPOINT=address).refusal(wanted("s3://bucket/key"))

    assert isinstance(refusal, UsageError)
    assert str(refusal) == "S3_ENDPOINT is not the address of a store"


# --- S3: who --------------------------------------------------------------------------------


def test_requests_are_signed_with_the_keys(server: ObjectServer, s3: World, keys: None) -> None:
    server.add("bucket/key", b"content")
    s3.fetch(wanted("s3://bucket/key"))

    assert all("Credential=AKIAEXAMPLE/" in a.headers["authorization"] for a in server.asked)


def test_profile_has_keys_and_a_region(
    server: ObjectServer, s3: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text(
        f"[team]\naws_access_key_id = AKIATEAM\naws_secret_access_key = {SECRET}\n"
    )
    (tmp_path / "config").write_text("[profile team]\nregion = sa-east-1\n")
    monkeypatch.setenv("AWS_PROFILE", "team")
    server.add("bucket/key", b"content")
    s3.fetch(wanted("s3://bucket/key"))

    sent = [asked.headers["authorization"] for asked in server.asked]
    assert all("AKIATEAM/" in text and "/sa-east-1/s3/" in text for text in sent)


def test_profile_that_is_none_is_told(s3: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    said = str(s3.refusal(wanted("s3://bucket/key")))
    assert said.startswith("cannot fetch s3://bucket/key: no credentials: ")
    assert "(nobody)" in said


def test_public_buckets_need_nobody(server: ObjectServer, s3: World) -> None:
    server.add("bucket/key", b"content")
    s3.fetch(wanted("s3://bucket/key"))

    assert not any("authorization" in asked.headers for asked in server.asked)


def test_refusal_without_credentials_tells_where_was_looked(
    server: ObjectServer, s3: World
) -> None:
    server.guard = lambda asked: Answer(403, "AccessDenied")
    refusal = s3.refusal(wanted("s3://bucket/key"))

    assert "it is not public, and no credentials were found (403 AccessDenied)" in str(refusal)
    assert "AWS_ACCESS_KEY_ID" in str(refusal.hint) and "~/.aws" in str(refusal.hint)


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "InvalidAccessKeyId", "the access key is not known there"),
        (403, "SignatureDoesNotMatch", "the secret key is not the access key's"),
        (400, "ExpiredToken", "the credentials have expired"),
        (403, "SomethingNew", "refuses the credentials (403 SomethingNew)"),
    ],
)
def test_refused_credentials_are_told(
    server: ObjectServer, s3: World, keys: None, status: int, code: str, said: str
) -> None:
    server.guard = lambda asked: Answer(status, code)
    refusal = s3.refusal(wanted("s3://bucket/key"))

    assert f"{server.address} refuses the credentials ({status} {code})" in str(refusal)
    assert said in str(refusal)
    assert refusal.hint == "the credentials are from: env"


# --- what is not there ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("store", "codes", "bucket", "thing"),
    [
        ("s3", ("NoSuchBucket", "NoSuchKey"), "bucket", "object"),
        ("gs", ("NoSuchBucket", "NoSuchKey"), "bucket", "object"),
        ("az", ("ContainerNotFound", "BlobNotFound"), "container", "blob"),
    ],
)
def test_missing_bucket_is_another_thing_than_a_missing_object(
    server: ObjectServer, store: str, codes: tuple[str, str], bucket: str, thing: str
) -> None:
    server.codes = codes
    world = World(
        S3_ENDPOINT=server.url,
        STORAGE_EMULATOR_HOST=server.address,
        AZURE_STORAGE_ENDPOINT=server.url,
        AZURE_STORAGE_ACCOUNT_NAME="account",
        AZURE_STORAGE_KEY=AZURE_KEY,
    )
    missing = str(world.refusal(wanted(f"{store}://bucket/key")))
    nowhere = str(world.refusal(wanted(f"{store}://other/key")))

    assert f"{store}://bucket/key: there is no {thing} key in the {bucket} bucket" in missing
    assert f"{store}://other/key: there is no {bucket} other at {server.address}" in nowhere


def test_store_that_is_not_there_is_told() -> None:
    refusal = World(S3_ENDPOINT="http://127.0.0.1:1").refusal(wanted("s3://bucket/key"))

    assert "cannot reach 127.0.0.1:1: the connection is refused" in str(refusal)
    assert "S3_ENDPOINT" in str(refusal.hint)


def test_store_without_tls_is_told(server: ObjectServer) -> None:
    refusal = World(S3_ENDPOINT=f"https://{server.address}").refusal(wanted("s3://bucket/key"))

    assert f"cannot reach {server.address}: it does not speak TLS" in str(refusal)


def test_certificate_of_the_stores_own_has_to_be_known(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with running_objects(context) as server:
        server.add("bucket/key", b"content")
        world = World(S3_ENDPOINT=f"https://{server.address}")
        refusal = world.refusal(wanted("s3://bucket/key"))
        assert f"cannot reach {server.address}: its certificate cannot" in str(refusal)

        for trust in (Trust(certificates=(str(tmp_path / "ca.pem"),)), Trust(verified=False)):
            known = replace(world.buckets, trust=lambda host, trust=trust: trust)
            with known.open(wanted("s3://bucket/key")) as incoming:
                assert incoming.stream.read() == b"content"


def test_bundle_of_the_environment_is_known(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    for name, value in (("SSL_CERT_FILE", tmp_path / "ca.pem"), ("SSL_CERT_DIR", tmp_path)):
        with running_objects(context) as server:
            server.add("bucket/key", b"content")
            world = World(S3_ENDPOINT=f"https://{server.address}", **{name: str(value)})
            assert world.fetch(wanted("s3://bucket/key")) == b"content"


def test_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{SECRET}@127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    refusal = World(S3_ENDPOINT="https://objects.test:9000").refusal(wanted("s3://bucket/key"))

    assert "cannot reach objects.test:9000 through the proxy 127.0.0.1:1: the conn" in str(refusal)


def test_busy_store_is_told(server: ObjectServer, s3: World) -> None:
    server.guard = lambda asked: Answer(501, "NotImplemented")

    said = str(s3.refusal(wanted("s3://bucket/key")))
    assert f"{server.address} answers with an error (501" in said


# --- Google ---------------------------------------------------------------------------------


class _Metadata(Handler):
    def do_GET(self) -> None:  # noqa: N802 - the library's name
        body = json.dumps({"access_token": SECRET, "expires_in": 3599}).encode()
        self.send_response(200)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def google(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> ObjectServer:
    """Google's own storage, which wants a token."""
    monkeypatch.setattr("kaniko_core.remote.stores.google._GOOGLE", server.url)
    return server


def test_google_is_told_who_we_are(google: ObjectServer, tmp_path: Path) -> None:
    google.add("bucket/key", b"content")
    with served(_Metadata, str) as metadata:
        world = World(GCE_METADATA_HOST=metadata, HOME=str(tmp_path))
        assert world.fetch(wanted("gs://bucket/key")) == b"content"

    assert {asked.headers["authorization"] for asked in google.asked} == {f"Bearer {SECRET}"}
    # Else the store unpacks what was compressed for the way, and its size is another.
    assert {asked.headers["accept-encoding"] for asked in google.asked} == {"gzip"}


def test_public_objects_of_google_need_nobody(google: ObjectServer, tmp_path: Path) -> None:
    google.add("bucket/key", b"content")
    world = World(GCE_METADATA_HOST="127.0.0.1:1", HOME=str(tmp_path))

    assert world.fetch(wanted("gs://bucket/key")) == b"content"
    assert not any("authorization" in asked.headers for asked in google.asked)


def test_file_of_credentials_that_cannot_be_used_is_told(
    google: ObjectServer, tmp_path: Path
) -> None:
    path = tmp_path / "missing.json"
    refusal = World(GOOGLE_APPLICATION_CREDENTIALS=str(path)).refusal(wanted("gs://bucket/key"))

    assert str(refusal).startswith(f"cannot fetch gs://bucket/key: no credentials: {path}: ")
    assert google.asked == []


def test_emulator_is_told_nothing(server: ObjectServer, tmp_path: Path) -> None:
    server.add("bucket/key", b"content")
    path = tmp_path / "key.json"
    path.write_text('{"type": "external_account"}')
    world = World(STORAGE_EMULATOR_HOST=server.address, GOOGLE_APPLICATION_CREDENTIALS=str(path))

    assert world.fetch(wanted("gs://bucket/key")) == b"content"
    assert not any("authorization" in asked.headers for asked in server.asked)


# --- Azure ----------------------------------------------------------------------------------


def signed_by(asked: Asked, key: str) -> bool:
    """Whether a request has the signature that Azure's documentation describes."""
    own = sorted((n, v) for n, v in asked.headers.items() if n.startswith("x-ms-"))
    names = ("if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range")
    lines = [
        asked.method,
        *[""] * 5,
        asked.headers.get("date", ""),
        *(asked.headers.get(name, "") for name in names),
    ]
    lines += [f"{name}:{value}" for name, value in own] + [f"/account{asked.path}"]
    digest = hmac.digest(base64.b64decode(key), "\n".join(lines).encode(), "sha256")
    return asked.headers.get("authorization") == f"SharedKey account:{b64(digest)}"


CONNECTION = "AccountName=account;AccountKey={key};BlobEndpoint={url}"


@pytest.mark.parametrize("name", ["AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_KEY", "connection"])
def test_key_of_an_account_signs(server: ObjectServer, name: str) -> None:
    server.add("bucket/a/key", b"content")
    if name == "connection":
        text = CONNECTION.format(key=AZURE_KEY, url=server.url)
        world = World(AZURE_STORAGE_CONNECTION_STRING=text)
    else:
        world = World(
            AZURE_STORAGE_ACCOUNT="account",
            AZURE_STORAGE_ENDPOINT=server.url,
            **{name: AZURE_KEY},
        )

    assert world.fetch(wanted("az://bucket/a/key")) == b"content"
    assert all(signed_by(asked, AZURE_KEY) for asked in server.asked)
    assert {asked.method for asked in server.asked} == {"HEAD", "GET"}


def test_signature_is_sent_and_never_shown(server: ObjectServer) -> None:
    signature = f"sv=2021-12-02&sp=r&sig={SECRET}%3D"
    server.guard = lambda asked: None if "sig=hunter2hunter2" in asked.query else Answer(403)
    server.add("bucket/key", b"content")
    variables = {"AZURE_STORAGE_ACCOUNT": "account", "AZURE_STORAGE_ENDPOINT": server.url}
    world = World(**variables, AZURE_STORAGE_SAS_TOKEN=f"?{signature}")
    assert world.fetch(wanted("az://bucket/key")) == b"content"

    server.guard = lambda asked: Answer(403, "AuthenticationFailed")
    refusal = world.refusal(wanted("az://bucket/key"))
    assert "refuses the credentials (403 AuthenticationFailed)" in str(refusal)
    assert refusal.hint == "the credentials are from: AZURE_STORAGE_SAS_TOKEN"


class _Entra(Handler):
    def do_POST(self) -> None:  # noqa: N802 - the library's name
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        good = "scope=https%3A%2F%2Fstorage.azure.com%2F.default" in form
        body = json.dumps({"access_token": SECRET} if good else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def principal(authority: str) -> dict[str, str]:
    return {
        "AZURE_STORAGE_ACCOUNT": "account",
        "AZURE_AUTHORITY_HOST": f"http://{authority}",
        "AZURE_TENANT_ID": "tenant",
        "AZURE_CLIENT_ID": "client",
        "AZURE_CLIENT_SECRET": "of-the-principal",
    }


def test_azure_is_told_who_we_are(server: ObjectServer) -> None:
    server.add("bucket/key", b"content")
    with served(_Entra, str) as authority:
        world = World(AZURE_STORAGE_ENDPOINT=server.url, **principal(authority))
        assert world.fetch(wanted("az://bucket/key")) == b"content"

    assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {SECRET}"}


def test_principal_that_is_none_is_told(server: ObjectServer) -> None:
    world = World(AZURE_STORAGE_ENDPOINT=server.url, **principal("127.0.0.1:1"))

    said = str(world.refusal(wanted("az://bucket/key")))
    assert "az://bucket/key: no credentials: Azure AD cannot be reached" in said
    assert server.asked == []


def test_public_containers_need_nobody(server: ObjectServer) -> None:
    server.add("bucket/key", b"content")
    world = World(
        AZURE_STORAGE_ACCOUNT="account",
        AZURE_STORAGE_ENDPOINT=server.url,
        AZURE_POD_IDENTITY_AUTHORITY_HOST="http://127.0.0.1:1",
    )

    assert world.fetch(wanted("az://bucket/key")) == b"content"
    assert not any("authorization" in asked.headers for asked in server.asked)


@pytest.mark.parametrize(("account", "told"), [("account", False), ("other", True), ("", True)])
def test_signature_for_one_account_is_not_sent_to_another(account: str, told: bool) -> None:
    environment = {
        "AZURE_STORAGE_ACCOUNT": account,
        "AZURE_STORAGE_SAS_TOKEN": f"sig={SECRET}",
        "AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:1",
    }
    wanted = BucketObject(Store.AZURE, "box", "x.tar", "other.blob.core.windows.net")

    place = azure_place(wanted, Surroundings(environment, lambda host: Trust()))

    assert (SECRET in place.url) == told
    assert bool(place.found) == told


def test_account_has_to_be_named() -> None:
    refusal = World().refusal(wanted("az://container/blob"))

    assert str(refusal) == "cannot fetch az://container/blob: no storage account is named"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"AZURE_STORAGE_CONNECTION_STRING": SECRET}, "is not a connection string"),
        (
            {"AZURE_STORAGE_ACCOUNT": "a", "AZURE_STORAGE_KEY": f"{SECRET}!"},
            "the key of AZURE_STORAGE_KEY is not one of a storage account",
        ),
    ],
)
def test_settings_that_are_none_are_told(environment: dict[str, str], said: str) -> None:
    assert said in str(World(**environment).refusal(wanted("az://container/blob")))


# --- libraries ------------------------------------------------------------------------------


@pytest.mark.parametrize(("library", "store"), [("obstore", "gs"), ("botocore", "s3")])
def test_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, library: str, store: str
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == library:
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    refusal = World().refusal(wanted(f"{store}://bucket/key"))

    assert f"{store}:// addresses need the library {library}" in str(refusal)
    assert refusal.hint == "pip install 'kaniko-py[stores]'"
