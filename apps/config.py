"""Every setting: its meaning, type, unit and bounds.

The class of a profile gives the defaults. `config.py` at the root overrides them, and the environment
(`GATEHOUSE_<NAME>`, and `DATABASE_URL`, `REDIS_URL` and `SENTRY_DSN` for short) overrides both. `apps/settings/` reads
and checks them; `settings()` returns them, typed and frozen.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from flask import Flask, current_app


@dataclass(frozen=True)
class Setting:
    """What a setting means, and the bounds of its value in its own unit."""

    meaning: str
    minimum: Any = None
    maximum: Any = None
    choices: tuple[str, ...] = ()
    secret: bool = False
    needed: bool = True  # for a secret: False if it may be empty


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """The tutorial's behaviour, and what every profile shares."""

    # Stores
    DATABASE_URL: Annotated[
        str,
        Setting("Where users and sessions live: postgresql://, mysql:// or sqlite://. Empty: SQLite under instance/."),
    ] = ""
    DATABASE_POOL_SIZE: Annotated[
        int,
        Setting(
            "Connections that one process keeps, and requests that it lets at the database at a time; at most two less "
            "than `serve` has threads. Processes x this must stay under max_connections.",
            1,
            200,
        ),
    ] = 6
    DATABASE_TIMEOUT: Annotated[
        timedelta,
        Setting(
            "How long to wait for a connection to open, or for one of the pool.",
            timedelta(seconds=1),
            timedelta(minutes=1),
        ),
    ] = timedelta(seconds=2)
    STATEMENT_TIMEOUT: Annotated[
        timedelta,
        Setting(
            "How long one SQL statement, or its wait for a lock, may take.", timedelta(seconds=1), timedelta(minutes=5)
        ),
    ] = timedelta(seconds=5)
    REDIS_URL: Annotated[
        str,
        Setting(
            "Cache and request counters: redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// "
            "(docs/scaling.md). Empty: this process's memory, one worker."
        ),
    ] = ""
    REDIS_TIMEOUT: Annotated[
        float,
        Setting("Seconds that one call to Redis may take. A request can meet it twice: limits and cache.", 0.01, 5),
    ] = 0.1
    CACHE_TTL: Annotated[
        int,
        Setting(
            "Seconds that a cache entry lives; also the bound on staleness when a cache could not be told.", 1, 86_400
        ),
    ] = 60
    CACHE_PREFIX: Annotated[
        str, Setting("First part of every key in Redis: environments that share a Redis need different ones.")
    ] = "gatehouse"

    # Secrets. In development they are generated into instance/secrets.json.
    JWT_SECRET_KEY: Annotated[str, Setting("Signs the tokens (HS256).", secret=True)] = ""
    FIELD_ENCRYPTION_KEYS: Annotated[
        tuple[str, ...],
        Setting(
            "Encrypt the mobile number (AES-256-GCM). The first one encrypts, all decrypt; to change it: docs/data.md.",
            secret=True,
        ),
    ] = ()
    FIELD_INDEX_KEY: Annotated[
        str, Setting("Makes the blind index by which a mobile number is found.", secret=True)
    ] = ""
    PASSWORD_PEPPER: Annotated[
        str,
        Setting(
            "Mixed into every password before it is hashed; losing it locks everybody out. Empty: none.",
            secret=True,
            needed=False,
        ),
    ] = ""

    # Tokens
    JWT_ACCESS_TOKEN_EXPIRES: Annotated[
        timedelta, Setting("How long an access token lives.", timedelta(seconds=1), timedelta(days=1))
    ] = timedelta(minutes=2)
    JWT_REFRESH_TOKEN_EXPIRES: Annotated[
        timedelta,
        Setting(
            "How long a refresh token lives; a session that is not refreshed ends with it.",
            timedelta(seconds=1),
            timedelta(days=365),
        ),
    ] = timedelta(minutes=5)
    JWT_REFRESH_ROTATION: Annotated[
        bool, Setting("Whether a refresh also gives a new refresh token and retires the old one (RFC 9700, 4.14.2).")
    ] = False
    REFRESH_REUSE_GRACE: Annotated[
        timedelta,
        Setting(
            "How long a retired refresh token still gets its own successor again, for an answer that was lost. "
            "Later use ends the session.",
            timedelta(0),
            timedelta(minutes=1),
        ),
    ] = timedelta(seconds=10)
    SESSION_LIFETIME: Annotated[
        timedelta,
        Setting(
            "How long a session can live at most, however often it is refreshed.",
            timedelta(seconds=1),
            timedelta(days=3650),
        ),
    ] = timedelta(days=1)
    SESSIONS_PER_USER: Annotated[
        int,
        Setting("Live sessions that one user may have. One more ends the one not used for longest.", 1, 10_000),
    ] = 100
    JWT_ALGORITHM: Annotated[
        str,
        Setting(
            "How tokens are signed. HS256: with JWT_SECRET_KEY. EdDSA, ES256: with keys that `manage.py keys` makes "
            "and that other services verify by /.well-known/jwks.json.",
            choices=("HS256", "EdDSA", "ES256"),
        ),
    ] = "HS256"
    JWT_KEYS_RELOAD: Annotated[
        float,
        Setting(
            "Seconds after which a process reads the signing keys again; a retired key is good for so long.", 0.1, 300
        ),
    ] = 5.0
    JWT_TOKEN_LOCATION: Annotated[
        tuple[str, ...],
        Setting(
            'Where tokens travel: ["headers"], or ["headers", "cookies"] for browsers, with a CSRF token; then they are'
            " given in cookies alone, and taken from either.",
            choices=("headers", "cookies"),
        ),
    ] = ("headers",)
    JWT_ISSUER: Annotated[str, Setting("The `iss` of the tokens (RFC 7519, 4.1.1).")] = "gatehouse"
    JWT_AUDIENCE: Annotated[str, Setting("The `aud` of the tokens (RFC 7519, 4.1.3).")] = "gatehouse"
    JWT_LEEWAY: Annotated[
        timedelta, Setting("How far the clocks of two machines may differ.", timedelta(0), timedelta(seconds=30))
    ] = timedelta(seconds=10)

    # Accounts
    MINIMUM_AGE: Annotated[int, Setting("Years; the least age that may sign up.", 0, 150)] = 18
    PHONE_REGION: Annotated[str, Setting("Country (ISO 3166) of mobile numbers that come without a country code.")] = (
        "CN"
    )
    PASSWORD_MEMORY_COST: Annotated[int, Setting("KiB of memory of one argon2id hash.", 8, 4_194_304)] = 19_456
    PASSWORD_TIME_COST: Annotated[int, Setting("Passes of one argon2id hash.", 1, 100)] = 2
    PASSWORD_PARALLELISM: Annotated[int, Setting("Lanes of one argon2id hash.", 1, 16)] = 1
    PASSWORD_HASH_CONCURRENCY: Annotated[
        int,
        Setting("Passwords that one process hashes at a time: processes x this should not exceed the cores.", 1, 64),
    ] = 1
    PASSWORD_HASH_QUEUE: Annotated[
        int,
        Setting(
            "Requests of one process that may wait to hash; `serve` keeps two of its threads out of it. In a burst of "
            "sign-ups and logins one more gets 503, with Retry-After.",
            0,
            1_000,
        ),
    ] = 6
    PASSWORD_HASH_TIMEOUT: Annotated[
        timedelta,
        Setting("How long a request may wait to hash; then it gets 503.", timedelta(seconds=1), timedelta(minutes=1)),
    ] = timedelta(seconds=2)
    PASSWORD_BLOCKLIST: Annotated[bool, Setting("Refuse the 30,000 passwords that leaks show most often.")] = False

    # Limits. "10/minute;100/hour" are two at once; the windows slide. All processes count together in Redis; refreshes
    # alone are counted by each process for itself, so that one costs no second round trip.
    PROCESSES: Annotated[
        int,
        Setting(
            "Processes of the service in all. What each counts for itself, refreshes and everything while Redis is "
            "away, it allows its share of.",
            1,
            10_000,
        ),
    ] = 1
    SIGN_UP_LIMIT: Annotated[str, Setting("Sign-ups from one address.")] = "100/minute"
    SIGN_UP_ACCOUNT_LIMIT: Annotated[str, Setting("Sign-ups by one name, from anywhere.")] = "60/minute"
    LOGIN_LIMIT: Annotated[str, Setting("Logins from one address.")] = "100/minute"
    LOGIN_ACCOUNT_LIMIT: Annotated[str, Setting("Logins to one account, from anywhere.")] = "60/minute"
    REFRESH_LIMIT: Annotated[str, Setting("Refreshes from one address.")] = "600/minute"
    REFRESH_ACCOUNT_LIMIT: Annotated[str, Setting("Refreshes of one session.")] = "120/minute"
    UPDATE_ACCOUNT_LIMIT: Annotated[str, Setting("Updates and deletions by one account.")] = "120/minute"
    CLIENT_LIMIT: Annotated[str, Setting("Introspections and revocations from one address.")] = "6000/minute"
    FAILED_LOGIN_ALLOWANCE: Annotated[
        int,
        Setting("Wrong passwords in a row before an account makes its guesser wait. Counted in the database.", 1, 100),
    ] = 10
    FAILED_LOGIN_MAX_DELAY: Annotated[
        timedelta,
        Setting(
            "The longest wait; it starts at a second and doubles with each wrong password.",
            timedelta(seconds=1),
            timedelta(days=1),
        ),
    ] = timedelta(minutes=15)

    # The edge
    TRUSTED_PROXIES: Annotated[
        int,
        Setting("Proxies of your own in front of the service, whose X-Forwarded-For and -Proto are believed.", 0, 10),
    ] = 0
    CORS_ORIGINS: Annotated[
        tuple[str, ...], Setting("Origins whose pages may call the API, exact: https://app.example.com.")
    ] = ()
    LOG_LEVEL: Annotated[
        str,
        Setting(
            "The least severe line that is logged; the audit always is.", choices=("DEBUG", "INFO", "WARNING", "ERROR")
        ),
    ] = "INFO"
    # A token, not a port: it holds behind any balancer and under any server, and an open page would tell strangers how
    # many people log in. And no switch beside it: on without a token cannot be.
    METRICS_TOKEN: Annotated[
        str,
        Setting(
            "Turns /metrics on, for whoever sends `Authorization: Bearer <it>`. Empty: nothing is measured.",
            secret=True,
            needed=False,
        ),
    ] = ""
    SENTRY_DSN: Annotated[
        str, Setting("Where errors are reported, without any data; needs requirements-observe.txt. Empty: nowhere.")
    ] = ""


class DevConfig(BaseConfig):
    """One command on one machine: the tutorial's behaviour."""

    PASSWORD_HASH_QUEUE = 100  # `manage.py run` has a thread for every request
    PASSWORD_HASH_TIMEOUT = timedelta(seconds=30)


class ProdConfig(BaseConfig):
    """What a company runs: explicit secrets or no start."""

    JWT_ACCESS_TOKEN_EXPIRES = timedelta(minutes=15)
    JWT_REFRESH_TOKEN_EXPIRES = timedelta(days=30)
    JWT_REFRESH_ROTATION = True
    SESSION_LIFETIME = timedelta(days=90)
    PASSWORD_BLOCKLIST = True
    SIGN_UP_LIMIT = "10/minute;100/day"
    SIGN_UP_ACCOUNT_LIMIT = "10/minute"
    LOGIN_LIMIT = "30/minute"
    LOGIN_ACCOUNT_LIMIT = "20/minute"


class TestConfig(BaseConfig):
    """The suite: hashes that cost nothing, limits out of the way, secrets that are no secret."""

    __test__ = False  # pytest must not collect it
    JWT_SECRET_KEY = "test-jwt-secret-key-of-the-suite-only"  # noqa: S105
    FIELD_ENCRYPTION_KEYS = ("test-field-encryption-key-of-the-suite",)
    FIELD_INDEX_KEY = "test-field-index-key-of-the-suite-only"
    REDIS_TIMEOUT = 1.0  # the machine of the suite is busy
    PASSWORD_MEMORY_COST = 8
    PASSWORD_TIME_COST = 1
    PASSWORD_HASH_CONCURRENCY = 8
    PASSWORD_HASH_QUEUE = 100
    SIGN_UP_LIMIT = SIGN_UP_ACCOUNT_LIMIT = LOGIN_LIMIT = LOGIN_ACCOUNT_LIMIT = "100000/minute"
    REFRESH_LIMIT = REFRESH_ACCOUNT_LIMIT = UPDATE_ACCOUNT_LIMIT = "100000/minute"


config: dict[str, type[BaseConfig]] = {"development": DevConfig, "production": ProdConfig, "testing": TestConfig}


def settings(app: Flask | None = None) -> BaseConfig:
    """Return the settings of `app`, or else of the current application."""
    found: BaseConfig = (app or current_app).extensions["settings"]
    return found
