from __future__ import annotations

import pytest

from kaniko_core.attestations.wanted import Mode, Provenance, SlsaVersion, provenance
from kaniko_core.errors import UsageError


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("true", Provenance(Mode.MAX)),
        ("1", Provenance(Mode.MAX)),
        ("mode=min", Provenance(Mode.MIN)),
        ("mode=max", Provenance(Mode.MAX)),
        ("mode=full", Provenance(Mode.MAX)),
        ("builder-id=https://ci.example/7", Provenance(builder_id="https://ci.example/7")),
        ("Mode=min, version=v0.2", Provenance(Mode.MIN, version=SlsaVersion.V0_2)),
        ("mode=min,reproducible=true", Provenance(Mode.MIN, reproducible=True)),
        ("mode=min,inline-only=true", Provenance(Mode.MIN)),
        ('mode=min,"builder-id=https://ci/a,b"', Provenance(Mode.MIN, "https://ci/a,b")),
    ],
)
def test_reads_what_buildkit_reads(text: str, wanted: Provenance) -> None:
    assert provenance(text) == wanted


@pytest.mark.parametrize("text", ["false", "0", "F"])
def test_false_asks_for_nothing(text: str) -> None:
    assert provenance(text) is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("yes", "'yes' says nothing about provenance"),
        ("", "'' says nothing about provenance"),
        ("mode=min,generator=x", "'generator=x' says nothing about provenance"),
        ("mode=much", "mode=much is not known"),
        ("version=v2", "version=v2 is not known"),
        ("reproducible=perhaps", "reproducible=perhaps is neither true nor false"),
        ("filename=p.json", "provenance goes into images only, not into a file beside them"),
        ("inline-only=false", "provenance goes into images only, not into a file beside them"),
    ],
)
def test_refuses_what_provenance_cannot_be(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        provenance(text)
    assert str(refused.value) == sentence
