"""Checks of settings that have the right type: what cannot work, and what production forbids."""

import re
from datetime import timedelta
from pathlib import Path

from flask import Flask
from sqlalchemy.engine import make_url

from apps.cache.single_process import sqlite_path
from apps.config import BaseConfig
from apps.database.sqlite_file import problem_of
from apps.settings import database_url, origins, redis_url
from apps.settings.embedded import make_folder
from apps.settings.reader import PLACEHOLDER, declared
from apps.utils import phone

MINIMUM_SECRET_LENGTH = 32  # bytes; the size of the hash (RFC 7518, 3.2)
_PUBLISHED = {"a secret of the benchmark, long enough for SHA-256"}  # in benchmarks/
_CONTACT = re.compile(r"(https?://|mailto:)[^\s<>\"]+")
_JWKS_COOLDOWN = timedelta(seconds=30)  # PyJWKClient and npm's jose look up an unknown key no more often
_LEAST_MEMORY = {1: 47_104, 2: 19_456, 3: 12_288}  # {passes, 3 or more: KiB}; ASVS 5.0, appendix C


def common_problems(settings: BaseConfig) -> list[str]:
    """Return the problems that no profile allows."""
    problems = _secret_problems(settings)
    names = ("CACHE_PREFIX", "JWT_ISSUER", "JWT_AUDIENCE")
    problems += [f"{name}: must not be empty" for name in names if not getattr(settings, name)]
    if "headers" not in settings.JWT_TOKEN_LOCATION:
        problems.append("JWT_TOKEN_LOCATION: must include headers: a token in a header is always accepted")
    problems += _origin_problems(settings)
    if settings.CONTACT_URL and not _CONTACT.fullmatch(settings.CONTACT_URL):
        problems.append("CONTACT_URL: must look like https://example.com/help or mailto:help@example.com")
    if not phone.is_region(settings.PHONE_REGION):
        problems.append("PHONE_REGION: must be the two capital letters of a country that has phone numbers")
    if _signs_too_early(settings):
        problems.append("JWT_KEYS_PUBLISH_AHEAD: must be at least 3 x JWT_KEYS_RELOAD")
    if settings.PASSWORD_MEMORY_COST < 8 * settings.PASSWORD_PARALLELISM:
        problems.append("PASSWORD_MEMORY_COST: must be at least 8 x PASSWORD_PARALLELISM")
    return problems


def _origin_problems(settings: BaseConfig) -> list[str]:
    problems = []
    for number, origin in enumerate(settings.CORS_ORIGINS, 1):
        try:
            origins.as_sent(origin)
        except ValueError as problem:
            problems.append(f"CORS_ORIGINS: entry {number} {problem}")
    return problems


def _signs_too_early(settings: BaseConfig, cooldown: timedelta = timedelta(0)) -> bool:
    """Return True if a verifier may get a token of a new key before the key: the JWKS can be two reloads old."""
    needed = 3 * timedelta(seconds=settings.JWT_KEYS_RELOAD) + cooldown
    return settings.JWT_ALGORITHM != "HS256" and needed > settings.JWT_KEYS_PUBLISH_AHEAD


def _secret_problems(settings: BaseConfig) -> list[str]:
    """Return the problems of secrets: missing, short, a placeholder, or used twice (ASVS 11.1.1)."""
    problems: list[str] = []
    seen: dict[str, str] = {}
    for name, (_, setting) in declared(BaseConfig).items():
        if not setting.secret:
            continue
        values = _each(getattr(settings, name))
        if setting.needed and not (values and all(values)):
            problems.append(f"{name}: is not set")
        for value in filter(None, values):
            problems += [f"{name}: {problem}" for problem in _weaknesses(value)]
            if seen.setdefault(value, name) != name and not value.startswith(PLACEHOLDER):
                problems.append(f"{name}: must not equal {seen[value]}")
    return problems


def _weaknesses(secret: str) -> list[str]:
    if secret.startswith(PLACEHOLDER):
        return ["is the placeholder of config.example.py"]
    if len(secret.encode()) < MINIMUM_SECRET_LENGTH:
        return [f"is shorter than {MINIMUM_SECRET_LENGTH} bytes"]
    if len(set(secret)) < 8:
        return ["repeats too few characters to be random"]
    return []


def _each(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else (value,)


def file_problems(app: Flask, settings: BaseConfig, *, creates: bool) -> list[str]:
    """Return why SQLite cannot use the file that DATABASE_URL names. Another database may be away at the start."""
    parsed = make_url(settings.DATABASE_URL or "sqlite://")
    file = sqlite_path(parsed, app.instance_path) if parsed.get_backend_name() == "sqlite" else None
    if file is None:
        return []
    if file.parent == Path(app.instance_path) and creates:
        make_folder(app)
    problem = problem_of(file)
    return [f"DATABASE_URL: {problem}"] if problem else []


def production_problems(settings: BaseConfig, *, published: type[BaseConfig], is_debug: bool) -> list[str]:
    """Return the problems that production forbids (ASVS 13.3.1, 13.4.2, 3.4.2, 11.4.2).

    `published` is the profile whose secrets are in the source code.
    """
    problems = _guessable_secrets(settings, published)
    for setting, module in (("DATABASE_URL", database_url), ("REDIS_URL", redis_url)):
        url = getattr(settings, setting)
        unreadable = module.unreadable_files(url) if url else []
        problems += [f"{setting}: the file of the option {name} cannot be read" for name in unreadable]
    if is_debug:
        problems.append("FLASK_DEBUG: must not be on in production")
    if any(origin.lower().startswith("http://") for origin in settings.CORS_ORIGINS):
        problems.append("CORS_ORIGINS: in production no origin may be http://; pages need TLS")
    if _signs_too_early(settings, _JWKS_COOLDOWN):
        problems.append("JWT_KEYS_PUBLISH_AHEAD: in production at least 3 x JWT_KEYS_RELOAD + 30 s")
    if _LEAST_MEMORY[min(settings.PASSWORD_TIME_COST, 3)] > settings.PASSWORD_MEMORY_COST:
        least = ", ".join(f"{memory} with {passes}" for passes, memory in _LEAST_MEMORY.items())
        problems.append(f"PASSWORD_MEMORY_COST: in production at least {least} or more passes (PASSWORD_TIME_COST)")
    return problems


def _guessable_secrets(settings: BaseConfig, published: type[BaseConfig]) -> list[str]:
    names = [name for name, (_, setting) in declared(BaseConfig).items() if setting.secret]
    guessable = _PUBLISHED.union(*(_each(getattr(published, name)) for name in names))
    problems = []
    for name in names:
        for value in filter(None, _each(getattr(settings, name))):
            if value in guessable:
                problems.append(f"{name}: is published in the source code of this service")
            elif _repeats_itself(value) and not _weaknesses(value):
                problems.append(f"{name}: is a repeated pattern")
    return problems


def _repeats_itself(text: str) -> bool:
    """Return True if `text` repeats one pattern; the last repetition may be partial."""
    return any(text[period:] == text[:-period] for period in range(1, len(text) // 2 + 1))
