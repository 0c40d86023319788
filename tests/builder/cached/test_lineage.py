"""What files came from: equal for equal results, known when layers are."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

from kaniko_core.builder.cached.lineage import Lineage
from kaniko_core.errors import ContentError
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.layer import FileLayer
from kaniko_core.oci.spec import Descriptor

START = Lineage(lambda: "start")


def layer(contents: bytes) -> Future[FileLayer]:
    done: Future[FileLayer] = Future()
    digest = Digest.of(contents)
    done.set_result(FileLayer(Path("/"), Descriptor("", digest, 0), digest, contents=digest))
    return done


def test_a_command_that_made_the_same_leaves_the_same() -> None:
    made = START.after_command(layer(b"a")).digest()

    assert START.after_command(layer(b"a")).digest() == made
    assert START.after(str(Digest.of(b"a"))).digest() == made
    assert START.after_command(layer(b"b")).digest() != made


def test_a_copy_depends_on_its_key_and_on_what_the_stages_are() -> None:
    other = START.after("made")
    made = START.after_copy("key", [other]).digest()

    assert START.after_copy("key", [START.after("made")]).digest() == made
    assert START.after_copy("another", [other]).digest() != made
    assert START.after_copy("key", [START]).digest() != made
    assert START.after_copy("key", []).digest() != made


def test_order_counts() -> None:
    assert START.after("a").after("b").digest() != START.after("b").after("a").digest()


def test_nothing_is_waited_for_before_somebody_asks() -> None:
    pending: Future[FileLayer] = Future()
    lineage = START.after_command(pending).after("more")
    pending.set_exception(ContentError("cannot be packed"))

    with pytest.raises(ContentError):
        lineage.digest()


def test_a_lineage_may_be_longer_than_python_recurses() -> None:
    lineage = Lineage(lambda: "start")
    for number in range(sys.getrecursionlimit()):
        lineage = lineage.after_copy(f"copy {number}", ()).after(f"command {number}")

    assert len(lineage.digest()) == 64
