.PHONY: help install run test check fix
.DEFAULT_GOAL := help

help:     ## Show this list
	@sed -n 's/^\([a-z]*\): *## /make \1\t/p' Makefile

install:  ## Create .venv with everything that the tests and checks need
	test -d .venv || python3 -m venv .venv
	.venv/bin/pip install --require-hashes -r requirements-dev.txt
	! command -v npm || npm ci --ignore-scripts

run:      ## Serve on http://127.0.0.1:5000 and restart when a source file changes
	.venv/bin/python manage.py run --reload

test:     ## Run the suite
	.venv/bin/python -m pytest

check:    ## Run the checks and the suite
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/python -m pytest

fix:      ## Apply automatic fixes: style, imports, generated files
	.venv/bin/ruff check --fix
	.venv/bin/ruff format
	.venv/bin/python manage.py postman
	.venv/bin/python manage.py config-example > config.example.py
