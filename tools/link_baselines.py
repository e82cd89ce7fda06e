"""Scores baselines that need no learning on a knowledge graph: what a trained network has to beat.

    python tools/link_baselines.py -c configs/kg/wn18rr_v1.yaml evaluation.on=test
    python tools/link_baselines.py -c configs/own_triples.yaml data.train=my.tsv

The questions are those that tools/evaluate.py asks. Prints a table in Markdown. docs/graphs.md says what is scored.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: spinning threads slow the decoders

from settings import SettingsError, parse_settings, read_recipe
from tools.common.arguments import parse_arguments
from tools.common.errors import clear_errors


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", required=True, metavar="RECIPE", help="a recipe for link prediction")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, such as data.train=FILE")
    args = parse_arguments(parser, argv)
    recipe = read_recipe(args.config, args.overrides)
    from datasets.graphs import knowledge_graph  # imports torch: too slow for --help
    from engine.distributed import join_ranks
    from eurgraph.reach import index_graph
    from eurgraph.walk_baselines import RandomWalk, RelationProfile, WalkAndProfile
    from tasks import find_task
    from tasks.link_prediction import LinkPrediction

    if find_task(recipe, args.config) is not LinkPrediction:
        raise SettingsError(f"{args.config} is a recipe for {recipe['task']}, not for link_prediction")
    settings = parse_settings(LinkPrediction.Settings, recipe, args.config)
    with join_ranks(**settings.run.process_options()) as ranks:
        task = LinkPrediction(settings, ranks)
        splits, num_relations = task.splits, len(task.splits.relations)
        index = index_graph(knowledge_graph(splits.train, len(splits.entities), num_relations), 2 * num_relations)
        scorers = {
            "random walk": RandomWalk(),
            "relation profile": RelationProfile(index),
            "product of both": WalkAndProfile(index),
            "the same, never the head": WalkAndProfile(index, takes_head=False),
        }
        print("| without learning | protocol | MRR | Hits@1 | Hits@10 | Hits@10 of 50 |\n|---|---|---|---|---|---|")
        for name, scorer in scorers.items():
            scores = task.evaluate(scorer.to(ranks.device)).summary()
            hits = (f"{100 * scores[key]:.1f} %" for key in ("hits@1", "hits@10", "hits@10_50"))
            print(f"| {name} | {task.protocol} | {scores['mrr']:.3f} | {' | '.join(hits)} |")


if __name__ == "__main__":
    clear_errors(main)
