"""What a training step costs beyond its network: the loop, the log, the checkpoints, on one rank and on several."""

import argparse
import logging
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from engine.cadence import LOG_EVERY_STEPS
from engine.distributed import Ranks, join_ranks
from engine.optimizer import OptimizerSettings, build_optimizer
from engine.precision import autocast, place_model
from engine.run import RunSettings, open_run
from engine.task import Batch, Task, TaskSettings
from engine.train_settings import TrainSettings
from engine.trainer import Trainer
from models import create_model, model_info
from settings import SettingsError
from tools.benchmarks.devices import add_device
from tools.common.arguments import positive

HELP = """What a training step costs beyond its network: the loop, the log, the checkpoints, on one rank and on several.

Steps of the trainer and bare steps (forward, backward, update) of a twin network take turns; the difference is the cost
of the loop. It does not depend on the size of the clips, so they are small, which makes it easy to measure. The last
column is relative to a bare step on full-size clips, with log lines and checkpoints as frequent as by default. On a
CPU, step, loop and log lines are CPU time, which other programs do not affect; a checkpoint is the wall time for which
training stops.
"""

LOG_EVERY, SAVE_EVERY = 3, 20  # steps; most write neither
NUM_WARM = 3  # steps to warm up, which do not count


@dataclass(frozen=True)
class Case:
    """What is measured."""

    name: str
    batch: int
    small: tuple[int, ...]  # an input of the steps that are compared, [3, T, H, W] or [3, H, W]
    full: tuple[int, ...]  # an input of the step that the costs are relative to
    steps: int
    device: str
    threads: int
    precision: str


@dataclass
class Costs:
    """Seconds of a bare step at full size, and of everything beyond it."""

    bare: float
    loop: float
    line: float
    checkpoint: float
    copy: float
    """Copying everything that a checkpoint holds, for comparison."""

    @property
    def on_top(self) -> float:
        """Per step, on average over a long run with the default settings."""
        checkpoint_every_steps = TrainSettings.model_fields["checkpoint_every_steps"].default
        rare = self.line / LOG_EVERY_STEPS + self.checkpoint / checkpoint_every_steps
        return self.loop + rare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", default="resnet50_3d", help="a name of models.list_models() (resnet50_3d)")
    parser.add_argument(
        "--ranks", type=positive, nargs="+", default=[1, 2], help="numbers of ranks on this machine (1 2)"
    )
    parser.add_argument("--batch", type=positive, default=1, help="batch size of each rank (1)")
    parser.add_argument("--frames", type=positive, default=4, help="frames of the small clips (4)")
    parser.add_argument("--size", type=positive, default=32, help="height and width of the small clips in pixels (32)")
    parser.add_argument("--steps", type=positive, default=120, help="steps that are compared (120)")
    add_device(parser)
    parser.add_argument("--threads", type=positive, default=1, help="CPU threads of each rank (1)")
    parser.add_argument("--precision", choices=["float32", "bf16", "fp16"], default="float32")


def run(args: argparse.Namespace) -> None:
    full = model_info(args.name).input_shape
    small = (3, *([args.frames] if len(full) == 4 else []), args.size, args.size)
    if args.steps <= NUM_WARM + SAVE_EVERY:
        raise SettingsError(
            f"--steps is {args.steps}; with fewer than {NUM_WARM + SAVE_EVERY + 1}, no step saves a checkpoint"
        )
    case = Case(args.name, args.batch, small, full, args.steps, args.device, args.threads, args.precision)
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"cpu, threads of each rank: {args.threads}"
    print(
        f"{args.name}, input {' x '.join(map(str, full))}, batch {args.batch} of each rank, {args.precision}, {where}"
    )
    print(
        f"{'ranks':8}{'bare step':>14}{'loop':>12}{'line of log':>14}{'checkpoint':>14}{'(its copy)':>14}{'on top':>12}"
    )
    for num_ranks in args.ranks:
        costs = measure(case, num_ranks)
        parts = (costs.bare, costs.loop, costs.line, costs.checkpoint, costs.copy)
        widths = (11, 9, 11, 11, 11)
        cells = "".join(f"{1000 * part:{width}.2f} ms" for part, width in zip(parts, widths, strict=True))
        print(f"{num_ranks:<8}{cells}{100 * costs.on_top / costs.bare:10.2f} %")


def measure(case: Case, num_ranks: int) -> Costs:
    """Starts `num_ranks` processes; the costs are those of the main one."""
    meeting = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": uuid.uuid4().hex}
    config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=num_ranks, max_restarts=0, **meeting)
    with tempfile.TemporaryDirectory() as folder:
        return elastic_launch(config, measure_here)(case, folder)[0]


def measure_here(case: Case, folder: str) -> Costs:
    """The costs as this rank measures them; its run directory goes into `folder`."""
    logging.disable(logging.WARNING)
    with join_ranks(device=case.device, num_threads=case.threads) as ranks:
        task = TurnsTask(case, Path(folder, "run"), ranks)
        run = open_run("benchmark.yaml", task.settings, {}, ranks)
        trainer = Trainer(task, run, ranks)
        trainer.train()
        run.close()
        state = [*trainer.model.state_dict().values(), *_tensors(trainer.optimizer.state_dict()["state"])]
        copy = fastest([_time(partial(_copies, state), ranks).wall for _ in range(5)])
        del trainer, state
        step = _bare_step(case, case.full, ranks)
        bare = fastest([_time(step, ranks).busy for _ in range(NUM_WARM + 5)][NUM_WARM:])
    return task.costs(bare, copy)


OPTIMIZER = OptimizerSettings(name="sgd", lr=1e-3)


def _copies(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.detach().to("cpu", copy=True) for tensor in tensors]


def _tensors(states: dict[int, dict]) -> list[torch.Tensor]:
    return [value for state in states.values() for value in state.values() if isinstance(value, torch.Tensor)]


class TurnsTask(Task):
    """A task on random clips. When the trainer asks for a batch, a bare step takes its turn."""

    Settings = TaskSettings
    num_train_samples = 2**31  # an epoch never ends: no evaluation but the last

    def __init__(self, case: Case, folder: Path, ranks: Ranks):
        train = TrainSettings(
            num_samples=(NUM_WARM + case.steps + 1) * case.batch * ranks.num_ranks,  # the last step is longer
            batch_size=case.batch * ranks.num_ranks,
            precision=case.precision,
            log_every_steps=LOG_EVERY,
            checkpoint_every_steps=SAVE_EVERY,
        )
        settings = TaskSettings(task="turns", optimizer=OPTIMIZER, train=train, run=RunSettings(dir=str(folder)))
        super().__init__(settings, ranks)
        self.case, self.steps = case, Turns()

    def build_model(self) -> nn.Module:
        return create_model(self.case.name)

    def train_batches(self, first_batch: int, num_batches: int, batch_size: int, stream: str) -> Iterator[Batch]:
        batch = _random_batch(self.case, self.case.small, self.ranks)
        bare = _bare_step(self.case, self.case.small, self.ranks)
        for _ in range(num_batches):
            self.steps.bare.append(_time(bare, self.ranks))
            start = Clocks.read(self.ranks)
            yield batch
            self.steps.trainer.append(Clocks.read(self.ranks) - start)

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss = _loss(model, batch)
        return loss, {"loss": loss * len(batch["label"])}

    def evaluate(self, model: nn.Module) -> None:
        pass

    def costs(self, bare: float, copy: float) -> Costs:
        return self.steps.costs(bare, copy)


@dataclass(frozen=True)
class Clocks:
    """A time, or a span of time, in seconds."""

    wall: float
    busy: float
    """CPU time of this thread on a CPU; on a GPU the same as `wall`."""

    @staticmethod
    def read(ranks: Ranks) -> "Clocks":
        """Now, after the device has finished its queue."""
        if ranks.device.type == "cuda":
            torch.cuda.synchronize()
        wall = time.perf_counter()
        return Clocks(wall, wall if ranks.device.type == "cuda" else time.thread_time())

    def __sub__(self, other: "Clocks") -> "Clocks":
        return Clocks(self.wall - other.wall, self.busy - other.busy)


@dataclass
class Turns:
    """How long each step took. Bare step i comes before step i of the trainer; steps count from 1."""

    bare: list[Clocks] = field(default_factory=list)
    trainer: list[Clocks] = field(default_factory=list)

    def costs(self, bare: float, copy: float) -> Costs:
        """How much longer the trainer's steps of each kind take. The last step does not count: it ends the run."""
        kinds: dict[tuple[bool, bool], list[Clocks]] = {}
        for step, clocks in enumerate(self.trainer[:-1], 1):
            if step > NUM_WARM:
                kinds.setdefault((step % LOG_EVERY == 0, step % SAVE_EVERY == 0), []).append(clocks)
        plain, line, save = (kinds[kind] for kind in ((False, False), (True, False), (False, True)))
        plain_busy, line_busy, bare_busy = (
            fastest([clocks.busy for clocks in of_kind]) for of_kind in (plain, line, self.bare[NUM_WARM:])
        )
        stall = fastest([clocks.wall for clocks in save]) - fastest([clocks.wall for clocks in plain])
        return Costs(bare, plain_busy - bare_busy, line_busy - plain_busy, stall, copy)


def fastest(seconds: list[float]) -> float:
    """Mean of the fastest quarter: other programs make steps slower, never faster."""
    return statistics.mean(sorted(seconds)[: max(1, len(seconds) // 4)])


def _bare_step(case: Case, shape: tuple[int, ...], ranks: Ranks) -> Callable[[], None]:
    """Forward, backward and update of a new network on one batch of inputs of `shape` [3, ...]."""
    model = place_model(create_model(case.name), ranks.device, channels_last=True).train()
    optimizer = build_optimizer(model, OPTIMIZER)
    scaler = torch.amp.GradScaler(ranks.device.type, enabled=case.precision == "fp16")
    device_ids = [ranks.device] if ranks.device.type == "cuda" else None
    network = DistributedDataParallel(model, device_ids=device_ids) if ranks.num_ranks > 1 else model
    batch = _random_batch(case, shape, ranks)

    def step() -> None:
        with autocast(case.precision, ranks.device):
            loss = _loss(network, batch)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    return step


def _random_batch(case: Case, shape: tuple[int, ...], ranks: Ranks) -> dict[str, torch.Tensor]:
    """`input` [B, *shape], channels last like the network, and `label` [B]."""
    layout = torch.channels_last_3d if len(shape) == 4 else torch.channels_last
    x = torch.randn(case.batch, *shape, device=ranks.device).to(memory_format=layout)
    return {"input": x, "label": torch.zeros(case.batch, dtype=torch.long, device=ranks.device)}


def _loss(network: nn.Module, batch: Batch) -> torch.Tensor:
    return F.cross_entropy(network(batch["input"]).float(), batch["label"])


def _time(work: Callable[[], object], ranks: Ranks) -> Clocks:
    start = Clocks.read(ranks)
    work()
    return Clocks.read(ranks) - start
