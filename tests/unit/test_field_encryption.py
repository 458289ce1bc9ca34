"""Encrypted fields and the blind index."""

from collections.abc import Iterator

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.config import BaseConfig
from apps.models.user import User, mobile_context
from apps.security.field_encryption import Undecryptable, blind_index, decrypt, encrypt
from tests.support.settings import change_settings

OLD, NEW = "an old secret of the field's encryption", "a new secret of the field's encryption"
CONTEXT = "users.mobile:42"
NUMBER = "13200001111"


@pytest.fixture(autouse=True)
def app() -> Iterator[Flask]:
    app = Flask("crypto")
    app.extensions["settings"] = BaseConfig(FIELD_ENCRYPTION_KEYS=(OLD,), FIELD_INDEX_KEY="a secret of the index")
    with app.app_context():
        yield app


@given(text=st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_encrypted_comes_back(app: Flask, text: str) -> None:
    """D1."""
    assert decrypt(encrypt(text, CONTEXT), CONTEXT) == text


def test_the_same_number_never_encrypts_to_the_same_blob() -> None:
    """D1: each blob has a random nonce."""
    blobs = {encrypt(NUMBER, CONTEXT) for _ in range(100)}
    assert len(blobs) == len({blob[5:17] for blob in blobs}) == 100
    assert not any(NUMBER.encode() in blob for blob in blobs)


@pytest.mark.parametrize("elsewhere", ["users.mobile:43", "users.photo:42", "sessions.mobile:42", "users.mobile:4", ""])
def test_a_blob_that_was_moved_does_not_open(elsewhere: str) -> None:
    """D1: a blob is bound to its table, column and row."""
    with pytest.raises(Undecryptable):
        decrypt(encrypt(NUMBER, CONTEXT), elsewhere)


def test_a_blob_with_any_bit_flipped_does_not_open() -> None:
    """D1: in the version, key id, nonce, ciphertext and tag."""
    blob = encrypt(NUMBER, CONTEXT)
    for bit in range(len(blob) * 8):
        flipped = bytearray(blob)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Undecryptable):
            decrypt(bytes(flipped), CONTEXT)


def test_a_blob_that_was_cut_or_grew_does_not_open() -> None:
    """D1."""
    blob = encrypt(NUMBER, CONTEXT)
    for changed in [*(blob[:length] for length in range(len(blob))), blob + b"\0"]:
        with pytest.raises(Undecryptable):
            decrypt(changed, CONTEXT)


def test_the_first_key_encrypts_and_all_decrypt(app: Flask) -> None:
    """D3: a new key is put first."""
    by_old = encrypt(NUMBER, CONTEXT)
    change_settings(app, FIELD_ENCRYPTION_KEYS=[NEW, OLD])
    by_new = encrypt(NUMBER, CONTEXT)
    assert by_old[1:5] != by_new[1:5]
    assert [decrypt(blob, CONTEXT) for blob in (by_old, by_new)] == [NUMBER, NUMBER]
    change_settings(app, FIELD_ENCRYPTION_KEYS=[NEW])
    assert decrypt(by_new, CONTEXT) == NUMBER
    with pytest.raises(Undecryptable, match="no key"):
        decrypt(by_old, CONTEXT)


def test_a_key_that_only_has_the_name_of_another_does_not_open(app: Flask) -> None:
    """D1."""
    blob = encrypt(NUMBER, CONTEXT)
    change_settings(app, FIELD_ENCRYPTION_KEYS=[NEW])
    name_of_new = encrypt(NUMBER, CONTEXT)[1:5]
    with pytest.raises(Undecryptable, match="changed or moved"):
        decrypt(blob[:1] + name_of_new + blob[5:], CONTEXT)


@pytest.mark.parametrize("spelling", ["+8613200001111", "132 0000 1111", "132-0000-1111", "+86 (132) 0000.1111"])
def test_one_number_has_one_index_however_it_is_written(spelling: str) -> None:
    """D2."""
    assert blind_index(spelling) == blind_index(NUMBER)
    assert len(blind_index(NUMBER)) == 32


def test_other_numbers_and_other_keys_have_other_indexes(app: Flask) -> None:
    """D2: without the key, a copy of the database does not allow guessing numbers."""
    index = blind_index(NUMBER)
    assert index != blind_index("13200001112")
    change_settings(app, FIELD_INDEX_KEY="another secret of the index")
    assert index != blind_index(NUMBER)


def test_the_index_outlives_the_encryption_key(app: Flask) -> None:
    """D2."""
    index = blind_index(NUMBER)
    change_settings(app, FIELD_ENCRYPTION_KEYS=[NEW])
    assert index == blind_index(NUMBER)


def test_a_number_that_does_not_open_can_be_replaced() -> None:
    """D1: an undecryptable number does not count as the user's, and does not block a new one."""
    user = User(id=1, mobile_ciphertext=encrypt(NUMBER, mobile_context(2)))
    assert not user.has_mobile(NUMBER)
    user.set_mobile(NUMBER)
    assert user.has_mobile(NUMBER)
