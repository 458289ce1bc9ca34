"""Forms of bodies and query strings. They check shape and format only, never the database."""

import wtforms_json

wtforms_json.init()  # once per process: each call wraps WTForms again, and a thousand calls overflow the stack
