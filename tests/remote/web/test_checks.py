from __future__ import annotations

import base64
import hashlib

import pytest

from kaniko_core.oci.digest import Digest
from kaniko_core.remote.web.checks import promised_digest

DATA = b"data"


def text(algorithm: str) -> str:
    return base64.b64encode(hashlib.new(algorithm, DATA).digest()).decode()


def digest(algorithm: str) -> Digest:
    return Digest(algorithm, hashlib.new(algorithm, DATA).hexdigest())


@pytest.mark.parametrize(
    ("headers", "algorithm"),
    [
        ({"repr-digest": f"sha-256=:{text('sha256')}:"}, "sha256"),
        ({"repr-digest": f"sha-512=:{text('sha512')}:, sha-256=:{text('sha256')}:"}, "sha256"),
        ({"repr-digest": f"sha-512=:{text('sha512')}:"}, "sha512"),
        ({"digest": f"SHA-256={text('sha256')}"}, "sha256"),
        ({"digest": f"md5={text('md5')},SHA-512={text('sha512')}"}, "sha512"),
        ({"x-goog-hash": f"crc32c=AAAAAA==, md5={text('md5')}"}, "md5"),
        ({"content-md5": text("md5")}, "md5"),
        ({"content-md5": text("md5"), "digest": f"sha-256={text('sha256')}"}, "sha256"),
        (
            {"x-goog-hash": f"md5={text('md5')}", "x-goog-stored-content-encoding": "identity"},
            "md5",
        ),
    ],
)
def test_best_digest_is_taken(headers: dict[str, str], algorithm: str) -> None:
    assert promised_digest(headers) == digest(algorithm)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-md5": ""},
        {"content-md5": "not base64"},
        {"content-md5": "AAAA"},
        {"content-md5": "ä"},
        {"digest": f"sha-256={hashlib.sha256(DATA).hexdigest()}"},
        {"digest": f"sha-256={text('md5')}"},
        {"digest": f"unknown={text('sha256')}"},
        {"digest": "sha-256"},
        {"repr-digest": "sha-256=::"},
        {"x-goog-hash": "crc32c=AAAAAA=="},
        {"x-goog-hash": f"md5={text('md5')}", "x-goog-stored-content-encoding": "gzip"},
    ],
)
def test_what_is_no_digest_of_these_bytes_is_ignored(headers: dict[str, str]) -> None:
    assert promised_digest(headers) is None
