"""The API's filters as options of a command."""

from collections.abc import Callable, Mapping

import click

from receiver.cli.common import UTF8
from receiver.core.matching import WORDS, Filter
from receiver.web.parameters import read_filter


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """An option for each word of the API's filters; one given twice means any of."""
    for word in reversed(list(WORDS)):
        command = click.option(f"--{word.replace('_', '-')}", word, type=UTF8, multiple=True, metavar="VALUE")(command)
    return command


def filter_of(words: Mapping[str, tuple[str, ...]]) -> Filter:
    """The filter that was given. Raises `Invalid`."""
    return read_filter({word: values for word, values in words.items() if values})
