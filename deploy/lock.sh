#!/bin/sh
# Rewrites requirements/*.txt from pyproject.toml: one resolution (dev), the images are subsets of it. And what other
# servers' clients need, which the tests run in environments of their own.
set -eu
cd "$(dirname "$0")/.."
compile="${UV:-.venv/bin/uv} pip compile --generate-hashes --no-header --no-annotate --python-version 3.11 -q"
$compile pyproject.toml --extra dev -o requirements/dev.txt "$@"
for image in operator trainer; do
  $compile pyproject.toml --extra $image --constraint requirements/dev.txt -o requirements/$image.txt
done
$compile pyproject.toml --extra server --extra payloads --extra otel --constraint requirements/dev.txt -o requirements/server.txt

# KServe's package is server, cluster and client in one: what `import kserve` never imports is not installed.
left_out=""
for package in aiohttp aiohttp-retry aiohappyeyeballs aiosignal attrs cffi cryptography frozenlist httptools multidict \
  pillow propcache pyasn1 pycparser pyjwt python-dotenv uvloop websockets yarl; do
  left_out="$left_out --no-emit-package $package"
done
clients=tests/serving/clients
$compile $clients/kserve.in $left_out -o $clients/kserve.txt "$@"
for client in tritonclient mlflow; do
  $compile $clients/$client.in -o $clients/$client.txt "$@"
done
