"""I3: usernames in any script, each with one canonical form (RFC 8265; Unicode TS 39)."""

import re
import time
import unicodedata
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from apps.forms.username_reason import explained
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


REASONS = [
    ("", "not be empty"),
    ("two words", "not contain spaces"),
    ("trailing-space ", "not contain spaces"),
    ("ideographic\u3000space", "not contain spaces"),
    ("non-breaking\u00a0space", "not contain spaces"),
    ("thin\u2009space", "not contain spaces"),
    ("עולם-שלום ", "not contain spaces"),  # not the direction
    ("tab\tcharacter", "U+0009 is a control character"),
    ("new-line\n", "U+000A is a control character"),
    ("nul\0character", "U+0000 is a control character"),
    ("zero\u200bwidth", "U+200B is invisible"),
    ("word\u2060joiner", "U+2060 is invisible"),
    ("soft\u00adhyphen", "U+00AD is invisible"),
    ("right\u202eto-left", "U+202E is invisible"),
    ("byte\ufefforder", "U+FEFF is invisible"),
    ("tag\U000e0061character", "U+E0061 is invisible"),
    ("variation\ufe0fselector", "U+FE0F is invisible"),
    ("zero\u200djoiner", "U+200D is invisible and is allowed only where"),
    ("zero\u200cnon-joiner", "U+200C is invisible and is allowed only where"),
    ("ﬀ-ligature", "U+FB00 is another form of ff"),
    ("x²-squared", "U+00B2 is another form of 2"),
    ("circled-①②③", "U+2460 is another form of 1"),
    ("№-sign-1234", "U+2116 is a symbol"),
    ("น้ำตาลหวาน", "U+0E33 is another form of"),
    ("col\u0140ecci\u00f3-x", "U+0140 is another form of"),
    ("dots\u2026-1234", "U+2026 is punctuation of another kind"),
    ("line\u2028separator", "U+2028 is an invisible or formatting character"),
    ("محمد\u0600محمد", "U+0600 is an invisible or formatting character"),
    ("emoji-😀-face", "U+1F600 is a symbol"),
    ("euro-€-sign", "U+20AC is a symbol"),
    ("o’brien-long", "U+2019 is punctuation of another kind"),
    ("dash–between", "U+2013 is punctuation of another kind"),
    ("surrogate-\ud800", "U+D800 has no agreed meaning"),
    ("private-\ue000-use", "U+E000 has no agreed meaning"),
    ("unassigned-\u0378", "U+0378 is not a character of Unicode"),
    ("𐄇-aegean-number", "U+10107 is a letter or number of a form"),
    ("ـــــــabc", "U+0640 is a mark"),
    ("\u1113\u1113\u1113\u1113", "U+1113 is a part of an old Korean syllable"),
    ("middle·dot-rule", "U+00B7, the middle dot, is allowed only between two l"),
    ("alphabet-\u0375", "U+0375, the Greek numeral sign, is allowed only before a Greek letter"),
    ("abc-\u05f3-defg", "U+05F3 is allowed only after a Hebrew letter"),
    ("katakana・x-yz", "U+30FB, the katakana middle dot"),
    ("محمد-١٢٣-۴۵۶", "Do not mix the digits of Arabic"),
    ("١٢٣٤٥٦٧٨", "Arabic digits must begin with a letter"),
    ("۱۲۳۴۵۶۷-ب", "must begin with a letter"),
    ("123-שלום-עולם", "must begin with a letter"),
    ("-محمد-محمد", "must begin with a letter"),
    ("שלום-alice", "Do not mix letters written from left to right"),
    ("alice-שלום", "Do not mix letters written from left to right"),
    ("alice-١٢٣٤", "Do not mix letters written from left to right"),
    ("محمد-12-١٢", "Do not mix the digits 0 to 9 with Arabic digits"),
    ("שלום-עולם-", "must end with a letter or digit"),
    ("alice१२३४", "not written together. Found: Devanagari, Latin"),
    ("аlice-liddell", "not written together. Found: Cyrillic, Latin"),
    ("abcdef", "longer than 6"),
    ("a" * 65, "at most 64"),
]


@pytest.mark.parametrize(("name", "reason"), REASONS)
def test_a_refusal_names_the_rule_that_the_name_breaks(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        explained(name)


def test_every_character_has_a_reason() -> None:
    """No character, wherever it stands, makes another error than `ValueError`."""
    for point in range(0, 0x110000, 97):
        for name in (chr(point) * 8, f"abcdefg{chr(point)}", f"שלום{chr(point)}שלום"):
            with suppress(ValueError):
                explained(name)


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


@pytest.mark.parametrize("name", ["a" * 65, "\ufb2c" * 64, "İ" * 33, "a" * 64_000, "e\u0301" * 65])
def test_no_name_is_longer_than_64_in_either_form(name: str) -> None:
    """I3: one code point may become three, and the column has a maximum length."""
    with pytest.raises(ValueError, match="at most 64"):
        canonical(name)


@settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
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
