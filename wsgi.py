"""The application for any WSGI server: `gunicorn wsgi:app`, `granian --interface wsgi wsgi:app`."""

import gc

from apps import create_app
from apps.database.migrations import migrate_embedded

app = create_app()
migrate_embedded(app)
gc.freeze()  # a full collection of what is loaded so far would stop all threads for 50 ms
