"""What libraries say that is of no use to whoever trains a model; each with its reason."""

import logging
import warnings


def filter_library_logs() -> None:
    """Silence known notices, one by one; everything else is still heard."""
    # "GPU available: …", "LOCAL_RANK: 0 …" and promotion tips (Lightning#21294); we name the device. "Creating initial
    # MLflow database tables…" and one line per alembic migration, on a fresh checkout.
    for name in (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.pytorch.accelerators.cuda",
        "lightning.fabric.utilities.seed",
        "mlflow",
        "alembic",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A trace of 30 lines at each attempt on a database that is busy or full; we report what is raised with it.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    # Metrics of an epoch are computed over all processes before they are logged, and are the same in each.
    warnings.filterwarnings("ignore", message="It is recommended to use `self.log.*sync_dist=True")
    # A resumed run may have fewer callbacks: without early stopping, say.
    warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`, callbacks used")
    # A CUDA graph's gradients are made on the stream of its capture, and added on the one that waits for it.
    warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream does not match")
    # Lightning 2.6 calls torch 2.13's pytree by a deprecated name; to be removed with the next Lightning.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
