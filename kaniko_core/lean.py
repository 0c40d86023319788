"""Dataclasses that cost little to declare: what the standard ones compile waits for its use.

:func:`dataclasses.dataclass` writes, compiles and runs up to ten functions for each class, and a
program that starts declares hundreds of classes and makes objects of a few. The decorator of this
module leaves fields, slots and all that belongs to them to the standard one, and has

- ``__init__`` made by it, too, but for classes of which more than a few objects are made;
- all other methods as closures, which need no compiler: equality, order and hash take what
  :func:`operator.attrgetter` reads, as quickly as compiled methods would.

Classes are what they would have been, whoever looks: ``tests/test_lean.py`` compares them.
Whatever is rare here is left to the standard decorator altogether: classes that inherit fields,
have no docstring, or define a method of their own that a dataclass would come with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING
from functools import cached_property, partial
from operator import attrgetter, ge, gt, le, lt
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

# What a dataclass comes with, unless the class has it already: then it goes without, or refuses.
_METHODS = frozenset(
    "__init__ __repr__ __eq__ __lt__ __le__ __gt__ __ge__ __hash__ "
    "__setattr__ __delattr__ __getstate__ __setstate__".split()
)
# Objects of a class that are made before its ``__init__`` is compiled: about what that costs.
_BEFORE_COMPILING = 50
# What the standard decorator searches each annotation for, if that is a text.
_MARKS = ("ClassVar", "InitVar", "KW_ONLY")
_ORDER = {"__lt__": lt, "__le__": le, "__gt__": gt, "__ge__": ge}
_Fields = tuple[dataclasses.Field[Any], ...]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls: type | None = None, /, **wanted: bool) -> Any:
        """Make *cls* a dataclass as the standard decorator does, with the arguments that it has.

        Those that are seldom used, such as ``eq`` and ``unsafe_hash``, get the standard one.
        """

        def made(declared: type) -> type:
            if _is_rare(declared) or not wanted.keys() <= _Lean.ARGUMENTS:
                return dataclasses.dataclass(**wanted)(declared)
            return _Lean(**wanted).dataclass(declared)

        return made if cls is None else made(cls)


def _is_rare(declared: type) -> bool:
    return (
        not declared.__doc__
        or not _METHODS.isdisjoint(declared.__dict__)
        or any(map(dataclasses.is_dataclass, declared.__bases__))
    )


class _Lean:
    """What one class wants to be."""

    ARGUMENTS = frozenset({"frozen", "slots", "kw_only", "order", "repr"})

    def __init__(
        self,
        *,
        frozen: bool = False,
        slots: bool = False,
        kw_only: bool = False,
        order: bool = False,
        repr: bool = True,
    ) -> None:
        self.frozen = frozen
        self.slots = slots
        self.kw_only = kw_only
        self.order = order
        self.repr = repr

    def dataclass(self, declared: type) -> type:
        """Return *declared* as a dataclass; with slots, it is another class of the same name."""
        only_fields = dataclasses.dataclass(
            init=False, repr=False, eq=False, slots=self.slots, kw_only=self.kw_only
        )
        cls: Any = _with_plain_annotations(only_fields, declared)
        # Read by the standard decorator, of classes that others inherit from.
        parameters = cls.__dataclass_params__
        parameters.init = parameters.eq = True
        parameters.repr, parameters.order, parameters.frozen = self.repr, self.order, self.frozen
        fields = dataclasses.fields(cls)
        wanted = {"frozen": self.frozen, "slots": self.slots, "kw_only": self.kw_only}
        cls.__init__ = _Init(cls, fields, wanted)
        if not _has_ordered_defaults(fields):
            _ = cls.__init__  # refused now, as always, not when the first object is made
        if self.repr:
            _give(cls, "__repr__", _repr([field.name for field in fields if field.repr]))
        self._compare(cls, fields)
        if self.frozen:
            _freeze(cls, frozenset(field.name for field in fields))
            if self.slots:
                cls.__getstate__, cls.__setstate__ = _state, _restore
        return cls  # type: ignore[no-any-return]

    def _compare(self, cls: Any, fields: _Fields) -> None:
        compared = [field.name for field in fields if field.compare]
        values = _values(compared)
        _give(cls, "__eq__", _equal(values))
        cls.__hash__ = None
        if self.frozen:
            hashed = [f.name for f in fields if (f.compare if f.hash is None else f.hash)]
            _give(cls, "__hash__", _hash(values if hashed == compared else _values(hashed)))
        if self.order:
            for name, holds in _ORDER.items():
                _give(cls, name, _ordered(holds, values))


def _with_plain_annotations(decorate: Callable[[type], type], declared: type) -> type:
    """Return *declared* as *decorate* makes it, which need not search texts for what is not there.

    It does so three times for each annotation, and takes a third of its time for it.
    """
    annotations = declared.__annotations__
    said = " ".join(map(str, annotations.values()))
    if any(mark in said for mark in _MARKS):
        return decorate(declared)
    declared.__annotations__ = dict.fromkeys(annotations, object)
    cls: Any = decorate(declared)
    # With slots, it is another class.
    declared.__annotations__ = cls.__annotations__ = annotations
    for field in dataclasses.fields(cls):
        field.type = annotations[field.name]
    return cls  # type: ignore[no-any-return]


def _has_ordered_defaults(fields: _Fields) -> bool:
    """Whether every positional field after one with a default has one, too."""
    seen = False
    for field in fields:
        if not field.init or field.kw_only:
            continue
        if seen and not _has_default(field):
            return False
        seen = seen or _has_default(field)
    return True


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


# --- making objects -------------------------------------------------------------------------


class _Init:
    """``__init__`` of a class, until it is worth to have the standard one compiled.

    Objects are made in a loop over the fields, which is some microseconds slower than compiled
    code, and the compiler takes some hundreds. Whoever looks at ``__init__`` sees the standard one;
    it is also what refuses wrong arguments.
    """

    def __init__(self, cls: Any, fields: _Fields, wanted: dict[str, bool]) -> None:
        self._cls = cls
        self._fields = fields
        self._wanted = wanted
        # Something else than plain fields, such as an InitVar, is for the standard decorator.
        plain = len(fields) == len(cls.__annotations__) and all(field.init for field in fields)
        self._left = _BEFORE_COMPILING if plain else 0

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        # Since Python 3.13, inspect.signature asks as if the class were an object of itself.
        if not isinstance(instance, self._cls) or self._left <= 0:
            return self._compiled().__get__(instance, owner)
        self._left -= 1
        return partial(self._fill, instance)

    @cached_property
    def _positional(self) -> list[str]:
        return [field.name for field in self._fields if not field.kw_only]

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(field.name for field in self._fields)

    @cached_property
    def _required(self) -> frozenset[str]:
        return frozenset(field.name for field in self._fields if not _has_default(field))

    def _fill(self, instance: Any, /, *words: Any, **named: Any) -> None:
        """Give *instance* its attributes, as the ``__init__`` of its class would."""
        values = dict(zip(self._positional, words, strict=False)) | named
        known = len(values) == len(words) + len(named) and values.keys() <= self._names
        if not known or not self._required <= values.keys():
            self._compiled()(instance, *words, **named)
            return
        assign = object.__setattr__ if self._wanted["frozen"] else setattr
        for field in self._fields:
            if field.name in values:
                assign(instance, field.name, values[field.name])
            elif field.default is not MISSING:
                assign(instance, field.name, field.default)
            elif field.default_factory is not MISSING:
                assign(instance, field.name, field.default_factory())
        if hasattr(instance, "__post_init__"):
            instance.__post_init__()

    def _compiled(self) -> Any:
        """Give the class the ``__init__`` of a standard one with the same fields, and return it."""
        cls = self._cls
        annotations = cls.__annotations__
        # Of fields the class has no defaults any more, but of what only looks like one it has.
        others = {name: cls.__dict__[name] for name in annotations if name in cls.__dict__}
        namespace = {
            "__annotations__": annotations,
            "__doc__": cls.__doc__,
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            **others,
            **{field.name: field for field in self._fields},
        }
        if hasattr(cls, "__post_init__"):
            namespace["__post_init__"] = cls.__post_init__
        standard = dataclasses.dataclass(repr=False, eq=False, match_args=False, **self._wanted)
        cls.__init__ = standard(type(cls.__name__, (), namespace)).__dict__["__init__"]
        return cls.__init__


# --- methods without a compiler ---------------------------------------------------------------


def _give(cls: Any, name: str, method: Any) -> None:
    """Make *method* one of *cls*, with a name as if it had been written there."""
    method.__name__ = name
    method.__qualname__ = f"{cls.__qualname__}.{name}"
    setattr(cls, name, method)


def _values(names: list[str]) -> Callable[[Any], Any]:
    """Return what reads the attributes *names* as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    if not names:
        return lambda _: ()
    only = attrgetter(names[0])
    return lambda instance: (only(instance),)


def _equal(values: Callable[[Any], Any]) -> Any:
    def equal(self: Any, other: Any) -> Any:
        if other.__class__ is self.__class__:
            return values(self) == values(other)
        return NotImplemented

    return equal


def _hash(values: Callable[[Any], Any]) -> Any:
    def hashed(self: Any) -> int:
        return hash(values(self))

    return hashed


def _ordered(holds: Callable[[Any, Any], Any], values: Callable[[Any], Any]) -> Any:
    def compare(self: Any, other: Any) -> Any:
        if other.__class__ is self.__class__:
            return holds(values(self), values(other))
        return NotImplemented

    return compare


def _repr(names: list[str]) -> Any:
    @recursive_repr()
    def shown(self: Any) -> str:
        said = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{self.__class__.__qualname__}({said})"

    return shown


def _freeze(cls: Any, names: frozenset[str]) -> None:
    """Let no object of *cls* change; of a subclass, none of the attributes *names*."""

    def assign(self: Any, name: str, value: object) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def delete(self: Any, name: str) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    _give(cls, "__setattr__", assign)
    _give(cls, "__delattr__", delete)


def _state(self: Any) -> list[Any]:
    """Return the values of all fields: what is copied and pickled of a frozen object."""
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
