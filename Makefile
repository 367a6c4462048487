# make demo    two qmon processes move a disk while it is written
# make demo-qemu  two QEMUs: a guest moves with its disk, and counts on; installs QEMU where it can
# make check   formatting, types, imports, the manual and the tests; installs the peers of the tests where it can
# make tests   the tests alone
# make coverage  the tests with their coverage; takes longer
# make thorough  the tests with all their cases, five times the examples, and each qmon started anew
# make torture 910 migrations that are cut, stalled, slowed, killed or resumed at random, and 200 of shared disks
# make qemu-matrix  a guest moved between QEMU 7.2 and 10, all kinds of disks, 20 times each
# make torture-qemu  200 guests of real QEMUs that are moved while consoles, QEMUs or the line between them fail
# make grammar 50000 monitor lines at random, put to QEMU 7.2 and to qmon: all answers agree
# make fuzz    5000 damaged qcow2 images: refused, or read and written as QEMU does it; 20000 QMP messages and 5000 NBD sessions at random
# make power-loss  6000 power failures while qcow2 images are used: what was flushed is there
# make docs    the manual: docs/_build/html, and the man page docs/_build/man/qmon.1
# make screenshots  the screens in the manual, taken anew from a terminal, and the report from a browser
# make bench   measures the figures of the manual here, and makes their plots; takes ten minutes
# make figures the plots alone, from what was measured
# make dist    source archive and wheel, in dist/
# make clean   take away all that was made
#
# Each does its own set-up, given git, make and python3; PYTHON=... chooses another interpreter.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
SPHINX := $(RUN) -m sphinx -q -W --keep-going
PYTEST := -m pytest -n 4 --dist worksteal
BELOW := awk '$$1 == "TOTAL" || $$NF ~ /%$$/ && $$NF + 0 < 80 {print "covered:", $$NF, $$1}'
MAKEFLAGS += --no-print-directory
export PYTHON
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# each of some thousand processes would compile its modules anew
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo demo-qemu check tests coverage thorough docs screenshots torture torture-qemu qemu-matrix grammar fuzz power-loss bench figures dist clean environment test-environment peers

help:
	@sed -n 's/^# make/make/p' Makefile

demo: environment
	@$(RUN) -m bench.demo

demo-qemu: environment
	@tools/install-qemu
	@$(RUN) -m bench.demo_qemu

check: test-environment docs
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m mypy docs
	$(VENV)/bin/lint-imports --no-cache
	$(MAKE) tests

tests: test-environment peers
	$(RUN) $(PYTEST)

coverage: test-environment peers
	rm -rf .coverage
	$(RUN) -m coverage run $(PYTEST)
	@$(RUN) -W ignore -m coverage combine -q; $(RUN) -m coverage report | $(BELOW)

thorough: test-environment peers
	QMON_THOROUGH=1 $(RUN) $(PYTEST)

docs: test-environment
	$(SPHINX) -b html docs docs/_build/html
	$(RUN) -m docs.shipped docs/_build/man

torture: test-environment peers
	@$(RUN) -m tests.torture.campaign
	@$(RUN) -m tests.torture.shared

qemu-matrix: test-environment peers
	@$(RUN) -m tests.interop.remote.migration.matrix

torture-qemu: test-environment peers
	@$(RUN) -m tests.torture.campaign --kind qemus

grammar: test-environment peers
	QMON_REQUIRE_PEERS=1 QMON_GRAMMAR_LINES=50000 $(RUN) -m pytest --timeout=0 tests/interop/hmp/test_grammar.py

fuzz: test-environment peers
	@$(RUN) -m tests.fuzz.qcow2
	@$(RUN) -m tests.fuzz.qmp
	@$(RUN) -m tests.fuzz.nbd

power-loss: test-environment peers
	@$(RUN) -m tests.fuzz.power_loss

bench: export QMON_BENCH_RESULTS = docs/figures
bench: test-environment peers
	$(RUN) -m bench.start
	$(RUN) -m bench.migrate
	$(RUN) -m bench.cold
	$(RUN) -m bench.nbd
	$(RUN) -m bench.hanging
	$(RUN) -m bench.beside
	$(RUN) -m bench.forward
	$(RUN) -m bench.downtime
	$(RUN) -m bench.sparse
	$(RUN) -m bench.incremental
	$(RUN) -m bench.between_qemus
	$(RUN) -m bench.by_libvirt
	$(RUN) -m bench.relay
	$(RUN) -m bench.script
	$(RUN) -m bench.keystroke
	$(MAKE) figures

figures: test-environment
	$(RUN) -m pip install -q -e ".[figures]"
	$(RUN) -m bench.plots docs/figures

screenshots: test-environment peers
	$(RUN) -m tests.console.scenes docs/screens
	$(RUN) -m bench.report docs/figures/report.png

dist: test-environment
	$(RUN) -m build

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find . -name __pycache__ -prune -exec rm -rf {} +

environment:
	@tools/environment $(VENV)

test-environment:
	@tools/environment $(VENV) test

peers:
	@tools/install-peers || echo "the checks go on with the peers that are there"
