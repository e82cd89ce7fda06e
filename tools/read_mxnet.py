"""Reads the MXNet files of GloRe's image networks: shows their contents, checks our assumptions, converts the weights.

    python tools/read_mxnet.py resnet50_w-glore_2-3-0000.params
    python tools/read_mxnet.py NAME-0000.params --symbol NAME-symbol.json --model glore_resnet50 -o FILE.safetensors
    python tools/read_mxnet.py NAME-0000.params --symbol NAME-symbol.json --model glore_resnet50 \\
        --options "{units: {conv4: [1, 3, 5]}}" -o FILE.safetensors

The files are in the .tar archives that https://github.com/facebookresearch/GloRe links to. The symbol file beside the
weights describes the network exactly. With it, everything that this suite assumes about the network is checked, and a
difference is an error that says what to change. With -o, every array is loaded into the model, and the weights are
written to a file that models.load_weights and tools/evaluate.py read.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import yaml

from settings import SettingsError
from tools.common.arguments import parse_arguments
from tools.common.errors import clear_errors
from tools.common.output_files import check_file


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", type=Path, metavar="PARAMS", help="the .params file")
    parser.add_argument("--symbol", type=Path, metavar="JSON", help="the -symbol.json beside it")
    parser.add_argument("--model", metavar="NAME", help="the model to compare with, such as glore_resnet50")
    parser.add_argument("--options", default="{}", metavar="YAML", help="options of the model's builder")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the .safetensors file to write")
    args = parse_arguments(parser, argv)
    if args.output is not None:
        if args.model is None:
            raise SettingsError("-o writes the weights of a model; name it, for example --model glore_resnet50")
        if args.output.suffix != ".safetensors":
            raise SettingsError(f"-o {args.output}: weights are written as .safetensors; the name must end with it")
        check_file(args.output, "choose another file with -o")
    from glore3d.mxnet_files import MXNetFileError  # imports NumPy

    try:
        read(args)
    except MXNetFileError as error:
        raise SettingsError(str(error)) from error


def read(args: argparse.Namespace) -> None:
    """Prints what is in the files and, if asked to, compares it with the model and writes the weights."""
    from glore3d.mxnet_files import read_params, read_symbol

    params = read_params(args.params)
    num_values = sum(array.size for array in params.values())
    print(f"{args.params}: {len(params)} arrays, {num_values:,} values")
    summary = None
    if args.symbol is not None:
        from glore3d.network_summary import summarize_graph

        summary = summarize_graph(read_symbol(args.symbol))
        print(table(summary.rows()))
    if args.model is None:
        if summary is None:
            print(table({name: " x ".join(map(str, array.shape)) for name, array in params.items()}))
        return
    options = read_options(args.options)
    model = build(args.model, options, params)
    if summary is not None:
        from glore3d.network_summary import contradictions, summarize_network

        ours = summarize_network(model)
        if lines := contradictions(summary, ours):
            raise SettingsError("\n".join([f"{args.symbol}: is not {args.model}:", *lines, advice(summary, ours)]))
        print(f"{args.model} is this network")
    load(args, model, params, options)


def table(rows: dict[str, str]) -> str:
    width = max(map(len, rows), default=0)
    return "\n".join(f"  {name:{width}}  {value}" for name, value in rows.items())


def read_options(text: str) -> dict[str, Any]:
    try:
        options = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"--options {text!r}: not YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(options, dict):
        raise SettingsError(f"--options {text!r}: expected names and values, such as {{eps: 0.001}}")
    return options


def build(name: str, options: dict[str, Any], params: dict[str, Any]) -> Any:
    """The model, with as many classes as the file. Raises SettingsError for a name or options that do not exist."""
    from glore3d import ImageNetwork
    from models import create_model

    sizes = [len(array) for entry, array in params.items() if entry in ("classifier_bias", "fc6_bias", "fc6-1k_bias")]
    try:
        model = create_model(name, sizes[0] if sizes else None, **options)
    except ValueError as error:
        raise SettingsError(f"--model or --options: {error}") from error
    if not isinstance(model, ImageNetwork):
        raise SettingsError(f"--model {name}: is not one of GloRe's image networks, such as glore_resnet50 or dpn98")
    return model


def advice(found: Any, ours: Any) -> str:
    """What to change, if options can change it."""
    units = {name: stage.units for name, stage in found.stages.items() if stage.units}
    own_units = {name: stage.units for name, stage in ours.stages.items() if stage.units}
    changes = {}
    if units != own_units:
        changes["units"] = units
    if found.eps != ours.eps and len(found.eps) == 1:
        changes["eps"] = next(iter(found.eps))
    if not changes:
        return "Try: another --model, such as the one with or without glore_; else the builder in glore3d must change."
    return f'Try: --options "{yaml.safe_dump(changes, default_flow_style=True, width=1000).strip()}"'


def load(args: argparse.Namespace, model: Any, params: dict[str, Any], options: dict[str, Any]) -> None:
    """Loads every array of the file into the model, and writes the model's weights if an output file is named."""
    import safetensors.torch

    from engine.checkpoint import write_atomically
    from glore3d.mxnet_weights import to_state_dict

    model.load_state_dict(to_state_dict(params, model))
    print(f"all {len(params)} arrays are loaded into {args.model}")
    if args.output is not None:
        weights = model.state_dict()
        write_atomically(args.output, lambda path: safetensors.torch.save_file(weights, path))
        needs = f", with model.options: {yaml.safe_dump(options, default_flow_style=True).strip()}" if options else ""
        print(f"{args.output}: weights of {args.model}{needs}")


if __name__ == "__main__":
    clear_errors(main)
