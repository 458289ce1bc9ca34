"""The read as a Flask tutorial implements it.

It uses Flask-JWT-Extended, a Redis client per request on a connection pool, and a Redis hash as the cache. gunicorn
serves it with gevent: `gunicorn -k gevent -w 2 tutorial_app:app`.
"""

import os
from typing import Any

import redis
from argon2 import PasswordHasher
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from flask_cors import CORS
from flask_jwt_extended import JWTManager, create_access_token, create_refresh_token, get_jwt_identity, jwt_required
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

db = SQLAlchemy()
hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


class User(db.Model):  # type: ignore[name-defined, misc]
    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    password: Mapped[str]
    mobile: Mapped[str]
    age: Mapped[int]


def create_app(database_url: str, redis_url: str) -> Flask:
    """Create the tables and return the application."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url.replace("postgresql://", "postgresql+psycopg://")
    app.config["JWT_SECRET_KEY"] = "a secret of the benchmark, long enough for SHA-256"
    app.config["JWT_ACCESS_TOKEN_EXPIRES"] = 3600
    db.init_app(app)
    JWTManager(app)
    CORS(app)
    with app.app_context():
        db.create_all()

    pool = redis.ConnectionPool.from_url(redis_url, decode_responses=True)

    def connect() -> Any:
        return redis.Redis(connection_pool=pool)

    @app.post("/api/v1/users/")
    def sign_up() -> ResponseReturnValue:
        body = request.get_json()
        user = User(
            username=body["username"],
            password=hasher.hash(body["password"]),
            mobile=body["mobile"],
            age=body["info"]["age"],
        )
        db.session.add(user)
        db.session.commit()
        connect().hset(f"user:{user.id}", mapping=_info(user))
        tokens = {
            "access_token": create_access_token(str(user.id)),
            "refresh_token": create_refresh_token(str(user.id)),
        }
        return _success({**_info(user), **tokens})

    @app.get("/api/v1/users/")
    @jwt_required()
    def read() -> ResponseReturnValue:
        user_id = get_jwt_identity()
        cached = connect().hgetall(f"user:{user_id}")
        if cached:
            return _success({**cached, "cache": True})
        return _success(_info(db.session.get_one(User, int(user_id))))

    @app.post("/api/v1/refresh")
    @jwt_required(refresh=True)
    def refresh() -> ResponseReturnValue:
        return _success({"access_token": create_access_token(get_jwt_identity())})

    return app


def _info(user: User) -> dict[str, Any]:
    return {"id": user.id, "username": user.username, "mobile": user.mobile, "age": user.age}


def _success(data: dict[str, Any]) -> ResponseReturnValue:
    return jsonify({"code": 200, "state": 0, "message": "SUCCESS", "data": data})


app = create_app(os.environ["DATABASE_URL"], os.environ["REDIS_URL"]) if "TUTORIAL_APP" in os.environ else None
