#!/usr/bin/env python
"""The command line: `python manage.py --help`."""

if __name__ == "__main__":
    from apps.commands import main  # not in the workers, which import this file and run none of it

    main()
