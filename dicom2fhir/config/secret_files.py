"""Secrets in files."""

from __future__ import annotations

from pathlib import Path

from dicom2fhir.errors import ConfigError


def read_secret(path: Path, option: str) -> str:
    """The text of a file, without white space around it.

    Parameters
    ----------
    option
        The option that names the file, for messages.

    Raises
    ------
    ConfigError
        The file cannot be read or is empty.
    """
    try:
        if text := path.read_text(encoding="utf-8").strip():
            return text
    except OSError as error:
        raise ConfigError(f"{option} = {str(path)!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{option} = {str(path)!r} is not UTF-8 text") from None
    raise ConfigError(f"{option} = {str(path)!r} is empty")
