"""Secrets come from files or the environment, never from fleet.yaml itself, and never reach a log."""

import os
from pathlib import Path
from typing import Self

from pydantic import model_validator

from pypmi.config.base import Section

MAX_SECRET = 4096
KNOWN_DEFAULTS = frozenset(
    {
        "0penbmc",
        "admin",
        "administrator",
        "advantech",
        "calvin",
        "changeme",
        "cmb9.admin",
        "default",
        "ipmi",
        "pass",
        "passw0rd",
        "password",
        "root",
        "superuser",
    }
)
"""What BMCs, and our demo, are delivered with, in lower case: the first that anybody tries."""


class SecretError(Exception):
    """A secret can't be read. The text names the file or variable and the fix, never the value."""


class SecretSource(Section):
    """Where a secret is: exactly one of `file` and `env`."""

    file: Path | None = None
    """A file that holds the secret as its only line. Relative paths start at fleet.yaml's folder."""
    env: str | None = None
    """The name of an environment variable."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise ValueError("give exactly one of file and env, as in {file: secrets/broker-password}")
        return self

    def read(self, base: Path | None = None) -> str:
        """The secret without a trailing line end. Raises `SecretError`."""
        if self.env is not None:
            value = os.environ.get(self.env)
            if not value:
                raise SecretError(f"environment variable {self.env} is not set; set it, or use file: instead")
            return value
        if self.file is None:  # excluded by the validator; for the type checker
            raise SecretError("no source")
        path = self.file if base is None or self.file.is_absolute() else base / self.file
        try:
            with path.open("rb") as stream:
                data = stream.read(MAX_SECRET + 1)
        except OSError as error:
            raise SecretError(f"cannot read secret file {path}: {error.strerror}") from None
        if len(data) > MAX_SECRET:
            raise SecretError(f"secret file {path} is longer than {MAX_SECRET} octets; is it the right file?")
        try:
            text = data.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise SecretError(f"secret file {path} is not UTF-8 text") from None
        if not text:
            raise SecretError(f"secret file {path} is empty")
        return text
