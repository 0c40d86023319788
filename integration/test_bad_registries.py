"""What is wrong with a registry, or with what we prove to it, in every direction.

Each thing is tried by a push and a pull of the executor and by the warmer, wherever it can happen
there. Each time it is one sentence that says what and which, with what to try; and at the most
verbose level there is no secret in any output, and no traceback.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from integration import images
from integration.faults import Lie, faulty_registry, layer_of
from integration.programs import Finished, Programs, finished
from integration.registry_world import TokenService, token_registry
from integration.transport_world import Authority, reachable_registry
from integration.world import Passwords, running_registry
from tests import registry_server
from tests.proxy_server import running_proxy
from tests.registry_server import Answer, RegistryServer
from tests.samples import image

USER, PASSWORD = "me", "hunter2-hunter2"
PAIR = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
# Whatever is sent to a registry or a token service, in every form in which that is done.
_SECRET = re.compile(rf"hunter2|{re.escape(PAIR)}|eyJ[\w-]{{20}}|guessed-it|signature=")
_AT_ONCE = ("--image-download-retry=0", "--push-retry=0")


@dataclass(frozen=True, slots=True)
class Scene:
    """A registry with which something is wrong, and what a program needs to find that out.

    Attributes:
        registry: its address.
        flags: given to the program.
        env: the program's.
        base: the image that is pulled; there need not be any.
    """

    registry: str
    flags: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    base: str = "base:1"

    @property
    def image(self) -> str:
        """The name of the image that is pulled."""
        return f"{self.registry}/{self.base}" if self.registry else self.base


@dataclass(frozen=True, slots=True)
class Attempts:
    """Our programs on their way to a registry, each as talkative as it can be."""

    programs: Programs
    elsewhere: str

    def push(self, scene: Scene) -> Finished:
        """Build without a base image, and push."""
        return self._build(scene, "FROM scratch\nCOPY file /\n", f"{scene.registry}/app:1")

    def send(self, scene: Scene) -> Finished:
        """Push what was built before, which is another command."""
        layout, name = images.busybox_layout(), f"--destination={scene.registry}/app:1"
        return self._run("kaniko_executor", scene, "push", str(layout), name, "--push-retry=0")

    def pull(self, scene: Scene) -> Finished:
        """Build on the base image, and push to another registry."""
        return self._build(scene, f"FROM {scene.image}\nCOPY file /\n", self.elsewhere)

    def warm(self, scene: Scene) -> Finished:
        """Warm the base image."""
        cache = self.programs.directory / "cache"
        done = self._run(
            "kaniko_warmer",
            scene,
            f"--image={scene.image}",
            f"--cache-dir={cache}",
            "--image-download-retry=0",
        )
        kept = [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
        assert done.status == 0 or kept == []
        return done

    def _build(self, scene: Scene, dockerfile: str, destination: str) -> Finished:
        context, work = self.programs.directory / "context", self.programs.work
        context.mkdir()
        work.mkdir(parents=True)
        (context / "Dockerfile").write_text(dockerfile)
        (context / "file").write_text("content")
        names = (f"--context={context}", f"--kaniko-dir={work}", f"--destination={destination}")
        return self._run("kaniko_executor", scene, *names, *_AT_ONCE)

    def _run(self, module: str, scene: Scene, *arguments: str) -> Finished:
        pushes = module == "kaniko_executor"
        pulls = "push" not in arguments
        flags = [
            flag
            for flag in scene.flags
            if (pushes or flag not in _OF_PUSHES) and (pulls or flag not in _OF_PULLS)
        ]
        process = self.programs.start(
            module, *arguments, *flags, "--verbosity=trace", env=scene.env
        )
        done = finished(process, check=False)
        assert "Traceback" not in done.written
        assert _SECRET.search(done.written) is None, done.written
        assert self.programs.leftovers() == []
        return done


# Flags that those commands do not have that only pull, or only push.
_OF_PUSHES, _OF_PULLS = frozenset({"--insecure"}), frozenset({"--insecure-pull"})


@pytest.fixture
def attempts(programs: Programs, destination: str) -> Attempts:
    return Attempts(programs, destination)


def sentence(done: Finished) -> str:
    """Return the one sentence of a failure with its hint, on one line.

    The warmer's is a warning, because others of its images may be fine.
    """
    assert done.status == 1, done.written
    lines = done.stderr.splitlines()
    (error,) = (line for line in lines if line.startswith("error:"))
    warnings = [line for line in lines if line.startswith("warning:")]
    if error.endswith("images could not be warmed"):
        (error,) = warnings
    else:
        assert warnings == []
    return " ".join(done.stderr[done.stderr.index(error) :].split())


# --- what is wrong -------------------------------------------------------------------------


def logged_in(address: str, **entry: str) -> dict[str, str]:
    """Return the variable of somebody who has logged in, by default with the right password."""
    entry = entry or {"username": USER, "password": PASSWORD}
    return {"DOCKER_AUTH_CONFIG": json.dumps({"auths": {address: entry}})}


@contextmanager
def wrong_password(directory: Path) -> Iterator[Scene]:
    with running_registry(directory / "closed", passwords=Passwords(USER, PASSWORD)) as closed:
        env = logged_in(closed.address, username=USER, password="guessed-it")
        yield Scene(closed.address, env=env)


@contextmanager
def wrong_password_for_a_token(directory: Path) -> Iterator[Scene]:
    with token_registry(directory / "tokens", TokenService(USER, PASSWORD)) as address:
        yield Scene(address, env=logged_in(address, username=USER, password="guessed-it"))


@contextmanager
def no_password(directory: Path) -> Iterator[Scene]:
    with running_registry(directory / "closed", passwords=Passwords(USER, PASSWORD)) as closed:
        yield Scene(closed.address)


@contextmanager
def expired_token(directory: Path) -> Iterator[Scene]:
    """A ready token of the registry, made too long ago."""
    service = TokenService(USER, PASSWORD, seconds=-60)
    with token_registry(directory / "tokens", service) as address:
        scopes = ["repository:app:pull,push", "repository:base:pull"]
        old = service.token(scopes, None)
        assert old is not None
        yield Scene(address, env=logged_in(address, registrytoken=old))


@contextmanager
def expired_login(directory: Path) -> Iterator[Scene]:
    """A token that is to be exchanged for others, which the service does not take any more."""
    with registry_server.running_registry() as server:
        server.challenge = f'Bearer realm="http://{server.address}/token"'
        server.token_service = lambda seen: Answer(400, text='{"error": "invalid_grant"}')
        yield Scene(server.address, env=logged_in(server.address, identitytoken=PASSWORD))


@contextmanager
def repeating(directory: Path) -> Iterator[Scene]:
    """A token service that puts what it was sent into its answers."""
    with registry_server.running_registry() as server:
        server.challenge = f'Bearer realm="http://{server.address}/token"'
        denied = Answer(403, code="DENIED", message=f"not {PASSWORD}, nor {PAIR}!")
        server.token_service = lambda seen: denied
        yield Scene(server.address, env=logged_in(server.address))


@contextmanager
def missing_scope(directory: Path) -> Iterator[Scene]:
    """The service gives a token all the same, but not the right that was asked for."""
    service = TokenService(USER, PASSWORD, rights=frozenset())
    with token_registry(directory / "tokens", service) as address:
        yield Scene(address, env=logged_in(address))


@contextmanager
def realm_elsewhere(directory: Path) -> Iterator[Scene]:
    realm = "https://tokens.example.com/token"
    service = TokenService(USER, PASSWORD)
    with token_registry(directory / "tokens", service, realm=realm) as address:
        yield Scene(address, env=logged_in(address))
    assert service.granted == []


@contextmanager
def self_signed(directory: Path) -> Iterator[Scene]:
    tls = Authority.made(directory / "authority").self_signed("127.0.0.1")
    with reachable_registry(directory / "secure", tls=tls) as secure:
        yield Scene(secure.address, env=logged_in(secure.address))


@contextmanager
def for_another_host(directory: Path) -> Iterator[Scene]:
    authority = Authority.made(directory / "authority")
    with reachable_registry(directory / "secure", tls=authority.issue("127.0.0.9")) as secure:
        flag = f"--registry-certificate={secure.address}={authority.file}"
        yield Scene(secure.address, (flag,), logged_in(secure.address))


@contextmanager
def tls_where_plain_is_meant(directory: Path) -> Iterator[Scene]:
    tls = Authority.made(directory / "authority").issue("127.0.0.1")
    with reachable_registry(directory / "secure", tls=tls) as secure:
        flags = ("--insecure", "--insecure-pull")
        yield Scene(secure.address, flags, logged_in(secure.address))


@contextmanager
def plain_where_tls_is_meant(directory: Path) -> Iterator[Scene]:
    """On loopback plain HTTP is allowed; so this registry has another name, behind a proxy."""
    with running_proxy() as proxy, running_registry(directory / "plain") as plain:
        proxy.leads["registry.invalid:443"] = plain.address
        proxy.user = f"{USER}:{PASSWORD}"
        url = f"http://{USER}:{PASSWORD}@{proxy.address}"
        env = {"HTTP_PROXY": url, "HTTPS_PROXY": url, "NO_PROXY": "127.0.0.1"}
        yield Scene("registry.invalid", env=env | logged_in("registry.invalid"))


@contextmanager
def led_away_from_tls(directory: Path) -> Iterator[Scene]:
    """A registry behind TLS whose addresses for blobs and uploads are without, elsewhere."""
    authority = Authority.made(directory / "authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("127.0.0.1"))
    with registry_server.running_registry(tls=context) as server:
        server.add_image("base", "1", image())
        elsewhere = "http://store.example.com"
        server.upload_location = elsewhere
        redirect = Answer(307, {"Location": f"{elsewhere}/blob?signature={PASSWORD}"})
        server.misbehave(redirect, method="GET", path="/blobs/", times=None)
        flag = f"--registry-certificate={server.address}={authority.file}"
        yield Scene(server.address, (flag,), logged_in(server.address))


@contextmanager
def led_to_another_host(directory: Path) -> Iterator[Scene]:
    """What is elsewhere is told nothing of the password; here it does not even exist."""
    with closed_server() as server:
        server.add_image("base", "1", image())
        elsewhere = "http://store.invalid"
        server.upload_location = elsewhere
        redirect = Answer(307, {"Location": f"{elsewhere}/blob?signature={PASSWORD}"})
        server.misbehave(redirect, method="GET", path="/blobs/", times=None)
        yield Scene(server.address, env=logged_in(server.address))


@contextmanager
def closed_server() -> Iterator[RegistryServer]:
    """Run a registry in this process that wants the password."""
    with registry_server.running_registry() as server:
        server.challenge = 'Basic realm="tests"'
        server.authorized = {f"Basic {PAIR}"}
        yield server


def answering(fault: Answer, path: str) -> Callable[[Path], AbstractContextManager[Scene]]:
    """Return a scene in which the registry answers everything below *path* so."""

    @contextmanager
    def scene(directory: Path) -> Iterator[Scene]:
        with closed_server() as server:
            server.misbehave(fault, path=path, times=None)
            yield Scene(server.address, env=logged_in(server.address))

    return scene


def holding(media_type: str, content: bytes) -> Callable[[Path], AbstractContextManager[Scene]]:
    """Return a scene in which the base image is a document of some kind."""

    @contextmanager
    def scene(directory: Path) -> Iterator[Scene]:
        with closed_server() as server:
            server.add_manifest("base", "1", media_type, content)
            yield Scene(server.address, env=logged_in(server.address))

    return scene


@contextmanager
def chart(directory: Path) -> Iterator[Scene]:
    """An OCI manifest of a real registry that is no image: a chart, as helm pushes it."""
    with running_registry(directory / "charts") as charts:
        command = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false"]
        layout = chart_layout(directory / "layout")
        subprocess.run([*command, f"oci:{layout}", f"docker://{charts.address}/base:1"], check=True)
        yield Scene(charts.address)


def chart_layout(layout: Path) -> Path:
    """Make a layout with a chart."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(media_type: str, content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": blob("application/vnd.cncf.helm.config.v1+json", b'{"name": "chart"}'),
        "layers": [blob("application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"a chart")],
    }
    index = {"schemaVersion": 2, "manifests": [blob(kind, json.dumps(manifest).encode())]}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return layout


@contextmanager
def lying_mirror(directory: Path) -> Iterator[Scene]:
    """A mirror that serves another layer, and nobody else to ask."""
    layer = layer_of(images.busybox_layout())
    with faulty_registry(
        images.busybox_layout(), lambda _, path: Lie() if layer in path else None
    ) as mirror:
        flags = (f"--registry-mirror={mirror.address}", "--skip-default-registry-fallback")
        yield Scene("", flags, logged_in(mirror.address), base="busybox:1")


@contextmanager
def read_only(directory: Path) -> Iterator[Scene]:
    with reachable_registry(directory / "read-only", read_only=True) as registry:
        yield Scene(registry.address)


@contextmanager
def pull_through_mirror(directory: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        upstream = stack.enter_context(running_registry(directory / "upstream"))
        url = f"http://{upstream.address}"
        mirror = stack.enter_context(reachable_registry(directory / "mirror", mirror_of=url))
        yield Scene(mirror.address)


@contextmanager
def only_for_reading(directory: Path) -> Iterator[Scene]:
    service = TokenService(USER, PASSWORD, rights=frozenset({"pull"}))
    with token_registry(directory / "tokens", service) as address:
        yield Scene(address, env=logged_in(address))


# --- what is said --------------------------------------------------------------------------

# From a direction to words of the sentence and of its hint; {} is the registry.
Said = Mapping[str, tuple[str, ...]]


def both(*words: str) -> Said:
    """Return the same words for both programs that pull."""
    return {"pull": words, "warm": words}


def everywhere(*words: str) -> Said:
    """Return the same words for all directions."""
    return {"push": words, **both(*words)}


_FOUND = "credentials were looked for in $DOCKER_AUTH_CONFIG (entry {})"
_CASES: dict[str, tuple[Callable[[Path], AbstractContextManager[Scene]], Said]] = {
    "wrong password": (
        wrong_password,
        {
            "push": ("cannot push to {}/app: {} answered 401", "may not push to app", _FOUND),
            **both(
                "cannot read the manifest of {}/base:1: {} answered 401",
                "the credentials that were found may be wrong",
                _FOUND,
            ),
        },
    ),
    "wrong password for a token": (
        wrong_password_for_a_token,
        {
            "push": (
                "cannot get a token for {}/app: its token service answered 401",
                "may not push to app",
                _FOUND,
            ),
            **both(
                "cannot get a token for {}/base: its token service answered 401",
                "may not pull from base",
                _FOUND,
            ),
        },
    ),
    "no password": (
        no_password,
        {
            "push": ("log in with an account that may push to app", "config.json (not there)"),
            **both("log in with an account that may pull from base", "config.json (not there)"),
        },
    ),
    "expired token": (
        expired_token,
        {
            "push": ("cannot push to {}/app: {} answered 401", "(or they have expired)", _FOUND),
            **both(
                "cannot read the manifest of {}/base:1: {} answered 401",
                "(or they have expired)",
                _FOUND,
            ),
        },
    ),
    "expired login": (
        expired_login,
        everywhere("its token service answered 400 (invalid_grant)", "(or they have expired)"),
    ),
    "missing scope": (
        missing_scope,
        {
            "push": ("cannot push to {}/app", "not for an account that may push to app", _FOUND),
            **both(
                "cannot read the manifest of {}/base:1",
                "not for an account that may pull from base",
                _FOUND,
            ),
        },
    ),
    "realm pointing elsewhere": (
        realm_elsewhere,
        everywhere("credentials for {} were not sent", "tokens.example.com, which is another site"),
    ),
    "self-signed certificate": (
        self_signed,
        everywhere(
            "cannot verify the TLS certificate of {}: self-signed certificate",
            "--registry-certificate {}=FILE",
            "--skip-tls-verify-registry {}",
        ),
    ),
    "certificate for another host": (
        for_another_host,
        everywhere("certificate of {}", "not valid for '127.0.0.1'", "use a name that it is for"),
    ),
    "TLS where plain HTTP is expected": (
        tls_where_plain_is_meant,
        everywhere("cannot verify the TLS certificate of {}", "--registry-certificate {}=FILE"),
    ),
    "plain HTTP where TLS is expected": (
        plain_where_tls_is_meant,
        everywhere("{} does not speak TLS", "plain HTTP", "--insecure-registry {}"),
    ),
    "redirect to another host, without TLS": (
        led_away_from_tls,
        {
            "push": ("cannot push to {}/app: {} points to an address without TLS",),
            "pull": (
                "error: cannot fetch the config of {}/base:1: {} points to an address without TLS",
            ),
            "warm": ("cannot fetch the config of {}/base:1", "points to an address without TLS"),
        },
    ),
    "redirect to another host, which is not there": (
        led_to_another_host,
        {
            "push": ("cannot reach store.invalid", "while pushing {}/app:1"),
            **both("cannot fetch the config of {}/base:1", "cannot reach store.invalid"),
        },
    ),
    "mirror that serves wrong bytes": (
        lying_mirror,
        both("library/busybox:1", "instead of the promised sha256:"),
    ),
    "manifest of an unknown kind": (
        holding("application/vnd.example.thing+json", b"{}"),
        both("{}/base:1", "is not an image but application/vnd.example.thing+json"),
    ),
    "manifest of Docker's schema 1": (
        holding("application/vnd.docker.distribution.manifest.v1+prettyjws", b"{}"),
        both("{}/base:1", "schema 1", "build it anew"),
    ),
    "manifest of a web page": (
        holding("text/html", b"<html>"),
        both("{}/base:1", "is not a manifest: it is not JSON"),
    ),
    "manifest of a chart": (
        chart,
        both("{}/base:1", "it is no image but an artifact", "vnd.cncf.helm.config"),
    ),
    "tag that is immutable": (
        answering(
            Answer(400, code="TAG_INVALID", message="the tag is immutable"), "/app/manifests/"
        ),
        {"push": ("cannot push to {}/app: {} answered 400 (TAG_INVALID: the tag is immutable)",)},
    ),
    "destination without permission": (
        only_for_reading,
        {"push": ("cannot push to {}/app", "not for an account that may push to app", _FOUND)},
    ),
    "registry that is read-only": (
        read_only,
        {"push": ("cannot push to {}/app: {} answered 405", "it is read-only")},
    ),
    "mirror as a destination": (
        pull_through_mirror,
        {"push": ("cannot push to {}/app: {} answered 405", "a mirror of another one")},
    ),
    "repository name that is not allowed": (
        answering(Answer(400, code="NAME_INVALID", message="too odd"), "/v2/"),
        {
            "push": ("cannot push to {}/app: {} answered 400 (NAME_INVALID: too odd)",),
            **both("cannot read the manifest of {}/base:1: {} answered 400 (NAME_INVALID"),
        },
    ),
    "registry that repeats what it was sent": (
        repeating,
        everywhere("its token service answered 403 (DENIED: not <hidden>, nor <hidden>!)"),
    ),
    "limit on pulls": (
        answering(Answer(429, code="TOOMANYREQUESTS", message="slow down"), "/v2/base/"),
        both(
            "{} answered 429",
            "kaniko-executor login {}",
            "--registry-map={}=MIRROR",
            "kaniko-warmer",
        ),
    ),
}


def directions(said: Said) -> list[str]:
    """List the directions of a case: what is said of a push is said by both commands for it."""
    return [*said, *(["send"] if "push" in said else [])]


@pytest.mark.parametrize(
    ("case", "direction"),
    [(case, direction) for case, (_, said) in _CASES.items() for direction in directions(said)],
)
def test_one_sentence_and_no_secret(
    attempts: Attempts, tmp_path: Path, case: str, direction: str
) -> None:
    opened, said = _CASES[case]
    with opened(tmp_path) as scene:
        done: Finished = getattr(attempts, direction)(scene)

    told = sentence(done)
    for words in said["push" if direction == "send" else direction]:
        assert words.format(*[scene.registry] * words.count("{}")) in told


# --- names that cannot be ------------------------------------------------------------------

_NAMES = ("Team/App", "team//app", "-app", "team/app:1:2")


@pytest.mark.parametrize("name", _NAMES)
def test_name_of_a_base_image_that_cannot_be(attempts: Attempts, name: str) -> None:
    done = attempts.pull(Scene("registry.example.invalid", base=name))

    assert done.status == 1
    assert "Dockerfile:1:6: " in done.stderr
    assert f"'registry.example.invalid/{name}' is not an image name" in done.stderr


@pytest.mark.parametrize("name", _NAMES)
def test_name_of_an_image_to_warm_that_cannot_be(attempts: Attempts, name: str) -> None:
    done = attempts.warm(Scene("registry.example.invalid", base=name))

    assert done.status == 2
    assert f"'registry.example.invalid/{name}' is not an image name" in done.stderr
