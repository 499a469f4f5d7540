"""Lightning as templates for it have it: a Dataset of windows, a DataLoader, the stock MLFlowLogger, a module's log."""

import tempfile
from itertools import pairwise
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import MLFlowLogger
from lightning_watch import Watch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from trial import Array, Plan


class Examples(Dataset[tuple[Tensor, Tensor]]):
    """Every window of every episode, read when it is asked for."""

    def __init__(self, episodes: Array, window: int) -> None:
        self.episodes, self.window = torch.from_numpy(episodes), window
        self.starts = episodes.shape[1] - window

    def __len__(self) -> int:
        """All starts."""
        return len(self.episodes) * self.starts

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Return what is read, and what came a step later, each (T, F)."""
        episode, start = divmod(number, self.starts)
        rows = self.episodes[episode, start : start + self.window + 1]
        return rows[:-1], rows[1:]


class Module(LightningModule):
    """Stacked LSTMs of our sizes, and a linear layer."""

    def __init__(self, features: int, hidden_sizes: list[int]) -> None:
        super().__init__()
        sizes = [features, *hidden_sizes]
        self.lstm = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in pairwise(sizes))
        self.head = nn.Linear(sizes[-1], features)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, T, F) to the forecast of the step after each, (B, T, F)."""
        for layer in self.lstm:
            x, _ = layer(x)
        out: Tensor = self.head(x)
        return out

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Mean squared error."""
        x, target = batch
        loss = F.mse_loss(self(x), target)
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main() -> None:
    """Trains."""
    plan = Plan.given()
    episodes = plan.episodes("train")
    module = Module(episodes.shape[-1], plan.hidden_sizes)
    watch = Watch(plan, lambda trained, x: trained(x))
    loader = DataLoader(Examples(episodes, plan.window), plan.batch, shuffle=True)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=10**6,
            logger=MLFlowLogger("peers", tracking_uri=f"sqlite:///{Path(folder) / 'mlflow.db'}"),
            default_root_dir=folder,
            callbacks=[ModelCheckpoint(dirpath=folder), watch],
        )
        watch.trial.begin()
        trainer.fit(module, loader)
    watch.report("lightning", "torch")


if __name__ == "__main__":
    main()
