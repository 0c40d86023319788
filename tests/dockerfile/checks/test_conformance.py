"""Real Dockerfiles are found fault with as BuildKit does."""

from __future__ import annotations

from kaniko_core.dockerfile.checks.check import check_source
from kaniko_core.dockerfile.checks.surroundings import Surroundings
from kaniko_core.oci.platform import Platform
from tests.dockerfile import tables

AMD64 = Platform("linux", "amd64")


def test_checks_are_those_of_the_table() -> None:
    """Also where the build fails: then the table has what was found up to there."""
    around = Surroundings(build_platform=AMD64, target_platform=AMD64)
    misses = []
    for case in tables.read("dockerfiles-linted.json"):
        data = case["in"]["text"].encode("utf-8", "surrogateescape")
        report = check_source(data, "Dockerfile", around)
        found = sorted((check.line, check.rule, check.message) for check in report.checks)
        out = case["out"]
        expected = sorted((w["line"], w["rule"], w["detail"]) for w in out["warnings"] or ())
        if found != expected or (report.error is not None) != bool(out.get("build_error")):
            misses.append(f"{case['source']}\n  expected {expected}\n  found    {found}")
    assert not misses, f"{len(misses)} misses:\n" + "\n".join(misses[:5])
