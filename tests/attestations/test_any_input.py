"""Whatever is in an image, its bill is valid, and at worst says that it is incomplete."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from kaniko_core.attestations.sbom import state_contents
from tests.attestations.layers import made
from tests.samples import image

# What is written between fields, and what is hard to write into others.
_MARKS = st.sampled_from([*":\n\r\t <>()@,/\"'\\%?#&=+-.~", "\0", "\x1b", "ü", "\u2028", "\ud800"])
_VALUE = st.text(st.one_of(_MARKS, st.sampled_from("abAB01")), max_size=30)
_PERSON = st.builds("{} <{}@{}>".format, _VALUE, _VALUE, _VALUE)
_ANY = st.one_of(
    _VALUE,
    _PERSON,
    st.just("MIT"),
    _VALUE.map("https://a{}".format),
    _VALUE.map("http://a.b{}".format),
)
# Most files name a package, so that the other fields come to be looked at.
_NAME = st.one_of(st.just("a"), st.just("b-1"), _VALUE)
_FIELDS = {
    "var/lib/dpkg/status": ("Package", "Version", "Architecture", "Maintainer", "Homepage"),
    "lib/apk/db/installed": ("P", "V", "A", "o", "m", "L", "U"),
    "a.dist-info/METADATA": ("Name", "Version", "License", "Author", "Author-email", "Home-page"),
}
_JSON = ("name", "version", "license", "author", "homepage", "licenses")


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """Make a file that tells of a package, in fields of any content."""
    path = draw(st.sampled_from([*_FIELDS, "node_modules/a/package.json", "etc/os-release"]))
    if path.endswith("os-release"):
        values = (draw(_VALUE) for _ in range(3))
        names = ("ID", "VERSION_ID", "PRETTY_NAME")
        text = "".join(f"{key}={value}\n" for key, value in zip(names, values, strict=True))
        return path, text.encode(errors="surrogatepass")
    if path.endswith(".json"):
        other = st.one_of(_ANY, st.lists(_VALUE), st.dictionaries(_VALUE, _VALUE), st.none())
        values = {key: draw(_NAME if key in _JSON[:2] else other) for key in _JSON}
        return path, json.dumps(values).encode()
    kinds = (_NAME, _NAME, *[_ANY] * len(_FIELDS[path]))
    text = "".join(
        f"{key}: {draw(kind)}\n" for key, kind in zip(_FIELDS[path], kinds, strict=False)
    )
    return path, text.encode(errors="surrogatepass")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(files(), min_size=1, max_size=4))
def test_bill_is_valid(scratch: Path, members: list[tuple[str, bytes]]) -> None:
    bill = state_contents(
        image(made(*members)),
        names=(),
        version="9",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        scratch=scratch,
    )
    document = json.loads(bill.statement.raw)["predicate"]
    messages = validate_full_spdx_document(JsonLikeDictParser().parse(document), "SPDX-2.3")
    assert [message.validation_message for message in messages] == []


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([*_FIELDS, "node_modules/a/package.json", "etc/os-release"]), st.binary())
def test_any_bytes_are_no_more_than_a_complaint(scratch: Path, path: str, content: bytes) -> None:
    bill = state_contents(
        image(made((path, content))),
        names=(),
        version="9",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        scratch=scratch,
    )
    assert bill.packages >= 0
