"""F14: ids in a path."""

import pytest
from werkzeug.exceptions import NotFound
from werkzeug.routing import Map, Rule

from apps.http.converters import IdConverter

urls = Map([Rule("/<id:user_id>", endpoint="user")], converters={"id": IdConverter}).bind("localhost")


@pytest.mark.parametrize(("path", "user_id"), [("/1", 1), ("/10", 10), (f"/{2**63 - 1}", 2**63 - 1)])
def test_an_id_is_a_number_within_64_bits(path: str, user_id: int) -> None:
    assert urls.match(path) == ("user", {"user_id": user_id})


@pytest.mark.parametrize(
    "path",
    [
        "/0",
        "/01",
        "/-1",
        "/+1",
        "/1.0",
        "/1e3",
        "/ 1",
        "/1 ",
        "/1\n",
        "/٣",
        "/1٣",
        "/１",
        "/²",
        f"/{2**63}",
        "/" + "9" * 99,
    ],
)
def test_what_only_looks_like_one_is_no_path(path: str) -> None:
    with pytest.raises(NotFound):
        urls.match(path)


def test_an_id_is_written_as_it_is_read() -> None:
    assert urls.build("user", {"user_id": 42}) == "/42"
