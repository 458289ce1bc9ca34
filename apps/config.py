"""Every setting: meaning, type, unit and bounds.

The class of a profile defines the defaults. `config.py` at the root overrides them, and the environment overrides both
(`GATEHOUSE_<NAME>`; also `DATABASE_URL`, `REDIS_URL` and `SENTRY_DSN`). `apps/settings/` reads and checks the settings;
`settings()` returns them, typed and frozen.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from flask import Flask, current_app


@dataclass(frozen=True)
class Setting:
    """The meaning of a setting, and the bounds of its value in the unit of the setting."""

    meaning: str
    minimum: Any = None
    maximum: Any = None
    choices: tuple[str, ...] = ()
    secret: bool = False
    needed: bool = True  # False: this secret may be empty


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """The defaults: the tutorial's behaviour."""

    # Stores
    DATABASE_URL: Annotated[
        str,
        Setting("Database of users and sessions: postgresql://, mysql:// or sqlite://. Empty: SQLite under instance/."),
    ] = ""
    DATABASE_POOL_SIZE: Annotated[
        int,
        Setting(
            "Maximum number of database connections per process, and of its requests that use the database at the same "
            "time. `serve` limits it to two less than its threads. Processes x this must stay below max_connections.",
            1,
            200,
        ),
    ] = 6
    DATABASE_TIMEOUT: Annotated[
        timedelta,
        Setting(
            "Maximum wait for a database connection to open, or for a free one in the pool.",
            timedelta(seconds=1),
            timedelta(minutes=1),
        ),
    ] = timedelta(seconds=2)
    STATEMENT_TIMEOUT: Annotated[
        timedelta,
        Setting(
            "Time limit of one SQL statement, and of its wait for a lock.", timedelta(seconds=1), timedelta(minutes=5)
        ),
    ] = timedelta(seconds=5)
    REDIS_URL: Annotated[
        str,
        Setting(
            "Cache and rate limit counters: redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// "
            "(docs/scaling.md). Empty: the memory of the process, with one worker only."
        ),
    ] = ""
    REDIS_TIMEOUT: Annotated[
        float,
        Setting("Seconds that one call to Redis may take. A request may wait twice: rate limit, cache.", 0.01, 5),
    ] = 0.1
    CACHE_TTL: Annotated[
        int,
        Setting(
            "Lifetime of a cache entry, in seconds; the maximum staleness if a cache could not be invalidated.",
            1,
            86_400,
        ),
    ] = 60
    CACHE_PREFIX: Annotated[
        str, Setting("First part of every key in Redis. Environments that share a Redis need different prefixes.")
    ] = "gatehouse"

    # Secrets. Development generates them into instance/secrets.json.
    JWT_SECRET_KEY: Annotated[str, Setting("Signs tokens with HS256.", secret=True)] = ""
    FIELD_ENCRYPTION_KEYS: Annotated[
        tuple[str, ...],
        Setting(
            "Encrypt mobile numbers and signing keys (AES-256-GCM). The first key encrypts, all decrypt. To change it: "
            "docs/data.md.",
            secret=True,
        ),
    ] = ()
    FIELD_INDEX_KEY: Annotated[str, Setting("Key of the blind index that finds a mobile number.", secret=True)] = ""
    PASSWORD_PEPPER: Annotated[
        str,
        Setting(
            "Mixed into every password before it is hashed. If it is lost, nobody can log in. Empty: no pepper.",
            secret=True,
            needed=False,
        ),
    ] = ""

    # Tokens
    JWT_ACCESS_TOKEN_EXPIRES: Annotated[
        timedelta, Setting("Lifetime of an access token.", timedelta(seconds=1), timedelta(days=1))
    ] = timedelta(minutes=2)
    JWT_REFRESH_TOKEN_EXPIRES: Annotated[
        timedelta,
        Setting(
            "Lifetime of a refresh token. A session that is not refreshed in this time ends.",
            timedelta(seconds=1),
            timedelta(days=365),
        ),
    ] = timedelta(minutes=5)
    JWT_REFRESH_ROTATION: Annotated[
        bool, Setting("A refresh also returns a new refresh token and retires the old one (RFC 9700, 4.14.2).")
    ] = False
    REFRESH_REUSE: Annotated[
        str,
        Setting(
            "When the refresh token that was retired last gets its own successor again, in case an answer was lost. "
            "grace: during REFRESH_REUSE_GRACE. until_successor_used: also later, for REFRESH_REUSE_WINDOW, until the "
            "successor was used for a refresh, and from the User-Agent that got it. Any other use ends the session. "
            "docs/security.md says what the later use costs.",
            choices=("until_successor_used", "grace"),
        ),
    ] = "until_successor_used"
    REFRESH_REUSE_GRACE: Annotated[
        timedelta,
        Setting(
            "Time in which a retired refresh token gets its own successor again, from any User-Agent.",
            timedelta(0),
            timedelta(minutes=1),
        ),
    ] = timedelta(seconds=10)
    REFRESH_REUSE_WINDOW: Annotated[
        timedelta,
        Setting("Time for until_successor_used, from the refresh on.", timedelta(0), timedelta(days=30)),
    ] = timedelta(days=1)
    SESSION_LIFETIME: Annotated[
        timedelta,
        Setting(
            "Maximum lifetime of a session, regardless of refreshes.",
            timedelta(seconds=1),
            timedelta(days=3650),
        ),
    ] = timedelta(days=1)
    SESSIONS_PER_USER: Annotated[
        int,
        Setting("Maximum live sessions per user. A further login ends the least recently used one.", 1, 10_000),
    ] = 100
    JWT_ALGORITHM: Annotated[
        str,
        Setting(
            "Signature algorithm of tokens. HS256 signs with JWT_SECRET_KEY. EdDSA and ES256 sign with keys made by "
            "`manage.py keys`; other services verify these tokens with /.well-known/jwks.json.",
            choices=("HS256", "EdDSA", "ES256"),
        ),
    ] = "HS256"
    JWT_KEYS_RELOAD: Annotated[
        float,
        Setting(
            "Seconds between two reads of the signing keys. A retired key stays valid for up to this time.", 0.1, 300
        ),
    ] = 5.0
    JWT_KEYS_PUBLISH_AHEAD: Annotated[
        timedelta,
        Setting(
            "Time from the publication of a signing key to its first signature. At least three times JWT_KEYS_RELOAD, "
            "and 30 s more in production: many libraries look up an unknown key only every 30 s. Make it longer than "
            "your services cache /.well-known/jwks.json.",
            timedelta(seconds=1),
            timedelta(days=30),
        ),
    ] = timedelta(minutes=15)
    JWT_TOKEN_LOCATION: Annotated[
        tuple[str, ...],
        Setting(
            'Where tokens travel: ["headers"], or ["headers", "cookies"] for browsers, with a CSRF token. With cookies '
            "the service sends tokens only in cookies, and accepts them from both.",
            choices=("headers", "cookies"),
        ),
    ] = ("headers",)
    COOKIE_PERSISTENT: Annotated[
        bool,
        Setting("Cookies outlast a restart of the browser: each lives as long as its token. Off: until it closes."),
    ] = True
    JWT_ISSUER: Annotated[str, Setting("The `iss` claim of tokens (RFC 7519, 4.1.1).")] = "gatehouse"
    JWT_AUDIENCE: Annotated[str, Setting("The `aud` claim of tokens (RFC 7519, 4.1.3).")] = "gatehouse"
    JWT_LEEWAY: Annotated[
        timedelta, Setting("Allowed clock difference between two machines.", timedelta(0), timedelta(seconds=30))
    ] = timedelta(seconds=10)

    # Accounts
    MINIMUM_AGE: Annotated[int, Setting("Minimum age at sign-up, in years.", 0, 150)] = 18
    PHONE_REGION: Annotated[str, Setting("Country (ISO 3166) of mobile numbers without a country code.")] = "CN"
    PASSWORD_MEMORY_COST: Annotated[int, Setting("Memory of one argon2id hash, in KiB.", 8, 4_194_304)] = 19_456
    PASSWORD_TIME_COST: Annotated[int, Setting("Passes of one argon2id hash.", 1, 100)] = 2
    PASSWORD_PARALLELISM: Annotated[int, Setting("Lanes of one argon2id hash.", 1, 16)] = 1
    PASSWORD_HASH_CONCURRENCY: Annotated[
        int,
        Setting("Parallel password hashes per process. Processes x this should not exceed the number of cores.", 1, 64),
    ] = 1
    PASSWORD_HASH_QUEUE: Annotated[
        int,
        Setting(
            "Requests per process that may wait for a password hash. `serve` keeps two threads free of them. Further "
            "sign-ups and logins get 503 with Retry-After.",
            0,
            1_000,
        ),
    ] = 6
    PASSWORD_HASH_TIMEOUT: Annotated[
        timedelta,
        Setting("Maximum wait for a hash; then the request gets 503.", timedelta(seconds=1), timedelta(minutes=1)),
    ] = timedelta(seconds=2)
    PASSWORD_BLOCKLIST: Annotated[
        bool, Setting("Refuse the 30,000 most leaked passwords, and passwords that contain the username.")
    ] = False

    # Rate limits. "10/minute;100/hour" sets two limits; windows slide. Processes share their counters in Redis, except
    # for refreshes: each process counts its own, which saves a second round trip.
    PROCESSES: Annotated[
        int,
        Setting(
            "Total number of processes of the service. A process that counts alone allows only its share of a limit: "
            "for refreshes always, for the rest while Redis is away.",
            1,
            10_000,
        ),
    ] = 1
    SIGN_UP_LIMIT: Annotated[str, Setting("Sign-ups per address.")] = "100/minute"
    SIGN_UP_ACCOUNT_LIMIT: Annotated[str, Setting("Sign-ups per username, from any address.")] = "60/minute"
    LOGIN_LIMIT: Annotated[str, Setting("Logins per address.")] = "100/minute"
    LOGIN_ACCOUNT_LIMIT: Annotated[str, Setting("Logins per account, from any address.")] = "60/minute"
    REFRESH_LIMIT: Annotated[str, Setting("Refreshes per address.")] = "600/minute"
    REFRESH_ACCOUNT_LIMIT: Annotated[str, Setting("Refreshes per session.")] = "120/minute"
    UPDATE_ACCOUNT_LIMIT: Annotated[
        str, Setting("Updates, deletions, password changes and exports per requesting account.")
    ] = "120/minute"
    CLIENT_LIMIT: Annotated[str, Setting("Introspections and revocations per address.")] = "6000/minute"
    FAILED_LOGIN_ALLOWANCE: Annotated[
        int,
        Setting("Wrong passwords in a row before logins to the account are delayed. Counted in the database.", 1, 100),
    ] = 10
    FAILED_LOGIN_MAX_DELAY: Annotated[
        timedelta,
        Setting(
            "Maximum delay. It starts at one second and doubles with each wrong password.",
            timedelta(seconds=1),
            timedelta(days=1),
        ),
    ] = timedelta(minutes=15)

    # Network and monitoring
    TRUSTED_PROXIES: Annotated[
        int,
        Setting("Number of your own proxies in front. Their X-Forwarded-For and X-Forwarded-Proto are trusted.", 0, 10),
    ] = 0
    CORS_ORIGINS: Annotated[
        tuple[str, ...],
        Setting(
            "Exact origins that may call the API: https://app.example.com of a page, capacitor://localhost of an app."
        ),
    ] = ()
    CONTACT_URL: Annotated[
        str,
        Setting(
            "Where users of the API get help, for the OpenAPI document: https://, http:// or mailto:. Empty: none."
        ),
    ] = ""
    LOG_LEVEL: Annotated[
        str,
        Setting("Lowest level that is logged; audit events always are.", choices=("DEBUG", "INFO", "WARNING", "ERROR")),
    ] = "INFO"
    # A token instead of a separate port works behind any balancer and under any server. Open metrics would reveal how
    # many people log in. There is no second switch, so metrics without a token are impossible.
    METRICS_TOKEN: Annotated[
        str,
        Setting(
            "Turns /metrics on and protects it: `Authorization: Bearer <token>`. Empty: nothing is measured.",
            secret=True,
            needed=False,
        ),
    ] = ""
    SENTRY_DSN: Annotated[
        str, Setting("Where errors are reported, without any data; requires requirements-observe.txt. Empty: nowhere.")
    ] = ""


class DevConfig(BaseConfig):
    """Development on one machine: the tutorial's behaviour."""

    PASSWORD_HASH_QUEUE = 100  # `manage.py run` starts a thread for each request
    PASSWORD_HASH_TIMEOUT = timedelta(seconds=30)


class ProdConfig(BaseConfig):
    """Production: does not start without explicit secrets."""

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
    """The test suite: cheap hashes, high limits, published secrets."""

    __test__ = False  # pytest must not collect it
    JWT_SECRET_KEY = "test-jwt-secret-key-of-the-suite-only"  # noqa: S105
    FIELD_ENCRYPTION_KEYS = ("test-field-encryption-key-of-the-suite",)
    FIELD_INDEX_KEY = "test-field-index-key-of-the-suite-only"
    REDIS_TIMEOUT = 1.0  # test machines are busy
    PASSWORD_MEMORY_COST = 8
    PASSWORD_TIME_COST = 1
    PASSWORD_HASH_CONCURRENCY = 8
    PASSWORD_HASH_QUEUE = 100
    SIGN_UP_LIMIT = SIGN_UP_ACCOUNT_LIMIT = LOGIN_LIMIT = LOGIN_ACCOUNT_LIMIT = "100000/minute"
    REFRESH_LIMIT = REFRESH_ACCOUNT_LIMIT = UPDATE_ACCOUNT_LIMIT = "100000/minute"


config: dict[str, type[BaseConfig]] = {"development": DevConfig, "production": ProdConfig, "testing": TestConfig}


def settings(app: Flask | None = None) -> BaseConfig:
    """Return the settings of `app`, by default of the current application."""
    found: BaseConfig = (app or current_app._get_current_object()).extensions["settings"]  # type: ignore[attr-defined]
    return found
