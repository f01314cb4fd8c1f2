# `make demo` and `make test` need Python 3.11 or newer and nothing else. Package indexes, proxies and certificates are
# taken from the environment, as pip and uv document them.

PYTHON ?= python3
# uv installs several times faster; where it is missing and cannot be had, pip does the same
UV := $(shell command -v uv)
LOCK = PATH="$$PATH:.venv/bin" uv pip compile --universal --generate-hashes --python-version 3.11 --no-header --quiet

.PHONY: demo test install lock schemas

demo: install
	.venv/bin/streamrec demo

test: install
	.venv/bin/pytest -m "not browser" -n 2 --dist loadfile

install: .venv/current

# current as long as neither the pinned versions nor the project's metadata change
.venv/current: requirements/dev.txt requirements/build.txt pyproject.toml
ifdef UV
	test -x .venv/bin/python || uv venv --python ">=3.11" .venv
else
	$(PYTHON) -c 'import sys; sys.exit("streamrec needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	test -x .venv/bin/pip || $(PYTHON) -m venv --clear .venv
	.venv/bin/pip install --quiet --require-hashes -r requirements/build.txt || echo "no uv here: pip installs, slowly"
endif
	PATH="$$PATH:$$PWD/.venv/bin"; \
	if command -v uv >/dev/null; then set -- uv pip install --python .venv/bin/python; else set -- .venv/bin/pip install; fi; \
	export UV_COMPILE_BYTECODE=1; \
	set -x; \
	"$$@" --require-hashes -r requirements/dev.txt && "$$@" --no-deps --no-build-isolation --editable .
	.venv/bin/python -c 'from streamrec.model import covisitation, lists; lists.warm_up(); covisitation.warm_up()'  # compiles loops
	touch $@

# pins every version anew, within the bounds of pyproject.toml
lock: install
	$(LOCK) --upgrade --extra local --extra eval --extra dev pyproject.toml --output-file requirements/dev.txt
	$(LOCK) --constraints requirements/dev.txt pyproject.toml --output-file requirements/runtime.txt
	printf 'hatchling\nuv\n' | $(LOCK) --constraints requirements/dev.txt - --output-file requirements/build.txt

# writes schemas/ from the message types
schemas: install
	.venv/bin/python -m streamrec.contracts.schemas
