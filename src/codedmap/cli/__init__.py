"""The program ``codedmap`` and its commands."""

from __future__ import annotations

import click

import codedmap as cm

from .fill import fill
from .plan import plan
from .run import run
from .shell import Commands, print_result, run_as_program
from .sweep import sweep


@click.group(
    cls=Commands,
    commands=[run, plan, sweep, fill],
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(cm.__version__, prog_name="codedmap")
@click.pass_context
def cli(context: click.Context) -> None:
    """Run a function over unreliable workers, and have all answers when the fast ones are done."""
    if context.invoked_subcommand is None:
        print_result(context.get_help())


def main() -> None:
    """Run the command line as a program."""
    run_as_program(cli)
