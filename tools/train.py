"""Trains a network with a recipe, or resumes an interrupted run.

    python tools/train.py -c configs/demo/glore_motion.yaml [key=value ...]
    torchrun --nproc-per-node 8 tools/train.py -c configs/kinetics/glore_resnet50_8x8.yaml

./run_local.sh starts it with one process per GPU. The same command resumes a run from its last checkpoint. On SIGTERM
and SIGUSR1 it saves and exits with status 75: start it again (docs/runs.md lists what can go wrong and what happens).
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: spinning threads slow the decoders

from settings import parse_settings, read_recipe
from tools.common.arguments import launcher, parse_arguments
from tools.common.errors import clear_errors
from tools.common.output_files import check_folder

log = logging.getLogger(__name__)

NEXT = """
Everything is in %s: open its report.html in a browser. What to try next:
%s
  %s CONFIG run.resume=false    another run, with other settings"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", required=True, metavar="RECIPE", help="a recipe below configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change: optimizer.lr=0.1")
    args = parse_arguments(parser, argv)

    from engine.distributed import join_ranks  # imports torch: too slow for --help
    from engine.run import open_run, run_folder, start_logging
    from engine.signals import StopSignals
    from engine.trainer import Trainer
    from tasks import find_task
    from tools.common.final_report import report_run

    recipe = read_recipe(args.config, args.overrides)
    task_class = find_task(recipe, args.config)
    settings = parse_settings(task_class.Settings, recipe, args.config)
    with join_ranks(**settings.run.process_options()) as ranks, StopSignals() as stop:
        start_logging(ranks)
        ranks.on_main(lambda: check_folder(run_folder(args.config, settings.run), "choose another run.dir"))
        with stop.interruptible():
            task = task_class(settings, ranks)
            task.check()
            run = open_run(args.config, settings, task.resolved_recipe(), ranks)
            log.info("run directory: %s", run.folder)
            trainer = Trainer(task, run, ranks)
            run.write_files(task.run_files())  # only once it is certain that they match the run so far
        trainer.train()
        with stop.interruptible():
            run.close()
            report_run(task, run.folder, ranks)
        log.info(NEXT, run.folder, task.advice.replace("./run_local.sh", launcher()), launcher())


if __name__ == "__main__":
    clear_errors(main)
