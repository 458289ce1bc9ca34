"""Commands that generate files from the code."""

import json
from pathlib import Path

import click
from flask.cli import with_appcontext

from apps.about import ROOT
from apps.commands import postman_collection
from apps.http import openapi
from apps.settings.reader import example

DOCS = ROOT / "docs"


@click.command("openapi")
@with_appcontext
def write_openapi() -> None:
    """Print the OpenAPI document of the API."""
    click.echo(json.dumps(openapi.document(), indent=2))


@click.command("postman")
@click.option(
    "--folder",
    default=str(DOCS),
    show_default=True,
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    help="Folder for the files.",
)
@with_appcontext
def write_postman(folder: Path) -> None:
    """Write the Postman collection and its environment.

    Both are generated from the OpenAPI document.
    """
    for name, content in postman_collection.files(openapi.document()).items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
        click.echo(f"wrote {folder / name}")


@click.command("config-example")
def config_example() -> None:
    """Print config.example.py with every setting."""
    from apps.config import BaseConfig, ProdConfig

    click.echo(example(ProdConfig, BaseConfig, "python manage.py config-example"), nl=False)
