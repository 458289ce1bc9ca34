"""What is wrong with settings that each have their type: URLs, secrets, what production must not have."""

from flask import Flask

from apps.utils import database
from apps.utils.redis_url import FORMS, is_redis_url
from apps.utils.settings import PLACEHOLDER, declared, needed_secrets

MINIMUM_SECRET_LENGTH = 32  # bytes; RFC 7518, 3.2: no shorter than the hash


def url_faults(app: Flask) -> list[str]:
    """Return which URLs of stores cannot be read."""
    faults = []
    if app.config["DATABASE_URL"] and not database.is_supported(app.config["DATABASE_URL"]):
        faults.append(
            "DATABASE_URL: must read like postgresql://user:password@host:5432/name, or mysql:// or sqlite://"
        )
    if app.config["REDIS_URL"] and not is_redis_url(app.config["REDIS_URL"]):
        faults.append(f"REDIS_URL: must read like {FORMS}")
    return faults


def token_location_faults(app: Flask) -> list[str]:
    """Return what is wrong with where tokens travel."""
    if "headers" in app.config["JWT_TOKEN_LOCATION"]:
        return []
    return ["JWT_TOKEN_LOCATION: must hold headers: a token in a header is always taken"]


def secret_faults(app: Flask, profile: type) -> list[str]:
    """Return what is wrong with the secrets: missing, short, left as in the example, the same twice (ASVS 11.1.1)."""
    faults: list[str] = []
    seen: dict[str, str] = {}
    for name, (_, setting) in declared(profile).items():
        if not setting.secret:
            continue
        values = app.config[name] if isinstance(app.config[name], list) else [app.config[name]]
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


def production_faults(app: Flask, published: type) -> list[str]:
    """Return what a production service must not have (ASVS 13.3.1, 13.4.2, 3.4.2).

    `published` is the profile whose secrets stand in the source.
    """
    known = [name for name in needed_secrets(published) if app.config[name] == getattr(published, name)]
    faults = [f"{name}: is published with the source of this service" for name in known]
    if app.debug:
        faults.append("FLASK_DEBUG: must not be on in production")
    if any("*" in origin or not origin.startswith("https://") for origin in app.config["CORS_ORIGINS"]):
        faults.append("CORS_ORIGINS: in production each must be one exact https:// origin")
    return faults
