"""Reading the experiment that a user writes in config.yaml. All of it is checked before any job
starts; `diffaccel.experiment.schema` has its keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from diffaccel.errors import InputError
from diffaccel.experiment.mistakes import explain, unknown_names, unread_prompts
from diffaccel.experiment.schema import SECTIONS, Config


class ConfigError(InputError):
    """The configuration is wrong: one message, one line a mistake, each with what is allowed."""


def load(raw: Mapping[str, Any]) -> Config:
    """The checked configuration.

    Raises:
        ConfigError: a key is unknown, a value has a wrong type or is out of range, or a name is
            not known, or a model's prompts cannot be read. The message lists every mistake.
    """
    # A key with nothing behind it says nothing.
    given = {key: value for key, value in raw.items() if value is not None or key not in SECTIONS}
    try:
        config = Config.model_validate(given)
    except ValidationError as error:
        found = dict.fromkeys(map(explain, error.errors()))
        lines = [line for line in found if line is not None]
        raise ConfigError(_message(lines)) from None
    # A model's prompts are known only where its name is.
    if problems := unknown_names(config) or unread_prompts(config):
        raise ConfigError(_message(problems))
    return config


def read(path: Path) -> Config:
    """The checked configuration in a YAML file.

    Raises:
        ConfigError: as `read_raw`, or as `load`.
    """
    return load(read_raw(path))


def read_raw(path: Path) -> Mapping[str, Any]:
    """A configuration as it stands in a YAML file; an empty one is the default experiment.

    Raises:
        ConfigError: there is no such file, or it is not YAML with keys.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})") from None
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        where = f", at line {at.line + 1}, column {at.column + 1}" if at else ""
        raise ConfigError(f"{path}: this is not YAML{where}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: this is not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(raw, Mapping | None):
        raise ConfigError(f"{path}: a configuration has keys, as in config.yaml; got {raw!r:.80}")
    return raw or {}


def _message(lines: Sequence[str]) -> str:
    return "the configuration is wrong:\n" + "\n".join(f"  - {line}" for line in lines)
