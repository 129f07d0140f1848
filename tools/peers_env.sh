#!/usr/bin/env bash
# Make an environment for benchmarks/peers.py: timm and segmentation_models_pytorch need torchvision, which stands
# beside a torch of its own release alone, and not beside the build for CPUs that this project's tests take.
# Three minutes and 7 GB. An environment of tools/terratorch_env.sh has all but the last line's packages.
set -euo pipefail
folder=${1:?usage: tools/peers_env.sh FOLDER}
python3.11 -m venv "$folder"
"$folder/bin/pip" install --quiet torch torchvision timm segmentation_models_pytorch
"$folder/bin/pip" install --quiet --editable "$(dirname "$0")/.."
"$folder/bin/pip" install --quiet mambapy monai transformers
echo "$folder/bin/python benchmarks/peers.py"
