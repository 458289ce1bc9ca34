"""Encryption of single fields, and a blind index to search them.

A blob is `version (1) | key id (4) | nonce (12) | AES-256-GCM ciphertext and tag`. The context (table, column, row) is
authenticated data, so a blob that is copied to another row cannot be decrypted. HKDF (RFC 5869) derives the keys from
the configured secrets, so a secret may be any long random text. The id of a key is derived from the key.
"""

import hashlib
import hmac
import os
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from apps.config import settings
from apps.utils.phone import normalise

_VERSION = b"\x01"
_MIN_LENGTH = 1 + 4 + 12 + 16  # version, key id, nonce, tag


class Undecryptable(Exception):
    """The blob was changed or moved to another row, or its key is not configured."""


def encrypt(text: str, context: str) -> bytes:
    """Return `text` encrypted with the first configured key and bound to `context`."""
    key_id, cipher = _cipher(settings().FIELD_ENCRYPTION_KEYS[0])
    nonce = os.urandom(12)  # random: at most 2**32 messages per key (SP 800-38D, 8.2.2)
    return _VERSION + key_id + nonce + cipher.encrypt(nonce, text.encode(), context.encode())


def decrypt(blob: bytes, context: str) -> str:
    """Return the text of `blob`. Raises `Undecryptable` unless it is unchanged and belongs to `context`."""
    for secret in settings().FIELD_ENCRYPTION_KEYS:
        id_, cipher = _cipher(secret)
        if blob[:5] == _VERSION + id_:
            return _decrypt(cipher, blob, context)
    raise Undecryptable("no key for a blob of " + context)


def _decrypt(cipher: AESGCM, blob: bytes, context: str) -> str:
    try:
        return cipher.decrypt(blob[5:17], blob[17:], context.encode()).decode()
    except (InvalidTag, ValueError) as error:
        raise Undecryptable("a blob that was changed or moved to " + context) from error


def is_current(blob: bytes) -> bool:
    """Return True if `blob` was encrypted with the first configured key."""
    return blob[:1] == _VERSION and key_id(blob) == key_ids()[0]


def is_whole(blob: bytes) -> bool:
    """Return True if `blob` has the format of `encrypt`, as far as this can be seen without its key."""
    return blob[:1] == _VERSION and len(blob) >= _MIN_LENGTH


def needs_missing_key(blob: bytes) -> bool:
    """Return True if `blob` is whole, and its key is not configured."""
    return is_whole(blob) and key_id(blob) not in key_ids()


def key_id(blob: bytes) -> bytes:
    """Return the id of the key that encrypted `blob`."""
    return blob[1:5]


def key_ids() -> list[bytes]:
    """Return the ids of the configured keys; the first one encrypts."""
    return [_cipher(secret)[0] for secret in settings().FIELD_ENCRYPTION_KEYS]


def blind_index(number: str) -> bytes:
    """Return the HMAC-SHA-256 of a mobile number in E.164, so all spellings of a number have one index."""
    key = _derive(settings().FIELD_INDEX_KEY, b"gatehouse mobile blind index")
    return hmac.digest(key, normalise(number, settings().PHONE_REGION).encode(), "sha256")


def mac(message: bytes) -> bytes:
    """Return a MAC of a message that a client sends back later, to detect a forged one."""
    return hmac.digest(_derive(settings().FIELD_INDEX_KEY, b"gatehouse seal"), message, "sha256")[:16]


@lru_cache(maxsize=64)
def _cipher(secret: str) -> tuple[bytes, AESGCM]:
    key = _derive(secret, b"gatehouse field encryption")
    return hashlib.sha256(b"key id" + key).digest()[:4], AESGCM(key)


@lru_cache(maxsize=64)
def _derive(secret: str, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(secret.encode())
