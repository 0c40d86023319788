from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from kaniko_core.builder.configure import start_stage
from kaniko_core.errors import ContentError, ContextError, DockerfileError
from kaniko_core.oci.entry import Entry, Kind
from tests.builder.copying import NOW, OLD, Kitchen, content, kinds, state

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change owners")
needs_no_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path)


def names(entries: dict[str, Entry]) -> list[str]:
    return list(entries)


class TestDestination:
    def test_file_becomes_the_destination(self, kitchen: Kitchen) -> None:
        kitchen.add_file("a.txt", "hello")
        entries = kitchen.copy("a.txt", "/b.txt")
        assert names(entries) == ["b.txt"]
        assert content(entries["b.txt"]) == b"hello"

    def test_file_goes_into_a_destination_with_a_slash(self, kitchen: Kitchen) -> None:
        kitchen.add_file("d/a.txt")
        assert names(kitchen.copy("d/a.txt", "/x/y/")) == ["x", "x/y", "x/y/a.txt"]

    @pytest.mark.parametrize("destination", ["/x", "/x/", "/x/."])
    def test_file_goes_into_a_directory_that_exists(
        self, kitchen: Kitchen, destination: str
    ) -> None:
        kitchen.add_file("a.txt")
        (kitchen.image / "x").mkdir()
        assert names(kitchen.copy("a.txt", destination)) == ["x/a.txt"]

    @pytest.mark.parametrize(
        ("destination", "name"),
        [
            (".", "w/d/a"),
            ("./", "w/d/a"),
            ("b", "w/d/b"),
            ("../b", "w/b"),
            ("/b", "b"),
            ("", "w/d/a"),
        ],
    )
    def test_relative_destination_is_below_workdir(
        self, kitchen: Kitchen, destination: str, name: str
    ) -> None:
        kitchen.add_file("a")
        (kitchen.image / "w/d").mkdir(parents=True)
        kitchen.state = state(workdir="/w/d")
        assert names(kitchen.copy("a", destination)) == [name]

    def test_existing_directories_are_left_as_they_are(self, kitchen: Kitchen) -> None:
        kitchen.add_file("d/sub/a")
        (kitchen.image / "there/sub").mkdir(parents=True)
        entries = kitchen.copy("d", "/there")
        # What was named gives its contents; what lies in it comes with its own mode and time.
        assert names(entries) == ["there/sub", "there/sub/a"]

    def test_made_directories_have_the_time_of_what_they_are_made_in(
        self, kitchen: Kitchen
    ) -> None:
        """The time of the build would make another layer of the same inputs each day."""
        kitchen.add_file("a")
        (kitchen.image / "x").mkdir()
        os.utime(kitchen.image / "x", ns=(NOW, NOW))
        made = kitchen.copy("a", "/x/y/z/a")["x/y/z"]
        assert (made.mode, made.uid, made.gid, made.mtime_ns) == (0o755, 0, 0, NOW)

    def test_directories_made_in_the_root_have_the_time_of_the_base_image(
        self, kitchen: Kitchen
    ) -> None:
        """That of the root itself is no part of any layer, and another in every build."""
        kitchen.add_file("a")
        base = replace(kitchen.state.config, created="2024-05-01T12:00:00.5Z")
        kitchen.state = start_stage(base, kitchen.state.scope)
        made = kitchen.copy("a", "/x/y/a")
        assert {made["x"].mtime_ns, made["x/y"].mtime_ns} == {1714564800 * 10**9}

    def test_made_directories_have_the_epoch_where_there_is_one(self, kitchen: Kitchen) -> None:
        path = kitchen.add_file("d/a")
        os.utime(path, ns=(OLD, OLD))
        entries = kitchen.copy("d/a", "/x/y/a", epoch=NOW // 10**9)
        times = {name: entry.mtime_ns for name, entry in entries.items()}
        assert times == {"x": NOW, "x/y": NOW, "x/y/a": OLD}

    def test_new_directory_for_contents_has_the_usual_mode_and_the_sources_time(
        self, kitchen: Kitchen
    ) -> None:
        kitchen.add_file("d/a")
        (kitchen.context / "d").chmod(0o700)
        os.utime(kitchen.context / "d", ns=(OLD, OLD))
        made = kitchen.copy("d", "/new")["new"]
        assert (made.mode, made.mtime_ns) == (0o755, OLD)

    def test_links_in_the_destination_are_followed_inside_the_image(self, kitchen: Kitchen) -> None:
        kitchen.add_file("a")
        (kitchen.image / "usr/lib").mkdir(parents=True)
        (kitchen.image / "lib").symlink_to("usr/lib")
        (kitchen.image / "up").symlink_to("../../../etc")
        assert names(kitchen.copy("a", "/lib/")) == ["usr/lib/a"]
        assert names(kitchen.copy("a", "/lib/sub/a")) == ["usr/lib/sub", "usr/lib/sub/a"]
        assert names(kitchen.copy("a", "/up/a")) == ["etc", "etc/a"]

    def test_link_to_a_file_is_followed_too(self, kitchen: Kitchen) -> None:
        kitchen.add_file("a")
        (kitchen.image / "target").write_text("old")
        (kitchen.image / "link").symlink_to("target")
        assert names(kitchen.copy("a", "/link")) == ["target"]

    def test_link_inside_the_destination_directory_is_replaced(self, kitchen: Kitchen) -> None:
        kitchen.add_file("a")
        (kitchen.image / "d").mkdir()
        (kitchen.image / "d/a").symlink_to("/elsewhere")
        assert kinds(kitchen.copy("a", "/d/")) == {"d/a": Kind.FILE}

    def test_links_that_lead_in_a_circle_are_refused(self, kitchen: Kitchen) -> None:
        kitchen.add_file("a")
        (kitchen.image / "loop").symlink_to("loop")
        with pytest.raises(ContentError, match="/loop"):
            kitchen.copy("a", "/loop/x")

    def test_file_in_the_way_is_named(self, kitchen: Kitchen) -> None:
        kitchen.add_file("a")
        (kitchen.image / "f").write_text("")
        with pytest.raises(DockerfileError, match="/f is a file in the image, not a directory"):
            kitchen.copy("a", "/f/x")
        kitchen.add_file("d/a")
        with pytest.raises(DockerfileError, match="Dockerfile:3: /f is a file"):
            kitchen.copy("d", "/f")

    def test_file_does_not_replace_a_directory_that_was_named(self, kitchen: Kitchen) -> None:
        kitchen.add_file("a")
        (kitchen.image / "d/a").mkdir(parents=True)
        with pytest.raises(DockerfileError, match="/d/a is a directory"):
            kitchen.copy("a", "/d")

    def test_several_sources_need_a_slash(self, kitchen: Kitchen) -> None:
        kitchen.add_file("a")
        kitchen.add_file("b")
        with pytest.raises(DockerfileError, match="2 sources") as caught:
            kitchen.copy("a", "b", "/d")
        assert caught.value.hint == "write /d/"
        assert names(kitchen.copy("a", "b", "/d/")) == ["d", "d/a", "d/b"]
        assert names(kitchen.copy("a", "b", ".")) == ["a", "b"]
        (kitchen.image / "there").mkdir()
        assert names(kitchen.copy("a", "b", "/there")) == ["there/a", "there/b"]

    def test_words_are_expanded(self, kitchen: Kitchen) -> None:
        kitchen.add_file("one/a")
        kitchen.state = state(env={"N": "one", "OUT": "/out", "WHO": "5:6"})
        entries = kitchen.copy("${N}/a", "$OUT/", chown="$WHO")
        assert names(entries) == ["out", "out/a"]
        assert (entries["out/a"].uid, entries["out/a"].gid) == (5, 6)


class TestMetadata:
    def test_mode_and_time_are_the_sources_and_the_owner_is_root(self, kitchen: Kitchen) -> None:
        path = kitchen.add_file("a", mode=0o4751)
        os.utime(path, ns=(OLD, OLD + 123))
        entry = kitchen.copy("a", "/")["a"]
        assert (entry.mode, entry.uid, entry.gid, entry.mtime_ns) == (0o4751, 0, 0, OLD + 123)

    @needs_root
    def test_owner_of_the_contexts_files_does_not_matter(self, kitchen: Kitchen) -> None:
        os.chown(kitchen.add_file("d/a"), 1234, 1234)
        assert kitchen.copy("d", "/d")["d/a"].uid == 0

    @needs_root
    def test_stages_files_keep_their_owner(self, kitchen: Kitchen) -> None:
        os.chown(kitchen.add_file("d/sub/a"), 12, 34)
        os.chown(kitchen.context / "d", 56, 78)
        entries = kitchen.copy("d", "/d", stage=True)
        assert (entries["d/sub/a"].uid, entries["d/sub/a"].gid) == (12, 34)
        # The directory that takes the contents is made, not copied: it is root's.
        assert (entries["d"].uid, entries["d"].gid) == (0, 0)

    def test_chown_by_name_asks_the_image(self, kitchen: Kitchen) -> None:
        kitchen.add_file("d/a")
        (kitchen.image / "etc").mkdir()
        (kitchen.image / "etc/passwd").write_text("app:x:7:8::/:\n")
        (kitchen.image / "etc/group").write_text("staff:x:50:\n")
        entries = kitchen.copy("d", "/x/d", chown="app")
        assert {(e.uid, e.gid) for e in entries.values()} == {(7, 8)}
        assert names(entries) == ["x", "x/d", "x/d/a"]
        assert kitchen.copy("d/a", "/", chown="app:staff")["a"].gid == 50

    def test_chown_by_unknown_name_is_refused(self, kitchen: Kitchen) -> None:
        kitchen.add_file("a")
        with pytest.raises(DockerfileError, match="Dockerfile:3: no user app in the image's"):
            kitchen.copy("a", "/", chown="app")

    def test_octal_chmod_counts_for_made_directories_too(self, kitchen: Kitchen) -> None:
        kitchen.add_file("d/a", mode=0o600)
        entries = kitchen.copy("d", "/x/y", chmod="0711")
        assert [entry.mode for entry in entries.values()] == [0o711, 0o711, 0o711]

    def test_symbolic_chmod_starts_from_the_sources_mode(self, kitchen: Kitchen) -> None:
        kitchen.add_file("d/run.sh", mode=0o644)
        kitchen.add_file("d/sub/tool", mode=0o744)
        entries = kitchen.copy("d", "/x", chmod="go=rX")
        assert (entries["x/run.sh"].mode, entries["x/sub/tool"].mode) == (0o644, 0o755)

    @pytest.mark.parametrize("chmod", ["9", "99999", "u=q", "0o7"])
    def test_impossible_chmod_is_refused(self, kitchen: Kitchen, chmod: str) -> None:
        kitchen.add_file("a")
        with pytest.raises(DockerfileError):
            kitchen.copy("a", "/", chmod=chmod)

    def test_extended_attributes_are_kept(self, kitchen: Kitchen) -> None:
        path = kitchen.add_file("a")
        try:
            os.setxattr(path, "user.note", b"keep")
        except OSError:
            pytest.skip("this file system has no user attributes")
        assert kitchen.copy("a", "/")["a"].xattrs == {b"user.note": b"keep"}


class TestKinds:
    def test_named_link_is_followed_and_keeps_its_name(self, kitchen: Kitchen) -> None:
        kitchen.add_file("real/file", "content")
        (kitchen.context / "link").symlink_to("real/file")
        entries = kitchen.copy("link", "/")
        assert kinds(entries) == {"link": Kind.FILE}
        assert content(entries["link"]) == b"content"

    def test_links_inside_a_directory_stay_links(self, kitchen: Kitchen) -> None:
        (kitchen.context / "d").mkdir()
        (kitchen.context / "d/link").symlink_to("../../outside")
        entry = kitchen.copy("d", "/d")["d/link"]
        assert (entry.kind, entry.link) == (Kind.SYMLINK, b"../../outside")

    def test_link_never_leads_out_of_the_context(self, kitchen: Kitchen) -> None:
        (kitchen.path / "secret").write_text("host")
        (kitchen.context / "up").symlink_to("../secret")
        with pytest.raises(DockerfileError, match='"up" in the build context is a symbolic link'):
            kitchen.copy("up", "/")
        kitchen.add_file("secret", "context")
        assert content(kitchen.copy("up", "/")["up"]) == b"context"

    def test_hard_links_of_one_tree_stay_one_file(self, kitchen: Kitchen) -> None:
        first = kitchen.add_file("d/b", "shared")
        os.link(first, kitchen.context / "d/a")
        os.link(first, kitchen.context / "d/z")
        entries = kitchen.copy("d", "/d")
        assert kinds(entries) == {
            "d": Kind.DIRECTORY,
            "d/a": Kind.FILE,
            "d/b": Kind.HARDLINK,
            "d/z": Kind.HARDLINK,
        }
        assert {entries["d/b"].link, entries["d/z"].link} == {b"d/a"}
        assert (entries["d/a"].size, entries["d/b"].size) == (6, 0)

    def test_file_that_replaces_a_hard_link_is_no_link(self, kitchen: Kitchen) -> None:
        os.link(kitchen.add_file("one/a", "same"), kitchen.context / "one/b")
        kitchen.add_file("two/a", "other")
        entries = kitchen.copy("one", "two", "/d/")
        assert (entries["d/a"].kind, content(entries["d/a"])) == (Kind.FILE, b"other")
        assert (entries["d/b"].kind, content(entries["d/b"])) == (Kind.FILE, b"same")

    def test_fifo_is_copied_and_socket_is_not(self, kitchen: Kitchen, tmp_path: Path) -> None:
        directory = kitchen.context / "d"
        directory.mkdir()
        os.mkfifo(directory / "fifo", 0o640)
        with socket.socket(socket.AF_UNIX) as server:
            previous = Path.cwd()
            os.chdir(directory)  # the path of a socket may be too long
            try:
                server.bind("socket")
            finally:
                os.chdir(previous)
            entries = kitchen.copy("d", "/d")
        assert kinds(entries) == {"d": Kind.DIRECTORY, "d/fifo": Kind.FIFO}

    @needs_root
    def test_devices_are_copied_from_stages(self, kitchen: Kitchen) -> None:
        (kitchen.context / "dev").mkdir()
        try:
            os.mknod(kitchen.context / "dev/null", 0o20666, os.makedev(1, 3))
        except OSError:
            pytest.skip("devices cannot be made here")
        entry = kitchen.copy("dev", "/dev", stage=True)["dev/null"]
        assert (entry.kind, entry.device) == (Kind.CHARACTER, (1, 3))

    @pytest.mark.parametrize("name", [".wh.gone", ".wh..wh..opq"])
    def test_name_of_a_whiteout_is_refused(self, kitchen: Kitchen, name: str) -> None:
        kitchen.add_file(f"d/{name}")
        with pytest.raises(ContentError, match=r"\.wh\."):
            kitchen.copy("d", "/d")

    def test_bytes_that_are_no_utf8_survive(self, kitchen: Kitchen) -> None:
        (kitchen.context / "d").mkdir()
        Path(os.fsdecode(os.fsencode(kitchen.context) + b"/d/\xff")).write_text("")
        assert kitchen.copy("d", "/d")[os.fsdecode(b"d/\xff")].name == b"d/\xff"

    def test_tree_deeper_than_pythons_stack_is_copied(self, kitchen: Kitchen) -> None:
        directories = [kitchen.context / "top"]
        for _ in range(1100):
            directories.append(directories[-1] / "d")
        for directory in directories:
            directory.mkdir()
        try:
            assert len(kitchen.copy("top", "/")) == 1100
        finally:
            # Nor can shutil.rmtree remove it.
            for directory in reversed(directories):
                directory.rmdir()


class TestConflicts:
    def test_directories_merge_and_later_sources_win(self, kitchen: Kitchen) -> None:
        kitchen.add_file("one/sub/a", "1")
        kitchen.add_file("one/both", "1")
        kitchen.add_file("two/sub/b", "2")
        kitchen.add_file("two/both", "2")
        entries = kitchen.copy("one", "two", "/d/")
        assert names(entries) == ["d", "d/both", "d/sub", "d/sub/a", "d/sub/b"]
        assert content(entries["d/both"]) == b"2"

    def test_directory_replaces_a_link(self, kitchen: Kitchen) -> None:
        kitchen.add_file("tree/x/file")
        (kitchen.image / "d").mkdir()
        (kitchen.image / "other/x").mkdir(parents=True)
        (kitchen.image / "d/x").symlink_to("/other/x")
        assert kinds(kitchen.copy("tree", "/d")) == {
            "d/x": Kind.DIRECTORY,
            "d/x/file": Kind.FILE,
        }

    def test_link_replaces_a_directory(self, kitchen: Kitchen) -> None:
        (kitchen.context / "tree").mkdir()
        (kitchen.context / "tree/x").symlink_to("y")
        (kitchen.image / "d/x/full").mkdir(parents=True)
        assert kinds(kitchen.copy("tree", "/d")) == {"d/x": Kind.SYMLINK}

    def test_what_an_earlier_source_put_below_a_replaced_directory_is_gone(
        self, kitchen: Kitchen
    ) -> None:
        kitchen.add_file("one/x/file")
        kitchen.add_file("two/x", "now a file")
        entries = kitchen.copy("one", "two", "/d/")
        assert kinds(entries) == {"d": Kind.DIRECTORY, "d/x": Kind.FILE}

    def test_directory_onto_a_file_is_refused(self, kitchen: Kitchen) -> None:
        kitchen.add_file("tree/x/file")
        (kitchen.image / "d").mkdir()
        (kitchen.image / "d/x").write_text("")
        with pytest.raises(DockerfileError, match="/d/x is a directory in the build context and a"):
            kitchen.copy("tree", "/d")


class TestSources:
    def test_dots_stop_at_the_root_of_the_context(self, kitchen: Kitchen) -> None:
        kitchen.add_file("a")
        assert names(kitchen.copy("../../a", "/")) == ["a"]
        assert names(kitchen.copy("/x/../a", "/")) == ["a"]

    @pytest.mark.parametrize("word", [".", "/", "./", "sub/.."])
    def test_whole_context(self, kitchen: Kitchen, word: str) -> None:
        kitchen.add_file("a")
        kitchen.add_file("sub/b")
        assert names(kitchen.copy(word, "/")) == ["a", "sub", "sub/b"]

    def test_contents_of_a_directory_are_copied_not_itself(self, kitchen: Kitchen) -> None:
        kitchen.add_file("d/a")
        (kitchen.image / "x").mkdir()
        assert names(kitchen.copy("d", "/x/")) == ["x/a"]

    def test_link_to_a_directory_gives_its_contents(self, kitchen: Kitchen) -> None:
        kitchen.add_file("real/a")
        (kitchen.context / "link").symlink_to("real")
        assert names(kitchen.copy("link", "/x")) == ["x", "x/a"]
        assert names(kitchen.copy("link/a", "/y")) == ["y"]

    def test_missing_source_is_named_with_its_likely_spelling(self, kitchen: Kitchen) -> None:
        kitchen.add_file("src/main.go")
        with pytest.raises(DockerfileError) as caught:
            kitchen.copy("src/mian.go", "/")
        assert 'Dockerfile:3: source "src/mian.go" does not exist in the build context' in str(
            caught.value
        )
        assert caught.value.hint == "did you mean src/main.go?"

    def test_source_outside_the_context_is_explained(self, kitchen: Kitchen) -> None:
        with pytest.raises(DockerfileError, match=r'"../x" is outside the build context'):
            kitchen.copy("../x", "/")

    def test_missing_directory_of_a_wildcard_is_named(self, kitchen: Kitchen) -> None:
        with pytest.raises(DockerfileError, match=r'"gone/\*\.txt" does not exist'):
            kitchen.copy("gone/*.txt", "/")

    @needs_no_root
    def test_unreadable_file_is_named(self, kitchen: Kitchen) -> None:
        kitchen.add_file("d/secret", mode=0)
        with pytest.raises(ContextError, match='cannot read "d/secret" in the build context'):
            kitchen.copy("d", "/d")

    def test_stage_is_named_in_errors(self, kitchen: Kitchen) -> None:
        with pytest.raises(DockerfileError, match='"gone" does not exist in stage builder'):
            kitchen.copy("gone", "/", stage=True)


class TestWildcards:
    def test_matches_are_sorted_and_go_into_the_directory(self, kitchen: Kitchen) -> None:
        for name in ("b.txt", "a.txt", "c.md"):
            kitchen.add_file(name)
        assert names(kitchen.copy("*.txt", "/d/")) == ["d", "d/a.txt", "d/b.txt"]

    def test_one_match_may_be_renamed(self, kitchen: Kitchen) -> None:
        kitchen.add_file("app-1.2.jar")
        assert names(kitchen.copy("app-*.jar", "/app.jar")) == ["app.jar"]

    def test_several_matches_need_a_directory(self, kitchen: Kitchen) -> None:
        kitchen.add_file("a.txt")
        kitchen.add_file("b.txt")
        with pytest.raises(DockerfileError, match="matches 2 sources"):
            kitchen.copy("*.txt", "/d")
        (kitchen.image / "d").mkdir()
        assert names(kitchen.copy("*.txt", "/d")) == ["d/a.txt", "d/b.txt"]

    def test_matched_directories_give_their_contents(self, kitchen: Kitchen) -> None:
        kitchen.add_file("mod-a/x")
        kitchen.add_file("mod-b/y")
        assert names(kitchen.copy("mod-*", "/d/")) == ["d", "d/x", "d/y"]

    def test_several_components_match_one_by_one(self, kitchen: Kitchen) -> None:
        kitchen.add_file("a/1/pom.xml")
        kitchen.add_file("b/2/pom.xml")
        kitchen.add_file("b/deep/er/pom.xml")
        (kitchen.context / "link").symlink_to("a")
        found = kitchen.copy("*/[0-9]/pom.xml", "/d/")
        assert names(found) == ["d", "d/pom.xml"]
        assert names(kitchen.copy("a/*/pom.xml", "/d/")) == ["d", "d/pom.xml"]

    def test_nothing_matched_is_no_error(self, kitchen: Kitchen) -> None:
        kitchen.add_file("a.txt")
        assert kitchen.copy("*.md", "/d/") == {}

    def test_links_are_followed_when_matched(self, kitchen: Kitchen) -> None:
        kitchen.add_file("real")
        (kitchen.context / "a.lnk").symlink_to("real")
        assert kinds(kitchen.copy("*.lnk", "/")) == {"a.lnk": Kind.FILE}

    def test_hidden_files_match_a_star(self, kitchen: Kitchen) -> None:
        kitchen.add_file(".env")
        assert names(kitchen.copy("*", "/")) == [".env"]


class TestIgnoring:
    def test_ignored_files_do_not_exist(self, kitchen: Kitchen) -> None:
        kitchen.add_file("keep/a")
        kitchen.add_file("keep/b.log")
        kitchen.add_file("node_modules/x/y")
        kitchen.ignore = ("node_modules", "**/*.log")
        assert names(kitchen.copy(".", "/")) == ["keep", "keep/a"]
        assert kitchen.copy("keep/*.log", "/") == {}

    def test_naming_an_ignored_file_says_why_it_is_missing(self, kitchen: Kitchen) -> None:
        kitchen.add_file("secret/key")
        kitchen.ignore = ("secret",)
        with pytest.raises(DockerfileError, match=r"excluded from the build context by \.docker"):
            kitchen.copy("secret/key", "/")

    def test_exceptions_bring_their_directories_along(self, kitchen: Kitchen) -> None:
        kitchen.add_file("src/deep/keep.go")
        kitchen.add_file("src/deep/drop.txt")
        kitchen.add_file("src/empty/drop.txt")
        kitchen.ignore = ("*", "!**/*.go")
        assert names(kitchen.copy(".", "/")) == ["src", "src/deep", "src/deep/keep.go"]
        assert names(kitchen.copy("src", "/s")) == ["s", "s/deep", "s/deep/keep.go"]

    def test_patterns_do_not_reach_into_stages(self, kitchen: Kitchen) -> None:
        kitchen.add_file("a.log")
        kitchen.ignore = ("*.log",)
        assert names(kitchen.copy("a.log", "/", stage=True)) == ["a.log"]

    def test_link_does_not_lead_to_what_is_ignored(self, kitchen: Kitchen) -> None:
        kitchen.add_file("secret")
        (kitchen.context / "way").symlink_to("secret")
        kitchen.ignore = ("secret",)
        with pytest.raises(DockerfileError, match=r"excluded by \.dockerignore"):
            kitchen.copy("way", "/")

    def test_exclude_flag_leaves_files_out(self, kitchen: Kitchen) -> None:
        kitchen.add_file("d/a.txt")
        kitchen.add_file("d/b.md")
        kitchen.add_file("d/sub/c.md")
        kitchen.add_file("home.md")
        exclude = ("**/*.md",)
        assert names(kitchen.copy("d", "/x", exclude=exclude)) == ["x", "x/a.txt", "x/sub"]
        assert kitchen.copy("h*", "/x/", exclude=exclude) == {}
