"""The production settings: copy to config.py, edit, keep secret. Made by `python manage.py config-example`."""

from datetime import timedelta  # noqa: F401

# Where users and sessions live: postgresql://, mysql:// or sqlite://. Empty: SQLite under instance/.
# DATABASE_URL = ""

# Connections that one process keeps, and requests that it lets at the database at a time; at most two less than
# `serve` has threads. Processes x this must stay under max_connections. From 1 to 200.
# DATABASE_POOL_SIZE = 6

# How long to wait for a connection to open, or for one of the pool. From 1 s to 60 s.
# DATABASE_TIMEOUT = timedelta(seconds=2)

# How long one SQL statement, or its wait for a lock, may take. From 1 s to 300 s.
# STATEMENT_TIMEOUT = timedelta(seconds=5)

# Cache and request counters: redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://
# (docs/scaling.md). Empty: this process's memory, one worker.
# REDIS_URL = ""

# Seconds that one call to Redis may take. A request can meet it twice: limits and cache. From 0.01 to 5.
# REDIS_TIMEOUT = 0.1

# Seconds that a cache entry lives; also the bound on staleness when a cache could not be told. From 1 to 86400.
# CACHE_TTL = 60

# First part of every key in Redis: environments that share a Redis need different ones.
# CACHE_PREFIX = "gatehouse"

# Signs the tokens (HS256).
JWT_SECRET_KEY = "change-me: the output of `openssl rand -base64 32`"

# Encrypt the mobile number (AES-256-GCM). The first one encrypts, all decrypt; to change it: docs/data.md.
FIELD_ENCRYPTION_KEYS = ["change-me: the output of `openssl rand -base64 32`"]

# Makes the blind index by which a mobile number is found.
FIELD_INDEX_KEY = "change-me: the output of `openssl rand -base64 32`"

# Mixed into every password before it is hashed; losing it locks everybody out. Empty: none.
# PASSWORD_PEPPER = ""

# How long an access token lives. From 1 s to 1 d.
# JWT_ACCESS_TOKEN_EXPIRES = timedelta(seconds=900)

# How long a refresh token lives; a session that is not refreshed ends with it. From 1 s to 365 d.
# JWT_REFRESH_TOKEN_EXPIRES = timedelta(days=30)

# Whether a refresh also gives a new refresh token and retires the old one (RFC 9700, 4.14.2).
# JWT_REFRESH_ROTATION = True

# How long a retired refresh token still gets its own successor again, for an answer that was lost. Later use
# ends the session. From 0 s to 60 s.
# REFRESH_REUSE_GRACE = timedelta(seconds=10)

# How long a session can live at most, however often it is refreshed. From 1 s to 3650 d.
# SESSION_LIFETIME = timedelta(days=90)

# Live sessions that one user may have. One more ends the one not used for longest. From 1 to 10000.
# SESSIONS_PER_USER = 100

# How tokens are signed. HS256: with JWT_SECRET_KEY. EdDSA, ES256: with keys that `manage.py keys` makes and
# that other services verify by /.well-known/jwks.json. One of HS256, EdDSA, ES256.
# JWT_ALGORITHM = "HS256"

# Seconds after which a process reads the signing keys again; a retired key is good for so long. From 0.1 to
# 300.
# JWT_KEYS_RELOAD = 5.0

# Where tokens travel: ["headers"], or ["headers", "cookies"] for browsers, with a CSRF token; then they are
# given in cookies alone, and taken from either. One of headers, cookies.
# JWT_TOKEN_LOCATION = ["headers"]

# The `iss` of the tokens (RFC 7519, 4.1.1).
# JWT_ISSUER = "gatehouse"

# The `aud` of the tokens (RFC 7519, 4.1.3).
# JWT_AUDIENCE = "gatehouse"

# How far the clocks of two machines may differ. From 0 s to 30 s.
# JWT_LEEWAY = timedelta(seconds=10)

# Years; the least age that may sign up. From 0 to 150.
# MINIMUM_AGE = 18

# Country (ISO 3166) of mobile numbers that come without a country code.
# PHONE_REGION = "CN"

# KiB of memory of one argon2id hash. From 8 to 4194304.
# PASSWORD_MEMORY_COST = 19456

# Passes of one argon2id hash. From 1 to 100.
# PASSWORD_TIME_COST = 2

# Lanes of one argon2id hash. From 1 to 16.
# PASSWORD_PARALLELISM = 1

# Passwords that one process hashes at a time: processes x this should not exceed the cores. From 1 to 64.
# PASSWORD_HASH_CONCURRENCY = 1

# Requests of one process that may wait to hash; `serve` keeps two of its threads out of it. In a burst of sign-
# ups and logins one more gets 503, with Retry-After. From 0 to 1000.
# PASSWORD_HASH_QUEUE = 6

# How long a request may wait to hash; then it gets 503. From 1 s to 60 s.
# PASSWORD_HASH_TIMEOUT = timedelta(seconds=2)

# Refuse the 30,000 passwords that leaks show most often.
# PASSWORD_BLOCKLIST = True

# Processes of the service in all. What each counts for itself, refreshes and everything while Redis is away, it
# allows its share of. From 1 to 10000.
# PROCESSES = 1

# Sign-ups from one address.
# SIGN_UP_LIMIT = "10/minute;100/day"

# Sign-ups by one name, from anywhere.
# SIGN_UP_ACCOUNT_LIMIT = "10/minute"

# Logins from one address.
# LOGIN_LIMIT = "30/minute"

# Logins to one account, from anywhere.
# LOGIN_ACCOUNT_LIMIT = "20/minute"

# Refreshes from one address.
# REFRESH_LIMIT = "600/minute"

# Refreshes of one session.
# REFRESH_ACCOUNT_LIMIT = "120/minute"

# Updates and deletions by one account.
# UPDATE_ACCOUNT_LIMIT = "120/minute"

# Introspections and revocations from one address.
# CLIENT_LIMIT = "6000/minute"

# Wrong passwords in a row before an account makes its guesser wait. Counted in the database. From 1 to 100.
# FAILED_LOGIN_ALLOWANCE = 10

# The longest wait; it starts at a second and doubles with each wrong password. From 1 s to 1 d.
# FAILED_LOGIN_MAX_DELAY = timedelta(seconds=900)

# Proxies of your own in front of the service, whose X-Forwarded-For and -Proto are believed. From 0 to 10.
# TRUSTED_PROXIES = 0

# Origins whose pages may call the API, exact: https://app.example.com.
# CORS_ORIGINS = []

# The least severe line that is logged; the audit always is. One of DEBUG, INFO, WARNING, ERROR.
# LOG_LEVEL = "INFO"

# Turns /metrics on, for whoever sends `Authorization: Bearer <it>`. Empty: nothing is measured.
# METRICS_TOKEN = ""

# Where errors are reported, without any data; needs requirements-observe.txt. Empty: nowhere.
# SENTRY_DSN = ""
