"""The `api_v1` blueprint: what a client may ask, one file a room."""

from flask import Blueprint

api_v1 = Blueprint("api_v1", __name__)

# They add their routes to it.
from apps.api_v1 import admin, audit, docs, export, introspection, login, password, session, token, user  # noqa: E402, F401
