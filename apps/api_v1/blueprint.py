"""The blueprint that the views of this folder add their routes to."""

from flask import Blueprint

api_v1 = Blueprint("api_v1", __name__)
