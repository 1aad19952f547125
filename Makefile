# Two targets for a newcomer: `make up` boots a Debian riscv64 kernel, `make test` proves the project.
.PHONY: up test lint sanitize fuzz bench lab fwts wheel clean
.DELETE_ON_ERROR:

C_FILES := $(shell find vmrun -name '*.[ch]' ! -name '_core.c')
BUILD_INPUTS := pyproject.toml setup.py tools/setup vmrun/core/build.py $(C_FILES)
VMRUN := .venv/bin/vmrun
PYTEST_ARGS ?=

up: .make/run
	$(VMRUN) up manifests/riscv-micro.toml

test: .make/test
	.venv/bin/pytest $(PYTEST_ARGS)

lint: .make/test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

# The C core under AddressSanitizer and UndefinedBehaviorSanitizer, through the same tests.
sanitize: .make/test
	tools/sanitize $(PYTEST_ARGS)

fuzz: .make/test
	tools/fuzz

bench: .make/test
	tools/setup bench
	.venv/bin/python bench/startup.py
	.venv/bin/python bench/core.py
	.venv/bin/python bench/boot.py

# KVM of another machine than this one, proven: an emulated host with virtualization hardware runs the tests in it.
ARCH ?= x86_64
LAB_RUNS ?= 5
lab: .make/lab-$(ARCH)
	@.venv/bin/python tests/lab/lab_run.py --arch $(ARCH) --bench-runs $(LAB_RUNS) $(LAB_ARGS) || \
	{ status=$$?; test $$status = 77 && echo "lab: SKIPPED: see the line above" && exit 0; exit $$status; }

# The ACPI tables of a manifest, judged offline by the Firmware Test Suite of Debian's sid; skipped where it cannot be had.
fwts: .make/test
	@.venv/bin/python tests/lab/fwts.py $(FWTS_ARGS) || \
	{ status=$$?; test $$status = 77 && echo "fwts: SKIPPED: see the line above" && exit 0; exit $$status; }

wheel: .make/test
	.venv/bin/python -m pip wheel -q --no-deps -w dist .

# A set-up for the tests serves a run as well.
.make/run: $(BUILD_INPUTS)
	tools/setup $(if $(wildcard .make/test),test,run)
	@mkdir -p .make && touch $@ $(if $(wildcard .make/test),.make/test)

.make/test: $(BUILD_INPUTS)
	tools/setup test
	@mkdir -p .make && touch .make/run $@

.make/lab-%: .make/test
	tools/setup-lab $*
	@touch $@

clean:
	rm -rf .make .venv build dist *.egg-info vmrun/_core.c vmrun/_core*.so
