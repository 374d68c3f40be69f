# PYTHON=python3.13 just … chooses the interpreter; .venv is made anew when it changes.

set positional-arguments

python := env("PYTHON", "")
bin := ".venv/bin"

# List the recipes
default:
    @{{ just_executable() }} --list --unsorted

# Run the main job against an embedded upstream and prove that it worked (--keep leaves it running)
[no-exit-message]
demo *ARGS: _venv
    @exec {{ bin }}/flow-rotate demo "$@"

# Run the proxy for daily use: on loopback, what is in no pool passes undecrypted
[no-exit-message]
serve *ARGS: _venv
    @exec {{ bin }}/flow-rotate serve "$@"

# Run mitmdump with the addon and your secrets (secrets/secrets.yaml)
[no-exit-message]
run *ARGS: _venv
    @exec {{ just_executable() }} _with mitmdump "$@"

# The same with mitmweb, to look at the flows in a browser
[no-exit-message]
web *ARGS: _venv
    @exec {{ just_executable() }} _with mitmweb "$@"

# Check the secrets file, its hosts and its sources (--json, --offline, or another file)
[no-exit-message]
secrets *ARGS: _venv
    @{{ bin }}/flow-rotate check "$@"

# Pass all tests (arguments go to pytest)
test *ARGS: _venv
    @{{ bin }}/python -m pytest --numprocesses auto --dist worksteal "$@"

# Fuzz with 100 times the examples of `just test`, each time others (FUZZ=N: N times; some minutes)
[no-exit-message]
fuzz *ARGS: _venv
    @FUZZ="${FUZZ:-50}" {{ bin }}/python -m pytest --numprocesses auto --dist worksteal --hypothesis-show-statistics tests/fuzz "$@"

# Measure the addon against bare mitmdump, in pairs (nginx and wrk are needed; some minutes)
[no-exit-message]
bench *ARGS: _venv
    @{{ bin }}/python -m tests.bench "$@"

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

# On loopback, unless the arguments say otherwise: mitmproxy itself listens everywhere.
[no-exit-message]
_with TOOL *ARGS:
    #!/bin/sh
    set -eu
    tool=$1 && shift
    case " $* " in
        *rotate_secrets=* | *" --help "* | *" --version "* | *" --options "* | *" --commands "*) ;;
        *) grep -qs '^ *rotate_secrets:' ~/.mitmproxy/config.y*ml || {{ bin }}/flow-rotate path --secrets > /dev/null ;;
    esac
    exec {{ bin }}/"$tool" -s addon/flow_rotate.py --listen-host 127.0.0.1 "$@"

_venv:
    #!/bin/sh
    set -eu
    python='{{ python }}'
    # What .venv was made from: this folder (scripts name it), these requirements, this interpreter.
    rest="$(pwd) $(cksum < pyproject.toml)"
    [ -z "$python" ] && [ "$(tail -n 1 .venv/stamp 2> /dev/null)" = "$rest" ] && exit 0
    which=$("${python:-python3}" -c '
    import sys
    if not (3, 11) <= sys.version_info < (3, 14):
        sys.exit("Flow Rotate needs Python 3.11 to 3.13, this is %d.%d: PYTHON=… chooses another" % sys.version_info[:2])
    print(sys.version_info[:3], sys.base_prefix)')
    [ "$(cat .venv/stamp 2> /dev/null)" = "$which
    $rest" ] && exit 0
    echo "setting up .venv (some minutes, once)" >&2
    "${python:-python3}" -m venv --clear .venv
    {{ bin }}/python -m pip install --quiet --upgrade pip
    {{ bin }}/python -m pip install --quiet --editable '.[all]' --group dev
    printf '%s\n%s\n' "$which" "$rest" > .venv/stamp
