# PYTHON=python3.13 just … chooses the interpreter; .venv is made anew when it changes.

set positional-arguments

python := env("PYTHON", "")
bin := ".venv/bin"

# List the recipes
default:
    @just --list --unsorted

# Run the main job against an embedded upstream and prove that it worked (--keep leaves it running)
demo *ARGS: _venv
    @{{ bin }}/flow-rotate demo "$@"

# Run mitmdump with the addon and your secrets (secrets/secrets.yaml)
run *ARGS: _venv
    @{{ bin }}/flow-rotate path --secrets > /dev/null
    @{{ bin }}/mitmdump -s addon/flow_rotate.py "$@"

# The same with mitmweb, to look at the flows in a browser
web *ARGS: _venv
    @{{ bin }}/flow-rotate path --secrets > /dev/null
    @{{ bin }}/mitmweb -s addon/flow_rotate.py "$@"

# Pass all tests (arguments go to pytest)
test *ARGS: _venv
    @{{ bin }}/python -m pytest "$@"

# Lint, formatting, types, and the README's commands and tables against the code
check: _venv
    @{{ bin }}/ruff check
    @{{ bin }}/ruff format --check
    @{{ bin }}/mypy
    @{{ bin }}/python -m pytest --quiet tests/test_docs.py

# Format the code and mend what ruff can mend
fmt: _venv
    @{{ bin }}/ruff check --fix
    @{{ bin }}/ruff format

# Make .venv with all that is needed; the other recipes do it by themselves
setup: _venv

# Remove .venv, builds and caches; your secrets stay
clean:
    rm -rf .venv build dist addon/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
    find addon tests -name __pycache__ -prune -exec rm -rf {} +

_venv:
    #!/bin/sh
    set -eu
    python='{{ python }}'
    stamp() { echo "${python:-any} $(cksum < pyproject.toml)"; }
    if [ -f .venv/stamp ]; then
        made=$(cat .venv/stamp)
        [ "$made" = "$(stamp)" ] && exit 0
        [ -z "$python" ] && [ "${made#* }" = "$(cksum < pyproject.toml)" ] && exit 0
    fi
    echo "setting up .venv (a minute or two, once)" >&2
    "${python:-python3}" -m venv --clear .venv
    {{ bin }}/python -m pip install --quiet --upgrade pip
    {{ bin }}/python -m pip install --quiet --editable '.[cli]' --group dev
    stamp > .venv/stamp
