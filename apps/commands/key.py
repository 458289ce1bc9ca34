"""Commands for keys: those that sign tokens and those that encrypt fields."""

import time
from collections.abc import Iterable

import click
from flask.cli import with_appcontext

from apps.config import settings
from apps.services import key as keys
from apps.services import reencryption
from apps.utils import clock

_MAX_NAMED = 100  # rows that cannot be decrypted


@click.group("keys")
def key_commands() -> None:
    """Manage the keys that sign tokens and encrypt fields.

    Signing keys are used with JWT_ALGORITHM EdDSA or ES256.
    """


@key_commands.command("list")
@with_appcontext
def list_keys() -> None:
    """List the signing keys with their state."""
    rows = keys.list_keys()
    for row in rows:
        state = keys.state_of(row, rows)
        begin = f" until {row.activate_time:%Y-%m-%d %H:%M:%S} UTC" if state == "pending" else ""
        click.echo(f"{row.kid}  {row.algorithm}  {row.create_time:%Y-%m-%d %H:%M}  {state}{begin}")


@key_commands.command("generate")
@with_appcontext
def generate_key() -> None:
    """Publish a new signing key. `rotate` makes it sign."""
    click.echo(f"published {keys.publish_key(_algorithm()).kid}")


@key_commands.command("rotate")
@click.option("--now", "at_once", is_flag=True, help="Sign at once. Services that lack the key refuse its tokens.")
@with_appcontext
def rotate_key(at_once: bool) -> None:
    """Replace the signing key: publish a new one now, and sign with it later.

    The new key signs JWT_KEYS_PUBLISH_AHEAD after it was published, so that every process and every service that
    verifies tokens by the JWKS has it by then. The command does not wait for that. A second call while a rotation is
    pending shows the same key. The very first key signs at once. The previous key still verifies.
    """
    row = keys.rotate_key(_algorithm(), at_once=at_once)
    begin = row.activate_time
    later = f" from {begin:%Y-%m-%d %H:%M:%S} UTC" if begin and begin > clock.now() else ""
    click.echo(f"signing{later} with {row.kid}")


@key_commands.command("retire", context_settings={"ignore_unknown_options": True})  # a kid can begin with "-"
@click.argument("kid")
@click.option("--force", is_flag=True, help="Retire it even if its tokens may still be live; they are refused.")
@with_appcontext
def retire_key(kid: str, force: bool) -> None:
    """Stop verifying with a key that no longer signs."""
    try:
        keys.retire_key(kid, even_if_tokens_live=force)
    except keys.SigningKeyError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"retired {kid}")


@key_commands.command("reencrypt")
@click.option("--batch", default=500, show_default=True, type=click.IntRange(1, 10_000), help="Rows per transaction.")
@click.option(
    "--pause", default=0.05, show_default=True, type=click.FloatRange(0, 60), help="Seconds between transactions."
)
@with_appcontext
def reencrypt(batch: int, pause: float) -> None:
    """Re-encrypt every field with the first of FIELD_ENCRYPTION_KEYS.

    The command is safe while the service runs, and can be repeated. docs/data.md lists the steps before and after it:
    first, add the new key after the old one in every process. Rows that no key decrypts are left as they are and named,
    and then the command fails.
    """
    total = 0
    for changed in reencryption.reencrypt(batch):
        total += changed
        if changed:
            click.echo(f"re-encrypted {total} rows so far", err=True)
        time.sleep(pause)
    click.echo(f"re-encrypted {total} rows")
    if unreadable := _name(reencryption.find_unreadable()):
        raise click.ClickException(f"{unreadable} rows cannot be decrypted and were left as they are")


@key_commands.command("check")
@with_appcontext
def check_keys() -> None:
    """Count the encrypted rows of each field key.

    The command fails if rows need a key that is not in FIELD_ENCRYPTION_KEYS. It fails too if rows cannot be decrypted
    for another reason, and names them. Before you remove an old key, run it without that key.
    """
    uses = reencryption.count_rows()
    for number, use in enumerate(uses):
        state = "encrypts" if number == 0 else "decrypts" if use.is_configured else "missing"
        click.echo(f"{use.key_id.hex()}  {state}  {use.users} users, {use.signing_keys} signing keys")
    broken = _name(row for row in reencryption.find_unreadable() if not row.needs_missing_key)
    missing = sum(use.rows for use in uses if not use.is_configured)
    problems = {"need a key that is not configured": missing, "were changed or moved": broken}
    if any(problems.values()):
        raise click.ClickException("; ".join(f"{count} rows {problem}" for problem, count in problems.items() if count))


def _name(rows: Iterable[reencryption.Unreadable]) -> int:
    """Print the first rows that cannot be decrypted to stderr; return the number of all."""
    count = 0
    for count, row in enumerate(rows, start=1):
        if count <= _MAX_NAMED:
            click.echo(f"{row.name}: {row.cause}", err=True)
    if count > _MAX_NAMED:
        click.echo(f"... and {count - _MAX_NAMED} more", err=True)
    return count


def _algorithm() -> str:
    """Return the algorithm of new keys."""
    algorithm = settings().JWT_ALGORITHM
    if algorithm == "HS256":
        raise click.UsageError("JWT_ALGORITHM is HS256, which signs with JWT_SECRET_KEY; set it to EdDSA or ES256")
    return algorithm
