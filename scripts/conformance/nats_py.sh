#!/bin/sh
# Runs nats.py's own core tests against a server and prints every test that did not pass and a total.
#
#   nats_py.sh SERVER CHECKOUT [options of pytest]
#
# SERVER answers to nats-server's flags: a real nats-server, or nats_server_shim.py with MSGBENCH set. CHECKOUT is a clone of
# nats-io/nats.py. PYTHON is a Python with pytest, pytest-timeout, pytest-asyncio, nkeys and aiohttp. The tests take fixed ports: where it can
# be done they run in a network of their own. Exit 1: fewer than MIN (145) pass.
set -eu
server=$(realpath "${1:?usage: nats_py.sh SERVER CHECKOUT}")
checkout=$(realpath "${2:?usage: nats_py.sh SERVER CHECKOUT}")
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The tests look for a program of this name, first of all in the home folder.
mkdir "$work/bin"
printf '#!/bin/sh\nexec "%s" "$@"\n' "$server" >"$work/bin/nats-server"
chmod +x "$work/bin/nats-server"
own=
unshare -n true 2>/dev/null && own='unshare -n'
cd "$checkout"
# A failing test is a result, not an error of this script.
# shellcheck disable=SC2016
# Without this the tests of tls.handshake_first are left out.
export NATS_SERVER_VERSION=main
HOME=$work PATH=$work/bin:$PATH PYTHONPATH=$checkout/nats/src timeout "${LIMIT:-1200}" $own sh -c '
    ip link set lo up 2>/dev/null; exec "$@"' sh "${PYTHON:-python3}" -m pytest nats/tests/test_client.py \
    nats/tests/test_client_async_await.py nats/tests/test_client_nkeys.py nats/tests/test_client_v2.py \
    nats/tests/test_micro_service.py nats/tests/test_nuid.py nats/tests/test_parser.py nats/tests/test_compatibility.py \
    nats/tests/test_client_websocket.py nats/tests/test_custom_headers_websocket.py \
    -p no:cacheprovider -q -rA --no-header --timeout 40 "$@" >"$work/results" 2>&1 || true
grep -E '^(FAILED|ERROR nats/|SKIPPED) ' "$work/results" | cut -c1-160 | sort || true
grep -E '[0-9]+ passed' "$work/results" | tail -n 1
[ "$(grep -c '^PASSED ' "$work/results")" -ge "${MIN:-145}" ]
