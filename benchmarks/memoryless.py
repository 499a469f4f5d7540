"""How far a network without memory gets on Walker2d: python benchmarks/memoryless.py path/to/rollouts.

Three hidden layers read the present state and the steps since the last one, and forecast the next state. Errors are
those of the published windows of the validation part, in raw units, as for `experiment=walker2d_cfc`.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foretrace.data.published import load_walker2d_cfc
from foretrace.data.sequences import Sequences
from foretrace.data.windows import Windows

UNITS, EPOCHS, BATCH, LR = 512, 40, 512, 0.002


def pairs(part: Sequences) -> tuple[Tensor, Tensor, Tensor]:
    """Each state, the steps since the one before it, and the next state: (N, F), (N, K), (N, F)."""
    windows = Windows(part, length=1, stride=1)
    batch = windows.gather(torch.arange(len(windows)))
    return batch.values[:, 0], batch.covariates[:, 0], batch.targets[:, 0]


def main() -> None:
    """Trains, and prints both errors after each epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    torch.manual_seed(1)
    splits = load_walker2d_cfc(parser.parse_args().root)
    train, windows = pairs(splits.train), Windows(splits.valid, length=64, stride=16)
    valid = windows.gather(torch.arange(len(windows)))
    statistics = splits.train.statistics
    mean, std = (torch.as_tensor(one).float() for one in (statistics.mean, statistics.std))
    width = train[0].shape[1] + train[1].shape[1]
    widths = [width, UNITS, UNITS, UNITS]
    hidden = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.SiLU())]
    network = nn.Sequential(*hidden, nn.Linear(UNITS, len(mean)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR)
    steps = EPOCHS * (len(train[0]) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=steps)

    def error(values: Tensor, covariates: Tensor, targets: Tensor) -> Tensor:
        change = std * network(torch.cat([(values - mean) / std, covariates - 1], dim=-1))
        return F.mse_loss(values + change, targets)

    print(f"{sum(p.numel() for p in network.parameters()):,} parameters, {len(valid.values):,} windows")
    for epoch in range(EPOCHS):
        order = torch.randperm(len(train[0]))[: len(train[0]) // BATCH * BATCH].view(-1, BATCH)
        total = 0.0
        for chosen in order:
            loss = error(*(part[chosen] for part in train))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        with torch.no_grad():
            judged = float(error(*valid[:3]))
        print(f"epoch {epoch}: training {total / len(order):.4f}, validation {judged:.4f}", flush=True)


if __name__ == "__main__":
    main()
