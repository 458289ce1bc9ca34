"""From old keys to new ones: every encrypted field once more, while the service runs.

A row is replaced only if it is still what was read, so whoever changes it meanwhile wins, and has used the new key. A
run that was killed is simply started again: what is done is passed over. Before an old key is taken away, `count_rows`
tells whether a row still needs it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import CursorResult, select, update

from apps.database.transaction import reading, transactional
from apps.extensions import db
from apps.models import SigningKey, User
from apps.models.key import private_key_context
from apps.models.user import mobile_context
from apps.security import field_encryption
from apps.services.identity_cache import KEEPS_CACHE

_BATCH = 10_000  # rows that are looked at in one query


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A key, and the rows that it alone opens."""

    key_id: bytes
    is_configured: bool
    users: int
    signing_keys: int

    @property
    def rows(self) -> int:
        """All of them."""
        return self.users + self.signing_keys


def count_rows() -> list[KeyUse]:
    """Return the configured keys, the first one first, and after them those that rows need and that are not there."""
    users: Counter[bytes] = Counter()
    last = 0
    while rows := _mobiles_after(last):
        users.update(field_encryption.key_id(ciphertext) for _, ciphertext in rows)
        last = rows[-1][0]
    signing_keys = Counter(map(field_encryption.key_id, _private_keys()))
    configured = dict.fromkeys(field_encryption.key_ids())
    return [
        KeyUse(key_id, key_id in configured, users[key_id], signing_keys[key_id])
        for key_id in configured | dict.fromkeys(sorted({*users, *signing_keys}))
    ]


def reencrypt(batch: int) -> Iterator[int]:
    """Encrypt by the first of `FIELD_ENCRYPTION_KEYS`, and index by `FIELD_INDEX_KEY`, whatever is not yet.

    Does `batch` rows a transaction, and yields how many it changed after each. Raises `crypto.Undecryptable` for a row
    that none of the keys opens; what was done before stays done.
    """
    last = 0
    while ids := _ids_behind(last, batch):
        yield _reencrypt_mobiles(ids)
        last = ids[-1]
    yield _reencrypt_signing_keys()


@reading
def _ids_behind(last: int, batch: int) -> list[int]:
    return list(db.session.scalars(select(User.id).where(User.id > last).order_by(User.id).limit(batch)))


@reading
def _mobiles_after(last: int) -> list[tuple[int, bytes]]:
    rows = select(User.id, User.mobile_ciphertext).where(User.id > last).order_by(User.id).limit(_BATCH)
    return [(user_id, ciphertext) for user_id, ciphertext in db.session.execute(rows)]


@reading
def _private_keys() -> list[bytes]:
    return list(db.session.scalars(select(SigningKey.private_key_ciphertext)))


@transactional
def _reencrypt_mobiles(ids: list[int]) -> int:
    rows = select(User.id, User.mobile_ciphertext, User.mobile_index)
    changed = 0
    for user_id, ciphertext, index in db.session.execute(rows.where(User.id.in_(ids))).all():
        number = field_encryption.decrypt(ciphertext, mobile_context(user_id))
        new_index = field_encryption.blind_index(number)
        if field_encryption.is_current(ciphertext) and bytes(index) == new_index:
            continue
        values = {
            "mobile_ciphertext": field_encryption.encrypt(number, mobile_context(user_id)),
            "mobile_index": new_index,
        }
        # By Core: the row says what it said before, so neither its version nor its time of change moves.
        unchanged = update(User.__table__).where(User.id == user_id, User.mobile_ciphertext == ciphertext)  # type: ignore[arg-type]
        changed += _rows_of(db.session.execute(unchanged.values(**values).execution_options(**KEEPS_CACHE)))
    return changed


@transactional
def _reencrypt_signing_keys() -> int:
    changed = 0
    for key in db.session.scalars(select(SigningKey).with_for_update()).all():
        if not field_encryption.is_current(key.private_key_ciphertext):
            context = private_key_context(key.kid)
            text = field_encryption.decrypt(key.private_key_ciphertext, context)
            key.private_key_ciphertext = field_encryption.encrypt(text, context)
            changed += 1
    return changed


def _rows_of(result: object) -> int:
    assert isinstance(result, CursorResult)  # noqa: S101 (for the type checker)
    return int(result.rowcount)
