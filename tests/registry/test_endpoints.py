from __future__ import annotations

import pytest

from kaniko_core.oci.digest import Digest
from kaniko_core.oci.reference import Reference
from kaniko_core.registry.endpoints import Endpoints

DIGEST = Digest.of(b"anything")


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("ubuntu", "//registry-1.docker.io/v2/library/ubuntu"),
        ("localhost/a", "//localhost/v2/a"),
        ("localhost:5000/a", "//localhost:5000/v2/a"),
        ("a.b.c/d.e/f", "//a.b.c/v2/d.e/f"),
        ("[::1]:5000/a/b/c", "//[::1]:5000/v2/a/b/c"),
    ],
)
def test_addresses_are_of_the_host_that_answers(name: str, at: str) -> None:
    reference = Reference.parse(f"{name}:1")
    endpoints = Endpoints(reference.repository, push=True)

    assert endpoints.uploads == f"{at}/blobs/uploads/"
    assert endpoints.blob(DIGEST) == f"{at}/blobs/{DIGEST}"
    assert endpoints.manifest(reference) == f"{at}/manifests/1"
    assert endpoints.manifest(reference.at(DIGEST)) == f"{at}/manifests/{DIGEST}"


@pytest.mark.parametrize(("push", "right"), [(True, "pull,push"), (False, "pull")])
def test_requests_want_the_rights_that_they_need_and_no_more(push: bool, right: str) -> None:
    repository, other = (Reference.parse(f"quay.io/team/{name}").repository for name in "ab")
    request = Endpoints(repository, push=push).request("POST", "/x", headers={}, also=(other,))

    assert request.scopes == (f"repository:team/a:{right}", "repository:team/b:pull")
    assert request.pushes is push
