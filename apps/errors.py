"""The errors that clients can see, one class each.

A class holds the status, the stable `type`, the message for the client and the headers. A private cause is attached by
`raise ... from`: it goes to the log, never into the response.
"""

import math
from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """Base of all errors. Services raise them, and `apps.http.error_handlers` answers them."""

    status = 500
    type = "internal_error"
    message = "An internal error occurred. It has been logged."
    fields: Mapping[str, Any] | None = None  # {field: [problem, ...]}, nested like the body
    headers: Mapping[str, str] = {}
    names_fields = False  # True: `fields` has fields of the route's form


class InvalidBody(ApiError):
    """The body or the query does not fit the form of the route. `fields` names the problems."""

    status = 400
    type = "invalid_body"
    message = "Invalid body."
    names_fields = True

    def __init__(self, action: str, fields: Mapping[str, Any]) -> None:
        super().__init__()
        self.message = f"{action} fail:{fields}"
        self.fields = fields


class WeakPassword(ApiError):
    """The password is in a list of leaked passwords or contains the username."""

    status = 400
    type = "weak_password"
    message = (
        "This password is too easy to guess: it is in a list of leaked passwords or contains the username. "
        "Choose another one."
    )
    names_fields = True

    def __init__(self, field: str = "password") -> None:
        super().__init__()
        self.fields = {field: [self.message]}


class Unauthorized(ApiError):
    """Base of all 401 errors. The challenge tells the client which scheme to use (RFC 6750, 3)."""

    status = 401
    headers = {"WWW-Authenticate": "Bearer"}


class InvalidToken(Unauthorized):
    """The token is invalid, expired, revoked or of another kind. One text for all, so that a forger learns nothing."""

    type = "invalid_token"
    message = "The token is invalid, expired or revoked."
    headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}


class MissingToken(Unauthorized):
    """The request has no token, so the challenge has no error (RFC 6750, 3.1)."""

    type = "missing_token"
    message = "This request requires a token. Send the header Authorization: Bearer <token>."


class InvalidClient(Unauthorized):
    """Another service is unknown or its secret is wrong. Services authenticate by HTTP Basic (RFC 6749, 5.2)."""

    type = "invalid_client"
    message = "The client id or the client secret is wrong."
    headers = {"WWW-Authenticate": 'Basic realm="gatehouse", charset="UTF-8"'}


class WrongCredentials(Unauthorized):
    """The user is unknown or the password is wrong. The response does not tell which."""

    type = "wrong_credentials"
    message = "The username or the password is wrong."


class FreshTokenRequired(Unauthorized):
    """The token is valid but comes from a refresh, so the user must log in again (RFC 9470, 3)."""

    type = "fresh_token_required"
    message = "This request requires an access token from a login, not from a refresh. Log in again."
    headers = {"WWW-Authenticate": 'Bearer error="insufficient_user_authentication"'}


class Forbidden(ApiError):
    """The token is valid, but its user may not do this."""

    status = 403
    type = "forbidden"
    message = "Your account is not allowed to do this."


class InsufficientScope(ApiError):
    """The client's credentials are valid, but it lacks the scope of the route (RFC 6750, 3.1)."""

    status = 403
    type = "insufficient_scope"
    message = "Your client lacks the scope of this request."

    def __init__(self, scope: str) -> None:
        super().__init__()
        self.message = f"Your client lacks the scope `{scope}`. Ask the operator of this service to add it."


class CsrfFailed(ApiError):
    """The token came in a cookie, and the CSRF token is missing or wrong."""

    status = 403
    type = "csrf_failed"
    message = (
        "The CSRF token is missing or wrong. Send the value of the cookie __Host-csrf_token in X-CSRF-Token. Sign-up, "
        "login, refresh and GET /users/ also answer with it in that header."
    )


class NotFound(ApiError):
    """No route has this path, or the path holds an invalid id."""

    status = 404
    type = "not_found"
    message = "There is nothing at this path. Check the URL."


class UserNotFound(ApiError):
    """The user does not exist. Only admins see this; other users get `Forbidden` for every id except their own."""

    status = 404
    type = "user_not_found"

    def __init__(self, user_id: int) -> None:
        super().__init__()
        self.message = f"user not found: {user_id}"


class SessionNotFound(ApiError):
    """The session is unknown, has ended or belongs to another user. The response does not tell which."""

    status = 404
    type = "session_not_found"
    message = "You have no session with this id."


class UsernameTaken(ApiError):
    """Another account has this username, or one with the same canonical form."""

    status = 409
    type = "username_taken"
    message = "This username is taken. Choose another one."
    fields = {"username": [message]}
    names_fields = True


class LastAdmin(ApiError):
    """The change would leave no admin, and only an admin can make another."""

    status = 409
    type = "last_admin"
    message = "You cannot remove the last admin. Make another user an admin first."


class ConcurrentUpdate(ApiError):
    """Another request changed the same row at the same time and was first."""

    status = 409
    type = "concurrent_update"
    message = "Another request changed this at the same time. Read it again and retry."


class StaleVersion(ApiError):
    """`If-Match` does not name the current version (RFC 9110, 13.1.1)."""

    status = 412
    type = "stale_version"
    message = "This has changed since you read it. Read it again and retry."


class BodyTooLarge(ApiError):
    """The body is larger than `MAX_CONTENT_LENGTH`."""

    status = 413
    type = "request_entity_too_large"
    message = "The body is larger than 64 kB. Send a smaller one."


class UnsupportedMediaType(ApiError):
    """The body has another media type or charset than the route accepts, or is compressed."""

    status = 415
    type = "unsupported_media_type"
    message = "Send the body with the documented Content-Type, in UTF-8 and not compressed."

    def __init__(self, media_type: str) -> None:
        super().__init__()
        self.message = f"Send the body with `Content-Type: {media_type}`, in UTF-8 and not compressed."


class TooManyRequests(ApiError):
    """A rate limit was reached. `retry_after` is in seconds."""

    status = 429
    type = "too_many_requests"
    message = "Too many requests. Try again later."

    def __init__(self, retry_after: float) -> None:
        super().__init__()
        self.headers = {"Retry-After": str(max(1, math.ceil(retry_after)))}  # RFC 6585, 4


class Unavailable(ApiError):
    """Base of all 503 errors: a client retries soon and keeps its session, which a 401 would end."""

    status = 503
    headers = {"Retry-After": "1"}  # seconds (RFC 9110, 10.2.3)


class DatabaseUnavailable(Unavailable):
    """The database is unreachable or did not respond in time."""

    type = "database_unavailable"
    message = "The service cannot reach its database. Try again in a moment."


class DatabaseOutdated(DatabaseUnavailable):
    """The database has no tables, or is at an older migration than this code needs."""

    message = "The database of the service is not up to date. Its operator must run `manage.py db upgrade`."


class SecondProcess(Unavailable):
    """Another process of this machine serves the same database; without Redis they would not share cache changes."""

    type = "second_process"
    message = "Another process already serves this database. Set REDIS_URL to run more than one."


class NotReady(Unavailable):
    """The readiness probe failed: requests should go to another process. `fields` names what is wrong."""

    type = "not_ready"
    message = "The service is not ready. Try again in a moment."

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__()
        self.fields = {part: [problem] for part, problem in problems.items()}


class DataUnreadable(Unavailable):
    """A value that the request needs cannot be decrypted. The operator must run `manage.py keys check`."""

    type = "data_unreadable"
    message = (
        "Stored data that this request needs cannot be decrypted. Try again later. "
        "If it is a mobile number, you can set it anew with PATCH."
    )
    headers = {"Retry-After": "60"}  # until an operator has acted


class NoSigningKey(Unavailable):
    """There is no signing key. The operator must run `manage.py keys rotate`."""

    type = "no_signing_key"
    message = "The service cannot issue tokens yet. Try again later."


class Overloaded(Unavailable):
    """More passwords wait to be hashed than this process can hash in time."""

    type = "overloaded"
    message = "The service is busy. Try again in a moment."
