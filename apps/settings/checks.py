"""What is wrong with settings that each have their type: what cannot work, and what production must not have."""

import re
from typing import Any

from flask import Flask

from apps.cache.redis_url import FORMS, is_redis_url
from apps.database import engine
from apps.settings.reader import PLACEHOLDER, declared
from apps.utils import phone

MINIMUM_SECRET_LENGTH = 32  # bytes; RFC 7518, 3.2: no shorter than the hash
_PUBLISHED = {"a secret of the benchmark, long enough for SHA-256"}  # in benchmarks/
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")  # RFC 6454, 6.2
_LEAST_MEMORY = {1: 47_104, 2: 19_456, 3: 12_288}  # {passes, 3 or more: KiB}; ASVS 5.0, appendix C


def common_faults(app: Flask, profile: type) -> list[str]:
    """Return what cannot work in any profile."""
    faults = _url_faults(app) + _secret_faults(app, profile)
    names = ("CACHE_PREFIX", "JWT_ISSUER", "JWT_AUDIENCE")
    faults += [f"{name}: must not be empty" for name in names if not app.config[name]]
    if "headers" not in app.config["JWT_TOKEN_LOCATION"]:
        faults.append("JWT_TOKEN_LOCATION: must hold headers: a token in a header is always taken")
    if not all(map(_ORIGIN.fullmatch, app.config["CORS_ORIGINS"])):
        faults.append("CORS_ORIGINS: each must be one exact origin: scheme://host or scheme://host:port")
    if not phone.is_region(app.config["PHONE_REGION"]):
        faults.append("PHONE_REGION: must be the two capital letters of a country with telephone numbers")
    if app.config["PASSWORD_MEMORY_COST"] < 8 * app.config["PASSWORD_PARALLELISM"]:
        faults.append("PASSWORD_MEMORY_COST: must be at least 8 x PASSWORD_PARALLELISM")
    return faults


def _url_faults(app: Flask) -> list[str]:
    faults = []
    if app.config["DATABASE_URL"] and not engine.is_supported(app.config["DATABASE_URL"]):
        faults.append(
            "DATABASE_URL: must read like postgresql://user:password@host:5432/name, or mysql:// or sqlite://"
        )
    if app.config["REDIS_URL"] and not is_redis_url(app.config["REDIS_URL"]):
        faults.append(f"REDIS_URL: must read like {FORMS}")
    return faults


def _secret_faults(app: Flask, profile: type) -> list[str]:
    """Return what is wrong with the secrets: missing, short, left as in the example, the same twice (ASVS 11.1.1)."""
    faults: list[str] = []
    seen: dict[str, str] = {}
    for name, (_, setting) in declared(profile).items():
        if not setting.secret:
            continue
        values = _each(app.config[name])
        if setting.needed and not (values and all(values)):
            faults.append(f"{name}: is not set")
        for value in filter(None, values):
            faults += [f"{name}: {fault}" for fault in _weaknesses(value)]
            if seen.setdefault(value, name) != name:
                faults.append(f"{name}: must not equal {seen[value]}")
    return faults


def _weaknesses(secret: str) -> list[str]:
    if secret.startswith(PLACEHOLDER):
        return ["is the placeholder of config.example.py"]
    if len(secret.encode()) < MINIMUM_SECRET_LENGTH:
        return [f"is shorter than {MINIMUM_SECRET_LENGTH} bytes"]
    if len(set(secret)) < 8:
        return ["repeats too few characters to be random"]
    return []


def _each(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def production_faults(app: Flask, published: type) -> list[str]:
    """Return what a production service must not have (ASVS 13.3.1, 13.4.2, 3.4.2, 11.4.2).

    `published` is the profile whose secrets stand in the source.
    """
    faults = _guessable_secrets(app, published)
    if app.debug:
        faults.append("FLASK_DEBUG: must not be on in production")
    origins = filter(_ORIGIN.fullmatch, app.config["CORS_ORIGINS"])
    if not all(origin.startswith("https://") for origin in origins):
        faults.append("CORS_ORIGINS: in production each must be one exact https:// origin")
    if app.config["PASSWORD_MEMORY_COST"] < _LEAST_MEMORY[min(app.config["PASSWORD_TIME_COST"], 3)]:
        least = ", ".join(f"{memory} with {passes}" for passes, memory in _LEAST_MEMORY.items())
        faults.append(f"PASSWORD_MEMORY_COST: in production at least {least} or more of PASSWORD_TIME_COST")
    return faults


def _guessable_secrets(app: Flask, published: type) -> list[str]:
    names = [name for name, (_, setting) in declared(published).items() if setting.secret]
    known = _PUBLISHED.union(*(_each(getattr(published, name)) for name in names))
    faults = []
    for name in names:
        for value in filter(None, _each(app.config[name])):
            if value in known:
                faults.append(f"{name}: is published with the source of this service")
            elif _repeats_itself(value) and not _weaknesses(value):
                faults.append(f"{name}: repeats itself")
    return faults


def _repeats_itself(text: str) -> bool:
    """Whether `text` is one pattern, twice or more, the last one perhaps in part."""
    return any(text[period:] == text[:-period] for period in range(1, len(text) // 2 + 1))
