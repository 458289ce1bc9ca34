#!/usr/bin/env python
"""The command line: `python manage.py --help`."""

from apps.commands import main

if __name__ == "__main__":
    main()
