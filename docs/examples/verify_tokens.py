"""Another Flask service that accepts Gatehouse's access tokens, verified by its public keys (EdDSA or ES256).

Start Gatehouse with a signing key:

    export GATEHOUSE_JWT_ALGORITHM=EdDSA
    .venv/bin/python manage.py db upgrade
    .venv/bin/python manage.py keys rotate
    .venv/bin/python manage.py run

Start this service in another terminal. It needs `flask` and `pyjwt[crypto]`, which Gatehouse's .venv has:

    .venv/bin/flask --app docs/examples/verify_tokens.py run --port 5001

Log in to Gatehouse, and send the access token to this service:

    curl -H "Authorization: Bearer $ACCESS_TOKEN" 127.0.0.1:5001/orders

The variable ACCOUNTS_URL is the address of Gatehouse; the default is http://127.0.0.1:5000.
"""

import os

import jwt
from flask import Flask, abort, request

app = Flask(__name__)
keys = jwt.PyJWKClient(os.environ.get("ACCOUNTS_URL", "http://127.0.0.1:5000") + "/.well-known/jwks.json")
ALGORITHMS = ["EdDSA", "ES256"]  # those that Gatehouse can sign with; which one it is, the key says
REQUIRED = ["exp", "iat", "nbf", "sub", "sid", "jti", "type"]


def current_user_id():
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    try:
        key = keys.get_signing_key_from_jwt(token)
        claims = jwt.decode(
            token, key, ALGORITHMS, audience="gatehouse", issuer="gatehouse", options={"require": REQUIRED}
        )
    except jwt.PyJWKClientConnectionError:
        abort(503)  # not 401: the token may be good
    except jwt.PyJWTError:
        abort(401)
    return claims["sub"] if claims["type"] == "access" else abort(401)  # a refresh token opens nothing here


@app.get("/orders")
def orders():
    return {"orders_of": current_user_id()}
