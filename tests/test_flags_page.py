"""docs/FLAGS.md is what the options say, and has every row of Go kaniko's table."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from docs import reference
from tests.test_language_table import known

REPOSITORY = Path(__file__).parents[1]
ROWS = tomllib.loads(reference.ROWS.read_text())
# What the names below were taken from, where it lies beside the repository.
TABLE = REPOSITORY / "../shared/design/kaniko-cli.md"

# osscontainertools/kaniko after v1.28.3.
EXECUTOR = """
annotation bucket build-arg cache cache-copy-layers cache-dir cache-repo cache-run-layers cache-ttl
cleanup compressed-caching compression compression-level context context-sub-path
credential-helpers custom-platform customPlatform destination digest-file dockerfile dryrun force
force-build-metadata git ignore-path ignore-var-run image-download-retry image-format
image-fs-extract-retry image-name-tag-with-digest-file image-name-with-digest-file insecure
insecure-pull insecure-registry kaniko-dir label log-format log-timestamp materialize no-push
no-push-cache oci-layout-path pre-cleanup preserve-context push-ignore-immutable-tag-errors
push-retry registry-certificate registry-client-cert registry-map registry-mirror reproducible
secret single-snapshot skip-default-registry-fallback skip-push-permission-check skip-tls-verify
skip-tls-verify-pull skip-tls-verify-registry skip-unused-stages snapshot-mode snapshotMode
tar-path tarPath target use-new-run verbosity whitelist-var-run
""".split()
WARMER = """
image dockerfile build-arg cache-dir force cache-ttl customPlatform insecure-pull
skip-tls-verify-pull insecure-registry skip-tls-verify-registry registry-certificate
registry-client-cert registry-map registry-mirror skip-default-registry-fallback verbosity
log-format log-timestamp
""".split()
SHORT = {
    "kaniko-executor": {"-b": "bucket", "-c": "context", "-d": "destination", "-f": "dockerfile"},
    "kaniko-warmer": {"-i": "image", "-d": "dockerfile", "-c": "cache-dir", "-f": "force"},
}
COMMANDS = ["executor version", "executor login", "executor push", "executor completion"]
VARIABLES = """
KANIKO_DIR KANIKO_REGISTRY_MIRROR KANIKO_REGISTRY_MAP KANIKO_NO_PUSH KANIKO_CLEANUP
KANIKO_PRE_CLEANUP KANIKO_PRESERVE_CONTEXT KANIKO_PRINT_PLAN KANIKO_IGNORE_ASSERTIONS
KANIKO_TELEMETRY_ENDPOINT KANIKO_TELEMETRY_OMIT_DOCKERFILE OTEL_* KANIKO_<HOST>_USER
KANIKO_<HOST>_PASSWORD DOCKER_CONFIG DOCKER_AUTH_CONFIG REGISTRY_AUTH_FILE XDG_RUNTIME_DIR
XDG_CONFIG_HOME HOME SNAPSHOT_TIMEOUT_DURATION GIT_USERNAME GIT_PASSWORD GIT_TOKEN GIT_PULL_METHOD
AZURE_STORAGE_ACCESS_KEY S3_ENDPOINT S3_FORCE_PATH_STYLE GOOGLE_APPLICATION_CREDENTIALS
BUILDER_OUTPUT UPSTREAM_CLIENT_TYPE STACKLOG_PATH USER SSL_CERT_DIR HTTP_PROXY HTTPS_PROXY NO_PROXY
GODEBUG FF_KANIKO_* BENCHMARK_FILE
""".split()
FEATURES = """
BUILDKIT_ARG_ENV_PRECEDENCE CLEAN_KANIKO_DIR DEPRECATE_INTER_STAGE_RESTORE NO_PROPAGATE_ANNOTATIONS
OCI_WARMER PRESERVE_HARDLINKS RELATIVE_LINK_TARGETS PRESERVE_MOUNTED_PATHS RUN_MOUNT_BIND
SECUREJOIN_EXTRACTION VOLUME_SKIP_MKDIR WARMER_CACHE_LOCK CACHE_LOOKAHEAD CACHE_PROBE_AFTER_MISS
CHOWN_ON_IMPLICIT_DIRS COPY_AS_ROOT COPY_CHMOD_ON_IMPLICIT_DIRS CROSS_REPO_MOUNT DISABLE_HTTP2
EXPAND_HEREDOC HASH_DIR_FRAMING IGNORE_CACHED_MANIFEST INFER_CROSS_STAGE_CACHE_KEY OCI_SCRATCH_BASE
PATH_SCOPED_REGISTRY_AUTH PRECOMPILE_DOCKERIGNORE REPRODUCIBLE_PRESERVE_BASE_LAYERS
RESOLVE_CACHE_KEY ROLLING_CACHE_KEY RUN_HONOR_GROUP RUN_VIA_TINI SCOPED_DOCKERIGNORE
SHARED_BASE_CACHE SKIP_CACHED_STAGES SKIP_RELABEL_RECOMPRESS SKIP_WRITE_WHITEOUTS UNTAR_SKIP_ROOT
""".split()


def spellings(program: str) -> dict[str, str]:
    """Return what the program itself accepts, each with the long name."""
    options = [item for group in reference.PROGRAMS[program][""] for item in group.options]
    return {name: item.spelling for item in options for name in item.spellings}


def test_the_page_is_what_the_options_say() -> None:
    expected = reference.page()
    assert reference.PAGE.read_text() == expected, "python -m docs.reference writes it anew"


def test_the_page_has_every_option_and_variable() -> None:
    page = reference.PAGE.read_text()
    for program, commands in reference.PROGRAMS.items():
        for command, groups in commands.items():
            for option in (item for group in groups for item in group.options):
                shown = f"`{option.spelling}`" in page
                assert shown is not option.flag.hidden or option.flag.notice, (program, command)
                if not option.flag.hidden:
                    assert all(f"`{name}`" in page for name in option.variables)


@pytest.mark.parametrize("flag", EXECUTOR)
def test_a_flag_of_the_executor_has_a_row_and_is_there(flag: str) -> None:
    assert f"--{flag}" in ROWS["executor"]
    assert f"--{flag}" in spellings("kaniko-executor")


@pytest.mark.parametrize("flag", WARMER)
def test_a_flag_of_the_warmer_has_a_row_and_is_there(flag: str) -> None:
    assert f"--{flag}" in ROWS["warmer"]
    assert f"--{flag}" in spellings("kaniko-warmer")


@pytest.mark.parametrize("program", SHORT)
def test_short_flags_are_the_same(program: str) -> None:
    accepted = spellings(program)
    for short, long in {**SHORT[program], "-v": "verbosity"}.items():
        assert accepted[short] == f"--{long}"


def test_everything_else_has_a_row() -> None:
    assert set(COMMANDS) <= ROWS["commands"].keys()
    assert ROWS["variables"].keys() == set(VARIABLES)
    assert ROWS["features"].keys() == set(FEATURES)
    assert len(FEATURES) == 37


def rows() -> list[tuple[str, str, list[str]]]:
    """Return all rows: their name, whether it works, and their tests."""
    found = []
    for table in ("executor", "warmer"):
        found += [(f"{table} {name}", "yes", tests) for name, (_, *tests) in ROWS[table].items()]
    for table in ("commands", "variables", "features"):
        found += [(name, state, tests) for name, (state, _, *tests) in ROWS[table].items()]
    return found


@pytest.mark.parametrize(("name", "state", "tests"), rows(), ids=lambda item: str(item)[:40])
def test_what_works_has_tests_and_what_does_not_a_reason(
    name: str, state: str, tests: list[str]
) -> None:
    assert state in ("yes", "part", "no", "on", "off", "neither")
    assert bool(tests) is (state != "no") or name == "FF_KANIKO_*"
    for test in tests:
        path, _, function = test.partition("::")
        assert (REPOSITORY / path).is_file(), f"{path} is not there"
        assert function in known(path), f"{path} has no {function}"
    if state == "no":
        assert ROWS["variables"][name][1].endswith(".")


@pytest.mark.skipif(not TABLE.exists(), reason=f"{TABLE} is not here")
def test_the_names_are_those_of_the_table() -> None:
    text = TABLE.read_text()
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    by_title = {section.split()[0]: section for section in sections if section.strip()}
    listed = re.findall(r"^\| --([\w-]+)", by_title["1.1"], re.MULTILINE)
    assert sorted(listed) == sorted(EXECUTOR)
    warmed = re.findall(
        r"--([\w-]+)", " ".join(re.findall(r"^\| (--[^|]+)", by_title["1.3"], re.M))
    )
    assert set(warmed) == set(WARMER)
    commands = re.findall(r"^\| `(executor \w+)", by_title["1.2"], re.MULTILINE)
    assert set(commands) <= set(COMMANDS)
    environment = by_title["1.4"]
    for name in re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", environment.split("Log lines")[0]):
        row = any(name in known_name for known_name in (*VARIABLES, *FEATURES))
        assert row or name in ("KANIKO_", "_PASSWORD"), name
