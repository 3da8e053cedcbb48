#!/bin/sh
# Rewrites requirements/*.txt from pyproject.toml: one resolution (dev), the images are subsets of it.
set -eu
cd "$(dirname "$0")/.."
uv="${UV:-.venv/bin/uv} pip compile pyproject.toml --generate-hashes --no-header --no-annotate --python-version 3.11 -q"
$uv --extra dev -o requirements/dev.txt "$@"
for image in operator server trainer; do
  $uv --extra $image --constraint requirements/dev.txt -o requirements/$image.txt
done
