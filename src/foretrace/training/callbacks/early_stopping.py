"""Early stopping that a resumed run may change."""

from typing import Any

from lightning.pytorch import callbacks

KEY = "EarlyStopping"  # with which Lightning's key of its state begins


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's, but a resumed run may have another patience."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what it has seen; the patience is a setting."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    @property
    def has_stopped(self) -> bool:
        """Whether the patience is at its end."""
        return bool(self.wait_count >= self.patience)


def has_stopped_early(checkpoint: dict[str, Any], *, patience: int) -> bool:
    """Return whether a run that is resumed from a checkpoint with this patience would stop at once."""
    states = [state for key, state in checkpoint["callbacks"].items() if str(key).startswith(KEY)]
    return any(state["wait_count"] >= patience for state in states)
