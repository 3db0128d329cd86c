"""What all commands share: the group, help with examples, exit codes, one line of text."""

from __future__ import annotations

from typing import Any

import click

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class Examples(click.Command):
    """A command whose help ends with examples, as they are typed."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {line.strip()}\n" for line in self.examples.strip().splitlines()))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="msa-sweeps", prog_name="msa")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def msa(debug: bool) -> None:
    """Sweeps and ablations of multimodal sentiment models on Ray Tune and Optuna, resumable from plain files.

    Exit codes: 0 done, 1 some work failed, 2 bad input, 130 interrupted.
    """


def say(line: str) -> None:
    """A line for people, beside the output."""
    click.echo(line, err=True)


def refuse(when: str, **options: Any) -> None:
    """One clear line for an option that would be silently without effect."""
    for name, value in options.items():
        if value is not None:
            raise click.UsageError(f"--{name} has an effect {when}")


def words(*texts: str) -> list[str]:
    """`a, b` and `c` as a, b, c."""
    return [word.strip() for text in texts for word in text.split(",")]
