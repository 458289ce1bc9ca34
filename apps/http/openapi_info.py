"""The `info` object of the OpenAPI document, with an introduction for readers, and its tags in the order of use."""

import inspect
import sys
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from apps.about import VERSION
from apps.config import settings
from apps.http import cookies

Json = dict[str, Any]

# The first and the last features in the order of use. The others come between them, sorted by name.
_FIRST = ("user", "login", "token", "session", "password")
_LAST = ("settings", "introspection", "health", "admin")

_DESCRIPTION = """\
Gatehouse manages user accounts, and issues JWT access and refresh tokens.

**The first three calls.** Sign up, read your own account with the access token, and get the next access token with the
refresh token. On the documentation page, paste the access token into *Authorize* first.

```
{calls}
```

**Envelope.** Every answer is `{{"code", "data", "message", "state"}}`. `code` is the HTTP status, and `state` is always
0. A refusal has empty `data` and a fifth key, `error`: `error.type` is a stable word for programs, and `error.fields`
lists the problems of each field, nested like the body. `message` is for people and may change. A 503 or a 429 says in
`Retry-After` when to try again. Any other method on a path gets 405.

**Tokens.** Send one as `Authorization: Bearer <token>`. An access token lives {access}, and a refresh token {refresh};
a session ends after {session} at the latest. {rotation} Logout ends a session and all its tokens.
`GET /api/v1/settings` has these lifetimes for programs.{cookie_mode}

**Fresh tokens.** A token is fresh if it comes from a sign-up or a login, not from a refresh. Changes to how an account
is protected, its export and its deletion need one. 401 `fresh_token_required` means: log in again for this."""
_CALLS = """\
curl -X POST $URL/api/v1/users/ -H 'Content-Type: application/json' \\
  -d '{"username": "alice-liddell", "password": "correct horse battery", "mobile": "13200001111",
       "info": {"age": 18, "birth": "2000-08-23 12:30:59"}}'
curl $URL/api/v1/users/ -H "Authorization: Bearer $ACCESS_TOKEN"
curl -X POST $URL/api/v1/refresh -H "Authorization: Bearer $REFRESH_TOKEN\""""
_ROTATION = {
    True: "A refresh\nalso returns a new refresh token and retires the old one.",
    False: "A refresh\nreturns a new access token, and the refresh token stays the same.",
}
_COOKIE_MODE = f"""

**Cookies.** Tokens are never in a body here: sign-up, login and refresh set them as cookies, which scripts cannot read.
A request that changes something by a cookie needs the header `{cookies.CSRF_HEADER}`, with the value of the cookie
`{cookies.CSRF}` or of the last answer's header of this name.
"""
_UNITS = (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1)))


def info() -> Json:
    """Return the object `info`, with the lifetimes of the current settings."""
    contact = {"name": "The operator of this service"}
    if settings().CONTACT_URL:
        contact["url"] = settings().CONTACT_URL
    description = _DESCRIPTION.format(
        calls=_CALLS,
        access=_in_words(settings().JWT_ACCESS_TOKEN_EXPIRES),
        refresh=_in_words(settings().JWT_REFRESH_TOKEN_EXPIRES),
        session=_in_words(settings().SESSION_LIFETIME),
        rotation=_ROTATION[settings().JWT_REFRESH_ROTATION],
        cookie_mode=_COOKIE_MODE.rstrip() if cookies.is_on() else "",
    )
    return {
        "title": "Gatehouse",
        "version": VERSION,
        "description": description,
        "contact": contact,
        "license": {"name": "MIT", "identifier": "MIT"},
    }


def tags(modules: Iterable[str]) -> list[Json]:
    """Return the tags of the views' modules, in the order of use, described by the modules' docstrings."""
    docs = {tag_of(module): inspect.getdoc(sys.modules[module]) or "" for module in modules}
    return [{"name": tag, "description": docs[tag].partition("\n")[0]} for tag in sorted(docs, key=_place)]


def tag_of(module: str) -> str:
    """Return the tag of a view's module: the name of the feature."""
    return module.rpartition(".")[2]


def _place(tag: str) -> tuple[int, str]:
    if tag in _FIRST:
        return _FIRST.index(tag), tag
    return len(_FIRST) + (_LAST.index(tag) + 1 if tag in _LAST else 0), tag


def _in_words(time: timedelta) -> str:
    """Return a lifetime in its largest whole unit: "15 minutes"."""
    fitting = ((name, unit) for name, unit in _UNITS if time >= unit and time % unit == timedelta(0))
    name, unit = next(fitting, ("second", timedelta(seconds=1)))
    number = f"{time / unit:g}"
    return f"{number} {name}{'' if number == '1' else 's'}"
