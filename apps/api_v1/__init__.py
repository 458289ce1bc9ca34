"""The views of `/api/v1`, one file per feature. Importing the package adds their routes to the blueprint."""

from apps.api_v1 import (  # noqa: F401
    admin,
    audit,
    docs,
    export,
    introspection,
    login,
    password,
    session,
    settings,
    token,
    user,
)
from apps.api_v1.blueprint import api_v1

__all__ = ["api_v1"]
