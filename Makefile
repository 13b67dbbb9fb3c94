# Two commands for a newcomer: `make demo` and `make test`. Both need only Python >= 3.10 and g++.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# With an NVIDIA driver, CuPy is installed too and everything runs on the GPU.
GPU := $(shell command -v nvidia-smi 2>/dev/null || ls /proc/driver/nvidia/version 2>/dev/null)
comma := ,
WITH_GPU := $(if $(GPU),$(comma)cuda13)

# The tests run the kernels in the emulator and fail without it, so `make test` builds it. Later
# installs into the same environment keep it.
EMULATOR = $(if $(findstring test,$*)$(wildcard $(VENV)/.installed-test*),\
  -C cmake.define.VGG_CUDA_EMULATOR=ON)
# An editable install stays editable.
EDITABLE := -C cmake.define.VGG_CUDA_EMULATOR=ON -C editable.rebuild=true
export VGG_CUDA_TESTS_EXPECT_EMULATOR := 1

SOURCES := pyproject.toml CMakeLists.txt README.md \
  $(shell find build_backend cmake csrc vgg_cuda -type f -not -name '*.pyc')

.PHONY: help demo test test-slow lint format bench results gpu sass-diff dev clean

help:
	@echo "make demo       install, classify real images, time VGG-16         (<= 5 min)"
	@echo "make test       install and run the tests                          (<= 15 min)"
	@echo "make test-slow  run the full-size tests that make test leaves out"
	@echo "make lint       run ruff, mypy --strict, clang-format and codespell"
	@echo "make format     fix what ruff and clang-format can fix"
	@echo "make dev        install in editable mode; csrc/ is rebuilt when vgg_cuda is imported"
	@echo "make bench      measure the CPU next to PyTorch and onnxruntime, update bench/results/"
	@echo "make gpu        build, test and measure on a GPU, without a network; OUT=folder (<= 9 min)"
	@echo "make results    render the newest results and the plan into README.md, docs/ and pictures"
	@echo "make sass-diff  compare the kernels' machine code with that of a commit; BASE=commit"
	@echo "make clean      remove .venv and the build folders"

demo: $(VENV)/.installed-demo$(WITH_GPU)
	$(BIN)/python examples/demo.py

test: $(VENV)/.installed-test$(WITH_GPU)
	$(BIN)/pytest -m "not slow" -n 2 --dist worksteal

test-slow: $(VENV)/.installed-test$(WITH_GPU)
	$(BIN)/pytest -m slow

TODAY := $(shell date +%Y-%m-%d)
bench: $(VENV)/.installed-bench
	$(BIN)/vgg-cuda bench model vgg16 --device cpu --batch 1,8 --peers torch,onnxruntime \
	  --output bench/results/$(TODAY)-cpu.json
	$(BIN)/vgg-cuda profile vgg16 --device cpu --output bench/results/$(TODAY)-cpu-profile.json
	$(BIN)/python bench/render.py

results: $(VENV)/.installed-test
	$(BIN)/python bench/render.py
	$(BIN)/python docs/render_network.py
	$(BIN)/python docs/render_models.py

# Uses PYTHON if the command line or the environment sets it, else .venv if it exists, else python3.
# Installs and downloads nothing.
GPU_PYTHON = $(if $(filter file,$(origin PYTHON)),$(wildcard $(BIN)/python))
gpu:
	@PYTHONPATH="bench:$$PYTHONPATH" $(or $(GPU_PYTHON),$(PYTHON)) -m gpu \
	  $(if $(OUT),--out "$(OUT)") $(ARGS)

# ARGS: more options of the script, such as --arch sm_90a or --rename old=new.
sass-diff: $(VENV)/.installed-test
	$(BIN)/python bench/sass_diff.py $(or $(BASE),$(error BASE: expected a commit)) $(ARGS)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	find csrc -type f -not -name '*.md' | xargs $(BIN)/clang-format --dry-run --Werror
	$(BIN)/codespell

format: $(VENV)/.installed-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	find csrc -type f -not -name '*.md' | xargs $(BIN)/clang-format -i

dev: $(BIN)/python
	$(BIN)/python -m pip install "scikit-build-core>=0.11" "pybind11>=2.13" cmake ninja
	$(BIN)/python -m pip install --no-build-isolation $(EDITABLE) -e ".[test,lint]"
	@touch $(VENV)/.editable $(VENV)/.installed-test $(VENV)/.installed-lint

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and \
	  "vgg_cuda needs Python >= 3.10, this is " + sys.version.split()[0] + ": make PYTHON=...")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "python3 -m venv failed; Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(VENV)/.installed-%: $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet $(if $(wildcard $(VENV)/.editable),\
	  --no-build-isolation $(EDITABLE) -e,$(EMULATOR)) ".[$*]"
	@touch "$@"

clean:
	rm -rf $(VENV) build dist demo
