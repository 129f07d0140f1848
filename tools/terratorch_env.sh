#!/usr/bin/env bash
# Make an environment with TerraTorch, which needs torchvision and a CUDA build of torch, beside this project's own.
# Prints the line that makes tests and `architecture: terratorch` find it. Two minutes and 7 GB.
set -euo pipefail
folder=${1:?usage: tools/terratorch_env.sh FOLDER}
python3.11 -m venv "$folder"
"$folder/bin/pip" install --quiet 'terratorch>=1.2.11,<1.3'
"$folder/bin/pip" install --quiet --editable "$(dirname "$0")/.."
echo "export GEOLADDER_TERRATORCH=$folder/bin/python"
