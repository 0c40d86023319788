"""Our dataclasses are the standard ones, whoever looks at them: compared on generated classes."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaniko_core import lean

_NAMES = ("alpha", "beta", "self", "gamma", "cls")
_VALUES = st.one_of(st.integers(-2, 2), st.sampled_from(["", "x"]), st.tuples(st.integers(0, 1)))


def _fields(draw: st.DrawFn) -> list[tuple[str, dict[str, Any] | None]]:
    """Draw names with what each has of ``field()``; nothing is a field without any default."""
    names = draw(st.lists(st.sampled_from(_NAMES), unique=True, max_size=4))
    found: list[tuple[str, dict[str, Any] | None]] = []
    defaults = draw(st.integers(0, len(names)))
    for position, name in enumerate(names):
        given: dict[str, Any] = {}
        if position >= defaults:
            if draw(st.booleans()):
                given["default"] = draw(_VALUES)
            else:
                given["default_factory"] = list
            given |= draw(st.fixed_dictionaries({}, optional={"init": st.booleans()}))
        given |= draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "compare": st.booleans(),
                    "repr": st.booleans(),
                    "kw_only": st.booleans(),
                    "hash": st.none() | st.booleans(),
                },
            )
        )
        found.append((name, given or None))
    return found


@st.composite
def twins(draw: st.DrawFn) -> tuple[type, type]:
    """Return the standard dataclass, and ours, of one generated declaration."""
    fields = _fields(draw)
    wanted: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(("frozen", "slots", "kw_only", "order", "repr"), st.booleans()),
        )
    )
    counted = draw(st.booleans())
    kinds = draw(st.sampled_from([{}, {"KIND": "ClassVar[str]"}]))

    def declared() -> type:
        namespace: dict[str, Any] = {
            "__annotations__": {name: "object" for name, _ in fields} | kinds,
            "__doc__": "A declaration.",
            "__module__": __name__,
            "KIND": "fixed",
        }
        for name, wanted in fields:
            if wanted is not None:
                namespace[name] = dataclasses.field(**wanted)
        if counted:
            namespace["__post_init__"] = lambda self: born.append(type(self).__name__)
        return type("Declared", (), namespace)

    def result(decorator: Callable[..., Any]) -> type:
        made: type = decorator(**wanted)(declared())
        return made

    return result(dataclasses.dataclass), result(lean.dataclass)


born: list[str] = []


def outcome(action: Callable[[], object]) -> tuple[str, object]:
    """Return what *action* gives, or how it fails."""
    try:
        return "given", action()
    except Exception as error:
        return type(error).__name__, str(error)


def objects(cls: type, words: list[object], named: dict[str, object]) -> tuple[str, object]:
    return outcome(lambda: cls(*words, **named))


def content(instance: Any) -> dict[str, object]:
    return {
        field.name: getattr(instance, field.name, None) for field in dataclasses.fields(instance)
    }


@given(twins())
def test_looks_the_same(both: tuple[type, type]) -> None:
    standard, ours = both
    assert str(inspect.signature(standard)) == str(inspect.signature(ours))
    assert [repr(field) for field in dataclasses.fields(standard)] == [
        repr(field) for field in dataclasses.fields(ours)
    ]
    assert repr(standard.__dataclass_params__) == repr(ours.__dataclass_params__)  # type: ignore[attr-defined]
    assert set(standard.__dict__) == set(ours.__dict__)
    for name in set(standard.__dict__) - _OF_THE_MODULE:
        left, right = standard.__dict__[name], ours.__dict__[name]
        assert getattr(left, "__qualname__", None) == getattr(right, "__qualname__", None), name
        if not callable(left) and not name.startswith("__dataclass") and name in _PLAIN:
            assert left == right, name


def test_signature_is_seen_by_whoever_asks_for_what_is_bound_to_the_class() -> None:
    """Python 3.13 and later do."""

    @lean.dataclass(frozen=True, slots=True)
    class Fresh:
        """Nobody has made one."""

        number: int
        word: str = ""

    bound = inspect.getattr_static(Fresh, "__init__").__get__(Fresh, type)
    assert str(inspect.signature(bound)) == "(number: 'int', word: 'str' = '') -> None"


# What differs in name between versions of Python.
_OF_THE_MODULE = {"__dict__", "__weakref__", "__getstate__", "__setstate__"}
_PLAIN = ("__match_args__", "__slots__", "__doc__", "__hash__", "KIND", "__module__")


@given(twins(), st.lists(_VALUES, max_size=4), st.data())
def test_is_made_and_refused_alike(
    both: tuple[type, type], words: list[object], data: st.DataObject
) -> None:
    named = data.draw(st.dictionaries(st.sampled_from((*_NAMES, "other")), _VALUES, max_size=3))
    before = len(born)
    (how, one), (same, other) = (objects(cls, words, named) for cls in both)
    assert (len(born) - before) % 2 == 0
    assert how == same
    if how != "given":
        assert one == other
        return
    assert content(one) == content(other)
    assert repr(one) == repr(other) or not _shown(both[0])


def _shown(cls: type) -> bool:
    return "__repr__" in cls.__dict__


@given(twins(), st.lists(st.lists(_VALUES, max_size=4), min_size=2, max_size=2))
def test_compares_and_hashes_alike(both: tuple[type, type], words: list[list[object]]) -> None:
    pairs = [[objects(cls, given, {}) for given in words] for cls in both]
    if any(how != "given" for pair in pairs for how, _ in pair):
        return
    (one, two), (uno, due) = ([value for _, value in pair] for pair in pairs)
    assert (one == two) == (uno == due)
    assert one != uno
    assert outcome(lambda: one < two) == outcome(lambda: uno < due)  # type: ignore[operator]
    assert outcome(lambda: one >= two) == outcome(lambda: uno >= due)  # type: ignore[operator]
    assert outcome(lambda: one > object()) == outcome(lambda: uno > object())  # type: ignore[operator]
    assert outcome(lambda: hash(one)) == outcome(lambda: hash(uno))


@given(twins(), st.lists(_VALUES, max_size=4))
def test_changes_or_stays_alike(both: tuple[type, type], words: list[object]) -> None:
    made = [objects(cls, words, {}) for cls in both]
    if made[0][0] != "given":
        return
    (_, one), (_, other) = made
    # Not of other names: the standard one is confused about those where it has made slots.
    for name in (field.name for field in dataclasses.fields(both[0])):
        assert outcome(lambda name=name: delattr(one, name)) == outcome(
            lambda name=name: delattr(other, name)
        )
        assert outcome(lambda name=name: setattr(one, name, 1)) == outcome(
            lambda name=name: setattr(other, name, 1)
        )


@given(twins(), st.lists(_VALUES, max_size=4))
def test_is_copied_and_replaced_alike(both: tuple[type, type], words: list[object]) -> None:
    made = [objects(cls, words, {}) for cls in both]
    if made[0][0] != "given":
        return
    (_, one), (_, other) = made
    assert content(copy.copy(one)) == content(copy.copy(other))
    assert dataclasses.asdict(one) == dataclasses.asdict(other)  # type: ignore[call-overload]
    changed = [outcome(lambda v=v: content(dataclasses.replace(v, alpha=1))) for v in (one, other)]
    assert changed[0] == changed[1]


@lean.dataclass(frozen=True, slots=True, order=True)
class Known:
    """A class that pickles can name, with a name of a field that reads like a type."""

    KIND: ClassVar[str] = "kind"
    number: int
    words: tuple[str, ...] = ()
    inner: Known | None = None


@lean.dataclass(frozen=True)
class Open:
    """A class whose subclasses have attributes of their own."""

    number: int


class Derived(Open):
    """It is no dataclass itself."""


def test_is_pickled() -> None:
    value = Known(1, ("a",), Known(2))
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.deepcopy(value) == value
    assert hash(copy.deepcopy(value)) == hash(value)


def test_is_matched_by_position() -> None:
    match Known(1, ("a",)):
        case Known(number, words):
            assert (number, words) == (1, ("a",))
        case _:
            pytest.fail("it has positions")


def test_an_object_that_holds_itself_is_shown() -> None:
    @lean.dataclass
    class Loop:
        """It can be changed."""

        inside: object = None

    loop = Loop()
    loop.inside = loop
    assert repr(loop).endswith("Loop(inside=...)")


@pytest.mark.parametrize("value", [Known(1), Open(1)])
def test_gets_no_other_attributes(value: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'other'"):
        value.other = 1
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'other'"):
        del value.other


def test_subclasses_keep_their_own_attributes_open() -> None:
    derived = Derived(1)
    derived.other = 2  # type: ignore[attr-defined]
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'number'"):
        derived.number = 2  # type: ignore[misc]
    assert derived != Open(1)


def test_what_inherits_fields_is_left_to_the_standard_decorator() -> None:
    @lean.dataclass(frozen=True)
    class More(Open):
        """It has two."""

        other: int = 2

    assert repr(More(1)).endswith("More(number=1, other=2)")
    with pytest.raises(TypeError, match="cannot inherit non-frozen dataclass"):

        @lean.dataclass
        class Wrong(Open):
            """It would change what does not."""


def test_its_own_methods_stay() -> None:
    @lean.dataclass(frozen=True, slots=True)
    class Shy:
        """It does not tell."""

        word: str

        def __repr__(self) -> str:
            return "Shy(…)"

    assert repr(Shy("secret")) == "Shy(…)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        Shy("secret").word = ""  # type: ignore[misc]


def test_fields_in_an_impossible_order_are_refused_when_declared() -> None:
    with pytest.raises(TypeError, match="non-default argument"):

        @lean.dataclass(slots=True)
        class Wrong:
            """The second field would need a default."""

            one: int = 1
            two: int  # type: ignore[misc]


def test_values_that_are_no_fields_reach_the_end_of_the_making() -> None:
    @lean.dataclass(slots=True)
    class Counted:
        """A number and a factor, which is not kept."""

        number: int
        factor: dataclasses.InitVar[int] = 2
        _: dataclasses.KW_ONLY
        name: str = ""

        def __post_init__(self, factor: int) -> None:
            self.number *= factor

    assert Counted(3, 4, name="x").number == 12
    assert Counted(3).number == 6
    with pytest.raises(TypeError):
        Counted(3, 4, "x")  # type: ignore[misc]


def test_first_objects_may_be_made_in_several_threads() -> None:
    @lean.dataclass(frozen=True, slots=True)
    class Shared:
        """Nobody has made one."""

        number: int

    made: list[Shared] = []
    threads = [threading.Thread(target=lambda: made.append(Shared(1))) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert made == [Shared(1)] * 8


def test_nothing_is_compiled_before_it_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def watched(source: str, *rest: Any) -> None:
        compiled.append(source)
        run(source, *rest)

    run = exec
    monkeypatch.setattr("builtins.exec", watched)

    @lean.dataclass(frozen=True, slots=True, order=True)
    class Late:
        """Nobody makes many."""

        number: int

    assert Late(1) < Late(2)
    assert not [source for source in compiled if "number" in source]
    assert {Late(number) for number in range(100)} == {Late(number) for number in range(100)}
    assert [source for source in compiled if "number" in source]
