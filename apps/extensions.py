"""The Flask extensions, created unbound. `create_app` binds them to an application."""

from flask_cors import CORS
from flask_jwt_extended import JWTManager
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

from apps.cache.store import Cache

# Every constraint has a name, by which errors are distinguished and migrations can drop it.
NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """The declarative base of every model."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


# Rows stay readable after the commit, so an answer needs no second SELECT.
db = SQLAlchemy(model_class=Base, session_options={"expire_on_commit": False})
cache = Cache()
jwt = JWTManager()
cors = CORS()
