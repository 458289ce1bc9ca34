"""The application for any WSGI server: `gunicorn wsgi:app`, `granian --interface wsgi wsgi:app`."""

from apps import create_app
from apps.utils.embedded import migrate_embedded

app = create_app()
migrate_embedded(app)
