"""A section of settings: what exists, of which type, in which range, with which default, and what it is for.

A section is a subclass of `Section`. Its fields make the options of the stage that it is named after
(attractors.cli.stage), and check what a sweep's file and params.yaml hold.
"""

import difflib
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """Settings that cannot be changed, of which none is unknown, infinite or beyond 64 bits.

    Types are strict: neither a word nor true is a number. A whole number may be written as 1e5, a tuple as a list.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return tuple(cls._plain(part) for part in value)
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is int and not -(2**63) < value < 2**63:
            raise ValueError("it must fit into 64 bits")
        return value


def alternatives(annotation: Any) -> list[Any]:
    """Return the types that a field may have, in their order, without None."""
    if get_origin(annotation) in (Union, UnionType):
        return [part for entry in get_args(annotation) if entry is not NoneType for part in alternatives(entry)]
    return [annotation]


def bounds(field: FieldInfo) -> dict[str, float]:
    """{"ge", "gt", "le", "lt": the number} of those bounds that a field's values, or the members of its list, have."""
    found = list(field.metadata)
    for annotation in alternatives(field.annotation):
        for part in (annotation, *get_args(annotation)):
            found += getattr(part, "__metadata__", ())
    parts = [part for entry in found for part in (entry, *getattr(entry, "metadata", ()))]
    return {
        key: getattr(part, key) for key in ("ge", "gt", "le", "lt") for part in parts
        if getattr(part, key, None) is not None
    }


def in_words(field: FieldInfo) -> str:
    """Return what a field may hold, as the end of the sentence "it must be ..."."""
    limits = bounds(field)
    signs = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    limit = " and ".join(f"{signs[key]} {value:,}" for key, value in limits.items())

    def words(annotation: Any, many: bool = False) -> str:
        origin, parts = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return words(parts[0], many)
        if origin is Literal:
            return ", ".join(map(str, parts)) if len(parts) == 1 else f"one of {', '.join(map(str, parts))}"
        if origin is tuple:
            return f"a list of {words(parts[0], True)}"
        name = {bool: "true or false", str: "text", int: "whole number", float: "number"}.get(annotation, "a mapping")
        if annotation not in (int, float):
            return name
        return f"{'' if many else 'a '}{name}{'s' * many}{f' {limit}' if limit else ''}"

    return " or ".join(words(annotation) for annotation in alternatives(field.annotation))


def suggestion(name: object, known: list[str]) -> str:
    """Words to follow "no such setting": the known name that comes closest, or else all of them."""
    close = difflib.get_close_matches(str(name), known, 1)
    return f"; did you mean {close[0]}?" if close else f"; it has {', '.join(known) or 'none'}"


def check(values: object, where: str, *sections: type[Section], partial: bool = False) -> tuple[Section, ...]:
    """Return the sections that hold `values`, each with the settings that are its own.

    values: what was read, a mapping of settings. where: the words that name it, for messages. partial: settings
    without a default may be missing; then nothing is returned.
    Raises ValueError, in one line, for a setting that no section has and for a value that its field does not take.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where} must be a mapping of settings; it is {str(values)[:80]}")
    fields = {name: field for section in sections for name, field in section.model_fields.items()}
    for name in values:
        if name not in fields:
            raise ValueError(f"{where} has no setting {str(name)[:80]!r}{suggestion(name, list(fields))}")
    made = []
    for section in sections:
        try:
            own = {name: value for name, value in values.items() if name in section.model_fields}
            made.append(section.model_validate(own))
        except ValidationError as failure:
            errors = [error for error in failure.errors() if not (partial and error["type"] == "missing")]
            if errors:
                raise ValueError(f"{where}: {_one_line(errors[0], own, fields)}") from None
    return () if partial else tuple(made)


def _one_line(error: Any, values: dict[str, Any], fields: dict[str, FieldInfo]) -> str:
    if not error["loc"]:  # of several settings together
        return str(error["msg"]).removeprefix("Value error, ")
    name = str(error["loc"][0])
    if error["type"] == "missing":
        return f"{name} is missing; it must be {in_words(fields[name])}"
    words = in_words(fields[name])
    if error["type"] == "value_error":  # of a validator, which says itself what would be right
        message = str(error["msg"]).removeprefix("Value error, ")
        if "64 bits" not in message:
            return message
        words = "finite and fit into 64 bits"
    return f"{name} is {str(values[name])[:80]}; it must be {words}"
