from __future__ import annotations

import random
from pathlib import Path

import pytest

from kaniko_core.builder.secrets import Mask, Secrets, read_secrets
from kaniko_core.errors import UsageError
from kaniko_core.values import Secret


def streamed(mask: Mask, *pieces: bytes) -> bytes:
    return b"".join(mask(piece) for piece in pieces) + mask.finish()


def test_file_and_value_are_read(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"from a file\n")
    found = read_secrets([Secret("a", tmp_path / "key"), Secret("b", variable="B", value=b"v")])
    assert found.values == {"a": b"from a file\n", "b": b"v"}


def test_of_two_with_one_id_the_later_counts() -> None:
    assert read_secrets([Secret("a", value=b"1"), Secret("a", value=b"2")]).values == {"a": b"2"}


def test_id_alone_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert read_secrets([Secret("token")]).values == {"token": b"x"}


def test_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the secret a cannot be read from .*/none: No such file"):
        read_secrets([Secret("a", tmp_path / "none")])


def test_directory_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Is a directory"):
        read_secrets([Secret("a", tmp_path)])


def test_unset_variable_is_one_sentence() -> None:
    with pytest.raises(UsageError, match="the variable TOKEN, which is not set"):
        read_secrets([Secret("a", variable="TOKEN")])


def test_empty_value_is_a_value() -> None:
    assert read_secrets([Secret("a", variable="A", value=b"")]).values == {"a": b""}


@pytest.mark.parametrize("from_file", [True, False])
def test_five_hundred_kibibytes_are_the_limit(tmp_path: Path, from_file: bool) -> None:
    def given(size: int) -> Secret:
        (tmp_path / "f").write_bytes(b"x" * size)
        return Secret("a", tmp_path / "f") if from_file else Secret("a", value=b"x" * size)

    assert len(read_secrets([given(500 << 10)]).values["a"]) == 500 << 10
    with pytest.raises(UsageError, match="larger than 500 KiB"):
        read_secrets([given((500 << 10) + 1)])


def test_values_are_in_no_representation() -> None:
    assert "hunter2" not in repr(Secrets({"a": b"hunter2"}))
    assert "hunter2" not in repr(Secret("a", value=b"hunter2"))


def test_value_is_masked() -> None:
    assert streamed(Mask([b"hunter2"]), b"it is hunter2, really\n") == b"it is ***, really\n"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_value_is_masked_wherever_the_output_is_cut(size: int) -> None:
    text = b"a hunter2hunter2 hunter hunterhunter2 hunt"
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    assert streamed(Mask([b"hunter2"]), *pieces) == b"a ****** hunter hunter*** hunt"


def test_what_cannot_be_a_secret_is_not_held_back() -> None:
    mask = Mask([b"hunter2"])
    assert mask(b"compiling main.c\nready? ") == b"compiling main.c\nready? "
    assert mask(b"hun") == b""
    assert mask(b"gry\n") == b"hungry\n"


def test_end_of_line_of_a_file_is_no_part_of_it() -> None:
    assert streamed(Mask([b"hunter2\r\n"]), b"[hunter2]") == b"[***]"


def test_every_line_of_a_value_is_masked() -> None:
    value = b"-----BEGIN KEY-----\n  c2VjcmV0\nab\n-----END KEY-----\n"
    assert streamed(Mask([value]), b"x c2VjcmV0 ab y") == b"x *** ab y"


def test_longest_secret_is_masked_where_several_begin() -> None:
    masked = [b"pass", b"password", b"password123"]
    assert streamed(Mask(masked), b"password12 password123 pass") == b"***12 *** ***"
    assert streamed(Mask(masked), b"passw", b"ord1", b"2!") == b"***12!"


def test_secret_that_begins_inside_another_is_masked_after_a_false_start() -> None:
    assert streamed(Mask([b"aaab"]), b"aaaa", b"aab") == b"aaa***"


@pytest.mark.parametrize("value", [b"", b"abc", b" a b"[:3], b"\n\n\n\n", b"    "])
def test_short_and_blank_values_are_left_alone(value: bytes) -> None:
    assert streamed(Mask([value]), b"abc     \n\n\n\n x") == b"abc     \n\n\n\n x"


def test_text_is_masked_as_a_whole() -> None:
    mask = Mask([b"hunter2", "schlüssel".encode()])
    assert mask.text("`curl hunter2` schlüssel hunt") == "`curl ***` *** hunt"


def test_masking_does_not_depend_on_the_cuts() -> None:
    chooser = random.Random(4)
    for _ in range(300):
        alphabet = b"ab\n"
        values = [
            bytes(chooser.choices(alphabet, k=chooser.randint(0, 9)))
            for _ in range(chooser.randint(0, 3))
        ]
        text = bytes(chooser.choices(alphabet, k=60))
        whole = streamed(Mask(values), text)
        cuts = sorted(chooser.choices(range(61), k=8))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, 60], strict=True)]
        assert streamed(Mask(values), *pieces) == whole


def test_long_secrets_cost_no_more_time_than_reading_them(tmp_path: Path) -> None:
    lines = [b"%032x" % number for number in range(15000)]
    mask = Mask([b"\n".join(lines)])
    assert mask(b"no secret here\n" * 4000).count(b"secret") == 4000
    assert mask(lines[77] + b"!") == b"***!"
