"""Read settings from a file: YAML, JSON, or the config.json of a run. Does not load torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InfoplaneError, choose
from .settings import FIELDS, current_names, known
from .typed import shown

__all__ = ["SettingsFile", "read_settings"]

#: The keys of a run's config.json beside its settings: those that hold for another run too, and
#: those that belong to that run alone.
TOLD, OWN = ("keep_weights", "threads"), ("format", "data", "device")
#: The arguments of `Settings.of` that are no settings.
_FIRST = ("preset", "echo_layers")


@dataclass(frozen=True)
class SettingsFile:
    """The content of a file of settings.

    Args:
        settings: The keywords of `Settings.of`, in their types.
        options: "threads" and "keep_weights", if the file is the config.json of a run.
    """

    settings: dict[str, Any]
    options: dict[str, Any]


def read_settings(path: str | os.PathLike[str]) -> SettingsFile:
    """Read a file of settings.

    The file maps names of settings to values, as `infoplane settings` prints them. "preset" and
    "echo_layers" may be among them, and hyphens stand for underscores. The config.json of a run can
    be read too, also one with former names of settings: its settings, "threads" and "keep_weights"
    are taken, while its "device", "data" and "format" are left out, because they describe where and
    from which data that run was made.

    Args:
        path: A file whose name ends in .json, or any other name for YAML.

    Returns:
        The settings, and the options of a run.

    Raises:
        InfoplaneError: If the file cannot be read, or holds an unknown name or a value that a
            setting does not take.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "fast.yaml"
        ...     _ = path.write_text("lr: 4e-4\\nbatch-size: full\\n")
        ...     read_settings(path).settings
        {'lr': 0.0004, 'batch_size': 0}
    """
    path = Path(path)
    content = _content(path)
    try:
        if "settings" not in content:
            return SettingsFile(_values(content), {})
        for name in content:
            choose(name, ["settings", *TOLD, *OWN], "key")
        return SettingsFile(_values(current_names(content["settings"])), _options(content))
    except InfoplaneError as error:
        raise InfoplaneError(f"{path}: {error}") from error


def _content(path: Path) -> dict[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML that refuses a key given twice, because the first value would be lost."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            _once(self.construct_object(key, deep=True) for key, _ in node.value if not key.tag.endswith(":merge"))
            return super().construct_mapping(node, deep)

    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            content = json.loads(text, object_pairs_hook=_object)
        else:
            content = yaml.load(text, Loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise InfoplaneError(f"Cannot read the settings in {path}: {reason}.") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise InfoplaneError(f"{path} holds {shown(content)}; expected settings by name, such as 'epochs: 100'.")
    return content


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _once(name for name, _ in pairs)
    return dict(pairs)


def _once(keys: Iterable[Any]) -> None:
    listed = list(keys)
    if twice := [key for at, key in enumerate(listed) if key in listed[:at]]:
        raise ValueError(f"{twice[0]!r} occurs twice")


def _values(content: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for written, value in content.items():
        name = written.replace("-", "_")
        if name in values:
            raise InfoplaneError(f"{name!r} occurs twice; expected it once.")
        values[name] = (FIELDS[name] if name in _FIRST else known(name)).read(value)
    return values


def _options(content: dict[str, Any]) -> dict[str, Any]:
    threads, keep = content.get("threads"), content.get("keep_weights")
    if threads is not None and (type(threads) is not int or threads < 1):
        raise InfoplaneError(f"threads is {shown(threads)}; expected a whole number of at least 1.")
    if keep is not None and type(keep) is not bool:
        raise InfoplaneError(f"keep_weights is {shown(keep)}; expected true or false.")
    return {name: value for name, value in (("threads", threads), ("keep_weights", keep)) if value is not None}
