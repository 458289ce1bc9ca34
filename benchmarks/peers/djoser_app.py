"""Django with djoser and simplejwt on gunicorn, with persistent connections: `/auth/users/me/`."""

import os
from datetime import timedelta
from urllib.parse import urlsplit

import django
from django.conf import settings

_url = urlsplit(os.environ["DATABASE_URL"])
settings.configure(
    SECRET_KEY="a secret of the benchmark, long enough for SHA-256",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "djoser"],
    MIDDLEWARE=["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": _url.path[1:],
            "USER": _url.username,
            "PASSWORD": _url.password or "",
            "HOST": _url.hostname,
            "PORT": _url.port or 5432,
            "CONN_MAX_AGE": None,
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework_simplejwt.authentication.JWTAuthentication"],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    },
    SIMPLE_JWT={"ACCESS_TOKEN_LIFETIME": timedelta(hours=1), "AUTH_HEADER_TYPES": ("Bearer",)},
    USE_TZ=True,
)
django.setup()

from django.core.management import call_command  # noqa: E402 (the setup must come first)
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import include, path  # noqa: E402

urlpatterns = [path("auth/", include("djoser.urls")), path("auth/", include("djoser.urls.jwt"))]
app = get_wsgi_application()

if __name__ == "__main__":
    call_command("migrate", verbosity=0)
