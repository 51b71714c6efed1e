"""One option in its forms: on the command line, in the ini file, as a marker, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.plugin import values
from pytest_pyhf_faas.redaction import without_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Option:
    """One option in its forms.

    Attributes
    ----------
    flags : tuple of str
        Command-line forms.
    ini : str or None
        Key in the ini file.
    marker : str or None
        Marker and keyword.
    default : str or None
        The default, as on the command line.
    default_is : str
        The default in words, where the value says too little.
    many : bool
        Whether it may be repeated; in the ini file, one value for each line.
    switch : bool
        Whether it takes no value.
    choices : tuple of str or None
        The allowed values.
    read : callable or None
        Makes a value of flag and text (of each, if `many`), or raises a `ConfigurationError`;
        ``None`` takes the text.
    place : callable or None
        Makes a text that may be a path, relative to a directory, valid anywhere.
    rerun : bool
        Whether it affects how one hypothesis is fitted and compared.
    secret : bool
        Whether it may hold JSON with secrets, which is never shown.
    """

    name: str
    flags: tuple[str, ...]
    metavar: str | None
    help: str
    default: str | None = None
    default_is: str = ""
    ini: str | None = None
    marker: str | None = None
    many: bool = False
    switch: bool = False
    choices: tuple[str, ...] | None = None
    read: Callable[[str, str], Any] | None = None
    place: Callable[[Path, str], str] | None = None
    rerun: bool = True
    secret: bool = False

    @property
    def dest(self) -> str:
        """Where pytest keeps what is given on the command line."""
        return f"faas_{self.name}"

    @property
    def shown_default(self) -> str:
        """The default as people read it."""
        return self.default_is or self.default or "off"

    def value(self, given: Any) -> Any:
        """Return the value of what is given: a tuple if `many`, true or nothing if `switch`.

        Raises
        ------
        ConfigurationError
            If it makes no sense.
        """
        if self.switch:
            return bool(given)
        if self.many:
            texts = given or ([self.default] if self.default else ())
            read = self.read or (lambda _flag, text: text)
            return tuple(dict.fromkeys(read(self.flags[0], str(text)) for text in texts))
        text = self.default if given is None else str(given)
        if text is None:
            return None
        if self.choices:
            return values.one_of(self.flags[0], text, self.choices)
        return text if self.read is None else self.read(self.flags[0], text)

    def words(self, given: Any) -> list[str]:
        """Return the words of a command line for a given value, without secrets.

        Each is one word: a separate path would move pytest's rootdir.
        """
        if self.switch:
            return [self.flags[0]]
        texts = given if self.many else [given]
        return [f"{self.flags[0]}={self.shown(str(text))}" for text in texts]

    def shown(self, text: str) -> str:
        """Return a text as it may be shown."""
        return without_json(text) if self.secret else text

    def argument(self) -> dict[str, Any]:
        """Return the arguments for `argparse` and pytest, other than the flags."""
        keywords: dict[str, Any] = {
            "dest": self.dest,
            "help": f"{self.help} (default: {self.shown_default})",
            "default": None,
        }
        if self.switch:
            return {**keywords, "action": "store_true"}
        keywords["action"] = "append" if self.many else "store"
        form = "choices" if self.choices else "metavar"
        return {**keywords, form: self.choices or self.metavar}
