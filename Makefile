# `make demo` and `make test` need Python 3.11 or newer and nothing else.

# versions that all sets share; what only PyPI's torch for Linux brings (CUDA) is in the set of torch alone
ALL = .venv/all.txt
LOCK = PATH="$$PATH:.venv/bin" uv pip compile --universal --generate-hashes --python-version 3.11 --no-header --quiet
PIN = $(LOCK) --constraints $(ALL)
WITHOUT_TORCH = $$(sed -nE 's/^(torch|triton|(nvidia|cuda)-[a-z0-9-]+)==.*/--no-emit-package \1/p' $(ALL))

.PHONY: demo test install lock schemas settings

demo: .venv/local
	.venv/bin/streamrec demo

test: install
	.venv/bin/pytest -m "not browser" -n 2 --dist loadfile

install: .venv/compiled

# current as long as neither the pinned versions nor the project's metadata change
.venv/local .venv/dev: .venv/%: requirements/%.txt requirements/torch.txt requirements/torch-cpu.txt \
		requirements/build.txt requirements/install pyproject.toml
	requirements/install $*
	touch $@

# no test waits for a compiler; `demo` compiles while its servers start
.venv/compiled: .venv/dev $(wildcard streamrec/model/*.py streamrec/model/*/*.py)
	.venv/bin/python -m streamrec.model.warm_up
	touch $@

# pins every version anew, within the bounds of pyproject.toml; needs PyTorch's index, https://download.pytorch.org/whl
lock: install
	$(LOCK) --upgrade --extra local --extra eval --extra dev pyproject.toml --output-file $(ALL)
	$(PIN) $(WITHOUT_TORCH) pyproject.toml --output-file requirements/runtime.txt
	printf 'hatchling\n' | $(PIN) $(WITHOUT_TORCH) --extra local pyproject.toml - --output-file requirements/local.txt
	$(PIN) $(WITHOUT_TORCH) --extra local --extra eval --extra dev pyproject.toml --output-file requirements/dev.txt
	printf 'hatchling\nuv\n' | $(PIN) - --output-file requirements/build.txt
	printf 'torch\n' | $(PIN) - --output-file requirements/torch.txt
	printf "torch; sys_platform == 'linux'\n" | $(PIN) --torch-backend cpu - --output-file requirements/torch-cpu.txt

# writes schemas/ from the message types
schemas: install
	.venv/bin/python -m streamrec.contracts.schemas

# writes docs/settings.md from the settings
settings: install
	.venv/bin/python -m streamrec.settings_table
