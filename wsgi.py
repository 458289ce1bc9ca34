"""The application for any WSGI server: `gunicorn wsgi:app`, `granian --interface wsgi wsgi:app`."""

import gc

from apps import create_app
from apps.database.migrations import migrate_embedded

app = create_app()
migrate_embedded(app)
gc.freeze()  # to look through all that is there already would stop every thread of the process for 50 ms, at times
