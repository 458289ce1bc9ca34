"""Re-encryption of every encrypted field with the newest key, while the service runs.

A row is replaced only if it is unchanged since it was read. A concurrent change wins, and uses the new key anyway. A
run that was killed can be started again: it skips the rows that are done. Rows that cannot be decrypted stay as they
are. Before an old key is removed, `count_rows` shows whether a row still needs it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import CursorResult, select, update

from apps.database.transaction import reading, transactional
from apps.extensions import db
from apps.models import SigningKey, User
from apps.models.key import private_key_context
from apps.models.user import mobile_context
from apps.security import field_encryption
from apps.services.cache_mark import KEEPS_CACHE

_BATCH = 10_000  # rows per query of `count_rows`


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A key, and the number of rows that only this key can decrypt."""

    key_id: bytes
    is_configured: bool
    users: int
    signing_keys: int

    @property
    def rows(self) -> int:
        """The number of rows in all tables."""
        return self.users + self.signing_keys


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that none of the configured keys decrypts."""

    name: str
    cause: str
    needs_missing_key: bool  # False: it was changed, cut or moved


def count_rows() -> list[KeyUse]:
    """Return the configured keys in their order, and after them the missing keys: those that only rows name."""
    users: Counter[bytes] = Counter()
    last = 0
    while rows := _mobiles_after(last):
        users.update(_key_ids(rows))
        last = rows[-1][0]
    signing_keys = Counter(_key_ids(_private_keys()))
    configured = dict.fromkeys(field_encryption.key_ids())
    return [
        KeyUse(key_id, key_id in configured, users[key_id], signing_keys[key_id])
        for key_id in configured | dict.fromkeys(sorted({*users, *signing_keys}))
    ]


def reencrypt(batch: int) -> Iterator[int]:
    """Encrypt every row with the first of `FIELD_ENCRYPTION_KEYS`, and index it with `FIELD_INDEX_KEY`.

    Rows that already use them are skipped, and so are rows that none of the keys decrypts; `find_unreadable` names
    them. Each transaction handles `batch` users; the signing keys follow in one. Yields the number of changed rows
    after each transaction.
    """
    last = 0
    while ids := _ids_after(last, batch):
        yield _reencrypt_mobiles(ids)
        last = ids[-1]
    yield _reencrypt_signing_keys()


def find_unreadable() -> Iterator[Unreadable]:
    """Yield each row that none of the keys decrypts."""
    last = 0
    while rows := _mobiles_after(last):
        for user_id, ciphertext in rows:
            yield from _check(f"user {user_id}", ciphertext, mobile_context(user_id))
        last = rows[-1][0]
    for kid, ciphertext in _private_keys():
        yield from _check(f"signing key {kid}", ciphertext, private_key_context(kid))


def _check(name: str, ciphertext: bytes, context: str) -> Iterator[Unreadable]:
    try:
        field_encryption.decrypt(ciphertext, context)
    except field_encryption.Undecryptable as error:
        yield Unreadable(name, str(error), field_encryption.needs_missing_key(ciphertext))


def _key_ids(rows: Iterable[tuple[object, bytes]]) -> Iterator[bytes]:
    """Yield the key id of each blob that is whole: what was cut has none."""
    return (field_encryption.key_id(ciphertext) for _, ciphertext in rows if field_encryption.is_whole(ciphertext))


@reading
def _ids_after(last: int, batch: int) -> list[int]:
    return list(db.session.scalars(select(User.id).where(User.id > last).order_by(User.id).limit(batch)))


@reading
def _mobiles_after(last: int) -> list[tuple[int, bytes]]:
    rows = select(User.id, User.mobile_ciphertext).where(User.id > last).order_by(User.id).limit(_BATCH)
    return [(user_id, ciphertext) for user_id, ciphertext in db.session.execute(rows)]


@reading
def _private_keys() -> list[tuple[str, bytes]]:
    rows = select(SigningKey.kid, SigningKey.private_key_ciphertext).order_by(SigningKey.kid)
    return [(kid, ciphertext) for kid, ciphertext in db.session.execute(rows)]


@transactional
def _reencrypt_mobiles(ids: list[int]) -> int:
    rows = select(User.id, User.mobile_ciphertext, User.mobile_index)
    changed = 0
    for user_id, ciphertext, index in db.session.execute(rows.where(User.id.in_(ids))).all():
        try:
            number = field_encryption.decrypt(ciphertext, mobile_context(user_id))
        except field_encryption.Undecryptable:
            continue
        new_index = field_encryption.blind_index(number)
        if field_encryption.is_current(ciphertext) and bytes(index) == new_index:
            continue
        values = {
            "mobile_ciphertext": field_encryption.encrypt(number, mobile_context(user_id)),
            "mobile_index": new_index,
        }
        # By Core, without a new version and update time: the meaning of the row stays the same.
        unchanged = update(User.__table__).where(User.id == user_id, User.mobile_ciphertext == ciphertext)  # type: ignore[arg-type]
        changed += _row_count(db.session.execute(unchanged.values(**values).execution_options(**KEEPS_CACHE)))
    return changed


@transactional
def _reencrypt_signing_keys() -> int:
    changed = 0
    for key in db.session.scalars(select(SigningKey).with_for_update()).all():
        if not field_encryption.is_current(key.private_key_ciphertext):
            context = private_key_context(key.kid)
            with suppress(field_encryption.Undecryptable):
                text = field_encryption.decrypt(key.private_key_ciphertext, context)
                key.private_key_ciphertext = field_encryption.encrypt(text, context)
                changed += 1
    return changed


def _row_count(result: object) -> int:
    assert isinstance(result, CursorResult)  # noqa: S101 (for the type checker)
    return int(result.rowcount)
