"""Groups of ranks that train a small model over gloo; test_exchange.py starts this once.

    python ranks.py FOLDER

Each line of standard input is one group: JSON of its `size`, `name`, `steps`, the config's
`changes`, `sharded` (Muon), `count` of micro-batches and `load` (the file that it goes on from).
Its ranks are forked, since importing torch takes longer than they live. Each trains on its share of
fixed batches and writes its weights and its optimiser's state after each step to
FOLDER/NAME-SIZE-RANK-STEP.pt. A line of their exit codes answers.
"""

import json
import multiprocessing
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.training import exchange, muon
from unite.training.joint import JointObjective
from unite.training.objective import MicroBatch
from unite.training.parallelize import World
from unite.training.setup import build_model
from unite.training.step import Address

BATCH = 8


def micro_batch(step: int, rows: torch.Tensor) -> MicroBatch:
    images = torch.rand(BATCH, 1, 8, 8, generator=torch.Generator().manual_seed(step))
    address = Address(seed=0, epochs_B=torch.zeros_like(rows), rows_B=rows + BATCH * step)
    return MicroBatch(images[rows], rows % 10, address)


def train_step(objective: JointObjective, world: World, step: int, count: int) -> None:
    share = BATCH // world.size
    mine = torch.arange(world.rank * share, (world.rank + 1) * share)
    objective.zero_grad()
    for number, rows in enumerate(mine.split(share // count), 1):
        objective.backward(micro_batch(step, rows), 0, 1 / count, last=number == count)
    world.average_(objective.averaged())
    objective.combine()
    objective.members.set_lr(1e-3)
    objective.members.step(skip=torch.tensor(False))


def train(rank: int, size: int, folder: Path, options: dict) -> None:
    rendezvous = f"file://{folder}/rendezvous-{size}-{options['name']}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=size)
    # Many buckets and many stacks, though the model is small.
    exchange.BUCKET_BYTES, muon.STACK_VALUES = 4096, 4096
    config = replace(recipe("smoke"), {"flow.steps": 2, "flow.chunk": 1, **options["changes"]})
    model, world = build_model(config), World.current(torch.device("cpu"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    objective = JointObjective(model, config, None, 1000, world)
    if not options.get("sharded", True):
        member = objective.members.members["muon"]
        member.rank, member.world = 0, 1
    first = 0
    if options.get("load"):
        stored = torch.load(options["load"], weights_only=True)
        model.load_state_dict(stored["model"])
        objective.load_state({"optimizer": stored["optimizer"]})
        first = stored["step"]
    for step in range(first, options["steps"]):
        train_step(objective, world, step, options.get("count", 1))
        early = objective.exchange.early if objective.exchange else 0
        state = {"model": model.state_dict(), **objective.state(), "step": step + 1}
        buckets = len(objective.exchange.buckets) if objective.exchange else 0
        state["sent"] = torch.tensor([early, buckets])
        torch.save(state, folder / f"{options['name']}-{size}-{rank}-{step + 1}.pt")
    dist.destroy_process_group()


def main(folder: Path) -> None:
    torch.set_num_threads(1)  # no thread is alive when the ranks are forked
    fork = multiprocessing.get_context("fork")
    for line in sys.stdin:
        options = json.loads(line)
        size = options["size"]
        ranks = [fork.Process(target=train, args=(n, size, folder, options)) for n in range(size)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()
        print(*(rank.exitcode for rank in ranks), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
