"""The verbs `export`, `load` and `import-weights`: options, and what they print. Imports wait until one runs."""

import argparse
from pathlib import Path
from typing import Any

VERBS = ("export", "load", "import-weights")
"""For people: they run in the terminal they are called from."""


def add_verbs(verbs: Any) -> None:  # noqa: ANN401 - argparse's own type is private
    """Add the parsers of these verbs to the command line's."""
    parser = verbs.add_parser("export", help="write a trained model as others can use it, with a model card")
    parser.add_argument(
        "folder", type=Path, help="a finished run, such as results/pretrain/majortom/unet-s/seed0"
    )
    parser.add_argument("out", type=Path, help="folder for model.safetensors, model.json and README.md")
    parser.add_argument(
        "--study", type=Path, default=Path("config.yaml"), help="the study it was trained in (config.yaml)"
    )
    parser.add_argument("--licence", help="of the weights, as the hub spells it (default: by the data)")
    parser.set_defaults(run=_export)
    parser = verbs.add_parser("load", help="check that a model's weights fit, and print its card")
    parser.add_argument("source", help="folder, or hf://owner/name@revision")
    parser.set_defaults(run=_load)
    parser = verbs.add_parser(
        "import-weights", help="take weights from elsewhere, by an explicit map of names"
    )
    parser.add_argument("state", type=Path, help="state dict: .safetensors, or .pt/.pth of tensors alone")
    parser.add_argument("out", type=Path, help="folder for the model")
    parser.add_argument("--map", type=Path, required=True, help="YAML; see docs/checkpoints.md")
    parser.add_argument("--architecture", required=True, help="of the ladder, such as vit_upernet")
    parser.add_argument("--size", required=True, help="of the ladder, such as P16-100M")
    parser.set_defaults(run=_import_weights)


def _export(options: argparse.Namespace) -> None:
    from geoladder.study.load import load_study
    from geoladder.training.export import export_model

    export_model(options.folder, options.out, load_study(options.study), options.licence)
    print(f"{options.out} is ready: model.safetensors, model.json, README.md")  # noqa: T201


def _load(options: argparse.Namespace) -> None:
    from geoladder.training.hub import load_model
    from geoladder.training.model_card import describe

    backbone, card = load_model(options.source)
    print(describe(card, sum(p.numel() for p in backbone.parameters())))  # noqa: T201


def _import_weights(options: argparse.Namespace) -> None:
    from geoladder.training.import_weights import import_weights

    taken, ignored = import_weights(
        options.state, options.map, options.architecture, options.size, options.out
    )
    print(f"{options.out}: {taken} weights taken, {ignored} ignored by the map")  # noqa: T201
