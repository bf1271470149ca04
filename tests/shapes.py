"""Hold every call of a public tensor function in the tests against the shapes that its signature states.

A function that is annotated with jaxtyping, such as `t: Float[Tensor, "*R N D"]`, is wrapped: when a call returns, the
arguments, the result and the fields of a result that is a dataclass must have the types and the shapes of the
annotations, with one meaning for each letter. Calls that raise are left alone, for bad input gets an InfoplaneError.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
import torch
from torch import Tensor

import infoplane

__all__ = ["enforce", "enforced"]

_NAMES = ("Bool", "Float", "Float64", "Int", "Int64", "Integer", "Real", "Shaped")
_SHAPE = re.compile(rf"\b(?:{'|'.join(_NAMES)})\[Tensor")
#: the functions that are held against their signatures, by qualified name
enforced: set[str] = set()


def enforce() -> None:
    """Wrap the annotated functions of the package, wherever they are referred to."""
    for found in pkgutil.walk_packages(infoplane.__path__, "infoplane."):
        if not found.name.startswith(("infoplane.studies", "infoplane.cli", "infoplane.integrations")):
            importlib.import_module(found.name)
    modules = [m for name, m in sys.modules.items() if name.startswith("infoplane.") and m is not None]
    wrapped: dict[int, Any] = {}
    for module in modules:
        for value in list(vars(module).values()):
            if isinstance(value, types.FunctionType) and value.__module__ == module.__name__ and _annotated(value):
                wrapped[id(value)] = _checked(value)
            elif inspect.isclass(value) and value.__module__ == module.__name__:
                for name, method in list(vars(value).items()):
                    if isinstance(method, types.FunctionType) and _annotated(method):
                        setattr(value, name, _checked(method))
    for module in modules:
        for name, value in list(vars(module).items()):
            if id(value) in wrapped:
                setattr(module, name, wrapped[id(value)])


def _annotated(function: Callable[..., Any]) -> bool:
    own = inspect.unwrap(function)
    return any(_SHAPE.search(str(hint)) for hint in own.__annotations__.values())


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    own = inspect.unwrap(function)
    signature = inspect.signature(own)
    enforced.add(f"{own.__module__}.{own.__qualname__}")

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():  # the compiler cannot trace the checks
            return function(*args, **kwargs)
        result = function(*args, **kwargs)
        given = signature.bind(*args, **kwargs).arguments
        hints = _hints(own)
        with jaxtyping.jaxtyped("context"):
            for name, value in given.items():
                _check(own, name, hints.get(name), value)
            _check(own, "the result", hints.get("return"), result)
            if dataclasses.is_dataclass(result) and not isinstance(result, type):
                fields = _hints(type(result))
                for field in dataclasses.fields(result):
                    _check(own, f"the result's {field.name}", fields.get(field.name), getattr(result, field.name))
        return result

    return call


@functools.cache
def _hints(of: Any) -> dict[str, Any]:
    # the names of jaxtyping are imported for type checkers only
    return typing.get_type_hints(of, vars(sys.modules[of.__module__]) | _names(), include_extras=True)


@functools.cache
def _names() -> dict[str, Any]:
    return {name: getattr(jaxtyping, name) for name in _NAMES} | {"Tensor": Tensor}


def _check(function: Callable[..., Any], what: str, hint: Any, value: Any) -> None:
    if not _fits(hint, value):
        got = f"{value.dtype} {tuple(value.shape)}" if hasattr(value, "shape") else type(value).__name__
        raise AssertionError(f"{function.__qualname__}: {what} is {got}; its signature says {hint}")


def _fits(hint: Any, value: Any) -> bool:
    """Whether a value has the shape of a hint; what is no tensor is not judged."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        arms = typing.get_args(hint)
        return any(_fits(arm, value) for arm in arms if _is_shape(arm)) or _other(arms, value)
    if origin is tuple and isinstance(value, tuple):
        return all(_fits(arm, each) for arm, each in zip(typing.get_args(hint), value, strict=False))
    return isinstance(value, hint) if _is_shape(hint) else True


def _is_shape(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)


def _other(arms: tuple[Any, ...], value: Any) -> bool:
    """Whether a value that is no tensor may be one of the other arms of a union."""
    return not hasattr(value, "shape") or not any(_is_shape(arm) for arm in arms)
