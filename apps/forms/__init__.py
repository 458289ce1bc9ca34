"""What a body may hold: shape and format only, never the database."""

import wtforms_json

wtforms_json.init()  # once a process: every call wraps WTForms anew, and a thousand of them overflow the stack
