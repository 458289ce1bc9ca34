"""Commands for accounts that only the operator can create."""

import json
import sys

import click
from flask import current_app
from flask.cli import with_appcontext

from apps.database.migrations import migrate_embedded
from apps.errors import ApiError
from apps.forms.binding import read_form
from apps.forms.user import SignUpForm
from apps.services import user as users


@click.command("create-admin")
@click.option("--username", prompt=True, help="Login name, longer than 6 characters.")
@click.option("--mobile", prompt=True, help="Mobile number; without a country code it belongs to PHONE_REGION.")
@click.option("--age", prompt=True, type=int, help="Age in years.")
@click.option("--birth", prompt="Birth (2000-01-31 00:00:00)", help="Date of birth, such as 2000-01-31 00:00:00.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of a prompt.")
@with_appcontext
def create_admin(username: str, mobile: str, age: int, birth: str, password_stdin: bool) -> None:
    """Create an admin.

    An admin may read, change and delete every account.
    """
    migrate_embedded(current_app._get_current_object())  # type: ignore[attr-defined]
    password = (
        sys.stdin.readline().rstrip("\r\n")
        if password_stdin
        else click.prompt("Password", hide_input=True, confirmation_prompt=True)
    )
    body = {"username": username, "password": password, "mobile": mobile, "info": {"age": age, "birth": birth}}
    try:
        admin = users.create_admin(**read_form(SignUpForm, json.dumps(body).encode()).values())
    except ApiError as error:
        raise click.ClickException(error.message) from None
    click.echo(f"created admin {admin.username} with id {admin.id}")
