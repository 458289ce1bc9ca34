"""Every refusal that a client can see, one class each, and the handlers that turn them into the envelope.

A class says its status, its stable `type`, the message for the client, and headers. The private cause goes to the log
by `raise ... from`, never into the answer.
"""

import math
from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """A refusal; raised by services, answered by the handlers below."""

    status = 500
    type = "internal_error"
    message = "Something went wrong here. It has been logged."
    fields: Mapping[str, Any] | None = None  # {field: [fault, ...]}, nested as the body is
    headers: Mapping[str, str] = {}


class InvalidBody(ApiError):
    """The body is not what the route takes; `fields` says where."""

    status = 400
    type = "invalid_body"
    message = "invalid body"

    def __init__(self, action: str, fields: Mapping[str, Any]) -> None:
        super().__init__()
        self.message = f"{action} fail:{fields}"
        self.fields = fields


class WeakPassword(ApiError):
    """A password that a guesser tries first."""

    status = 400
    type = "weak_password"
    message = "This password is too easy to guess: it is in lists of leaked passwords, or holds the username."

    def __init__(self, field: str = "password") -> None:
        super().__init__()
        self.fields = {field: [self.message]}


class Unauthorized(ApiError):
    """401 in any form; its challenge tells the client which scheme to use (RFC 6750, 3)."""

    status = 401
    headers = {"WWW-Authenticate": "Bearer"}


class InvalidToken(Unauthorized):
    """Bad, expired, revoked or of another kind: one text for all, so that nothing helps a forger."""

    type = "invalid_token"
    message = "The token is invalid, expired or revoked."
    headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}


class MissingToken(Unauthorized):
    """The request carries no bearer token. RFC 6750, 3.1: then the challenge carries no error."""

    type = "missing_token"
    message = "This needs the header Authorization: Bearer <token>."


class InvalidClient(Unauthorized):
    """RFC 6749, 5.2: another service is unknown, or its secret is wrong; it authenticates by Basic."""

    type = "invalid_client"
    message = "The client id or the client secret is wrong."
    headers = {"WWW-Authenticate": 'Basic realm="gatehouse", charset="UTF-8"'}


class WrongCredentials(Unauthorized):
    """Unknown user or wrong password: the two are never told apart."""

    type = "wrong_credentials"
    message = "The username or the password is wrong."


class FreshTokenRequired(Unauthorized):
    """The token is good, but comes from a refresh; RFC 9470, 3: log in again for this."""

    type = "fresh_token_required"
    message = "This needs an access token that comes straight from a login."
    headers = {"WWW-Authenticate": 'Bearer error="insufficient_user_authentication"'}


class Forbidden(ApiError):
    """A good token, but not for this."""

    status = 403
    type = "forbidden"
    message = "This is not allowed with your account."


class CsrfFailed(ApiError):
    """The token came in a cookie, and nothing proves that a page of ours sent the request."""

    status = 403
    type = "csrf_failed"
    message = "This needs the header X-CSRF-Token with the value of the cookie __Host-csrf_token."


class NotFound(ApiError):
    """No path of ours, or one with an id that is none."""

    status = 404
    type = "not_found"
    message = "There is nothing at this path."


class UserNotFound(ApiError):
    """Only an admin learns this; everybody else gets `Forbidden` for every id but their own."""

    status = 404
    type = "user_not_found"

    def __init__(self, user_id: int) -> None:
        super().__init__()
        self.message = f"user not found: {user_id}"


class SessionNotFound(ApiError):
    """Unknown, ended, or somebody else's: the three are not told apart."""

    status = 404
    type = "session_not_found"
    message = "You have no such session."


class UsernameTaken(ApiError):
    """Another account has this username, or one that reads the same."""

    status = 409
    type = "username_taken"
    message = "This username is taken."
    fields = {"username": [message]}


class LastAdmin(ApiError):
    """Without an admin nobody could make another."""

    status = 409
    type = "last_admin"
    message = "The last admin must stay one: make another user an admin first."


class ConcurrentUpdate(ApiError):
    """Somebody else changed the same row in the same moment, and went first."""

    status = 409
    type = "concurrent_update"
    message = "This was changed by another request in the same moment. Read it and try again."


class StaleVersion(ApiError):
    """RFC 9110, 13.1.1: `If-Match` names a version that is not the current one."""

    status = 412
    type = "stale_version"
    message = "This was changed since you read it. Read it again."


class BodyTooLarge(ApiError):
    """A body over `MAX_CONTENT_LENGTH`."""

    status = 413
    type = "request_entity_too_large"
    message = "The body is larger than 64 kB."


class UnsupportedMediaType(ApiError):
    """A body that is not JSON."""

    status = 415
    type = "unsupported_media_type"
    message = "The body must have the media type of the documentation, be in UTF-8, and not compressed."


class TooManyRequests(ApiError):
    """A limit was reached; `retry_after` is in seconds."""

    status = 429
    type = "too_many_requests"
    message = "Too many requests. Try again later."

    def __init__(self, retry_after: float) -> None:
        super().__init__()
        self.headers = {"Retry-After": str(max(1, math.ceil(retry_after)))}  # RFC 6585, 4


class Unavailable(ApiError):
    """Try again soon: 503 keeps a client's session, where a 401 would throw it away."""

    status = 503
    headers = {"Retry-After": "1"}  # RFC 9110, 10.2.3: in a second or so


class DatabaseUnavailable(Unavailable):
    """The database is gone, or did not answer in time."""

    type = "database_unavailable"
    message = "The service cannot reach its database. Try again in a moment."


class SecondProcess(Unavailable):
    """Another process of this machine serves the same database, and without Redis one would not hear of the other."""

    type = "second_process"
    message = "Another process serves here. More than one needs REDIS_URL."


class NotReady(Unavailable):
    """The probe's answer when requests should go elsewhere; `fields` says what is down."""

    type = "not_ready"
    message = "Not ready."

    def __init__(self, answers: Mapping[str, bool]) -> None:
        super().__init__()
        self.fields = {name: ["does not answer"] for name, does_answer in answers.items() if not does_answer}


class NoSigningKey(Unavailable):
    """No key signs: the operator has to run `manage.py keys rotate`."""

    type = "no_signing_key"
    message = "The service cannot issue tokens yet."


class Overloaded(Unavailable):
    """More passwords to hash than there are processors for."""

    type = "overloaded"
    message = "The service is busy. Try again in a moment."
