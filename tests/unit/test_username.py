"""I3: usernames in any script, each with one canonical form (RFC 8265; Unicode TS 39)."""

import time
import unicodedata

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from apps.utils.username import MAXIMUM_LENGTH, canonical, lookup_key, width

LETTERS = st.characters(categories=["Ll", "Lu", "Lo", "Lm", "Mn", "Mc", "Nd", "Pd", "Po"], codec="utf-8")
NAMES = (
    st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=4, max_size=70)
    | st.text(LETTERS, min_size=4, max_size=20)
    | st.text("ａＢıİſKÅéßẞﬀςΣΣ가각ｱﾊﾟ张е\u0301\u0327\ufb2c", min_size=4, max_size=64)
)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Alice-Liddell", "alice-liddell"),
        ("ＡＬＩＣＥ－ｌｉｄｄｅｌｌ", "alice-liddell"),
        ("\u212aelvin-scale", "kelvin-scale"),  # the Kelvin sign
        ("\u212bngström-unit", "ångström-unit"),  # the Angstrom sign
        ("Jose\u0301-Maria", "josé-maria"),
        ("Straße-27", "straße-27"),  # ß is a letter of its own
        ("STRASSE-27", "strasse-27"),
        ("ınci-tanesi", "ınci-tanesi"),  # the dotless i is never folded into i (CVE-2019-19844)
        ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
        ("ｱｲｳｴ", "アイウエ"),
        ("张三丰的账号", "张三丰的账号"),
        ("やまだ太郎さん", "やまだ太郎さん"),
        ("김철수-2024", "김철수-2024"),
        ("Имярек-27", "имярек-27"),
        ("नरेंद्र.मोदी", "नरेंद्र.मोदी"),
        ("o'reilly+tag@x", "o'reilly+tag@x"),
    ],
)
def test_a_name_has_one_form(name: str, key: str) -> None:
    assert canonical(name) == key


@pytest.mark.parametrize(
    "name",
    [
        "",
        "two words",
        "trailing-space ",
        "tab\tcharacter",
        "new-line\n",
        "nul\0character",
        "ideographic\u3000space",
        "non-breaking\u00a0space",
        "zero\u200bwidth",
        "zero\u200djoiner",
        "word\u2060joiner",
        "soft\u00adhyphen",
        "right\u202eto-left",
        "byte\ufefforder",
        "tag\U000e0061character",
        "variation\ufe0fselector",
        "ﬀ-ligature",
        "№-sign-1234",
        "circled-①②③",
        "emoji-😀-face",
        "surrogate-\ud800",
        "private-\ue000-use",
        "unassigned-\u0378",
        "middle·dot-rule",
    ],
)
def test_what_cannot_be_seen_or_told_apart_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"letters, digits|longer than"):
        canonical(name)


@pytest.mark.parametrize(
    "name",
    [
        "аlice-liddell",  # a Cyrillic а
        "alice-lіddell",  # a Cyrillic і
        "аdministrator",
        "αlice-liddell",  # a Greek alpha
        "раураl-com-l",
        "имярек-latin",
        "김철수-дом",
        "Ꭺlice-liddell",  # a Cherokee A
        "աdministrator",  # an Armenian letter
    ],
)
def test_scripts_that_no_language_mixes_are_refused(name: str) -> None:
    """Unicode TS 39, 5.2: Highly Restrictive."""
    with pytest.raises(ValueError, match="not written together"):
        canonical(name)


@pytest.mark.parametrize(
    "name", ["tokyo-東京タワー", "seoul-서울-漢字", "taipei-ㄅㄆ-漢字", "имярек-2024", "日本語のなまえ"]
)
def test_scripts_that_a_language_mixes_are_not(name: str) -> None:
    assert canonical(name) == name


@pytest.mark.parametrize(
    ("name", "columns"), [("abcdef", 6), ("张三丰", 6), ("ábćdéf", 6), ("é" * 6, 6), ("12345a", 6)]
)
def test_six_columns_are_too_few(name: str, columns: int) -> None:
    assert width(name) == columns
    with pytest.raises(ValueError, match="longer than 6"):
        canonical(name)


@pytest.mark.parametrize(
    ("name", "columns"), [("abcdefg", 7), ("张三丰1", 7), ("李小龙的", 8), ("やまだ太", 8), ("김철수님", 8)]
)
def test_seven_are_enough(name: str, columns: int) -> None:
    assert width(name) == columns
    assert canonical(name) == name


@pytest.mark.parametrize("name", ["a" * 65, "\ufb2c" * 64, "İ" * 33, "a" * 64_000])
def test_no_name_is_longer_than_64_in_either_form(name: str) -> None:
    """I3: one code point may become three, and the column has a maximum length."""
    with pytest.raises(ValueError, match="at most 64"):
        canonical(name)


@settings(deadline=None)
@given(NAMES)
def test_the_form_of_a_form_is_itself(name: str) -> None:
    try:
        key = canonical(name)
    except ValueError:
        assume(False)
    assert canonical(key) == key
    assert len(key) <= MAXIMUM_LENGTH


@settings(deadline=None)
@given(NAMES)
def test_composed_or_not_a_name_has_the_same_fate(name: str) -> None:
    """I3: a name is canonicalised before it is checked."""
    spellings = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    assume(max(map(len, spellings)) <= MAXIMUM_LENGTH)
    fates = set()
    for spelling in spellings:
        try:
            fates.add(canonical(spelling))
        except ValueError as error:
            fates.add(str(error))
    assert len(fates) == 1


@settings(deadline=None)
@given(st.text() | NAMES)
def test_every_text_has_a_key_to_count_attempts_by(name: str) -> None:
    """B5: also a string that cannot be a username."""
    try:
        assert lookup_key(name) == canonical(name)
    except ValueError:
        assert lookup_key(f" {name}\n") == lookup_key(name)


@pytest.mark.parametrize("spelling", ["Alice-Liddell", " alice-liddell", "ALICE-LIDDELL\n", "ａｌｉｃｅ-liddell"])
def test_spellings_of_a_name_share_a_key(spelling: str) -> None:
    """B5."""
    assert lookup_key(spelling) == "alice-liddell"


@pytest.mark.parametrize("name", ["a" * 64_000, "\u0301" * 32_000, "ﷺ" * 3_000, "a\u0327\u0301" * 10_000])
def test_no_64_kb_take_long(name: str) -> None:
    """I5: 50 ms of CPU time of this process."""
    started = time.process_time()
    with pytest.raises(ValueError):
        canonical(name)
    assert time.process_time() - started < 0.05
