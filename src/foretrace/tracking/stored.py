"""A run as the store has it, under MLflow's names, and where its artifacts are."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlparse, urlsplit

from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from foretrace.errors import UserError, sanitize
from foretrace.tracking.outbox import Outbox, unescape, write_record
from foretrace.tracking.redaction import redact

NO_ANSWER = (MlflowException, ParseError)  # of a store; the latter of a server that is none of MLflow's
LOCAL_UI = "http://localhost:5000"
RELATIVE = "mlruns/artifacts"  # to the checkout, where a bare `mlflow ui` is started
# Of a location that anybody may have written: MLflow asserts some, and lacks the libraries of others.
UNREADABLE = (MlflowException, OSError, ValueError, ImportError, AssertionError)


def local_path(location: str, *, mlruns: Path) -> Path | None:
    """Return where artifacts are on this machine's disks; None if they are elsewhere.

    The location of a mounted ``mlruns`` is relative, or its path outside the image: the checkout's own is meant then.

    Raises:
        UserError: If it is no location.

    >>> local_path("file:///home/ann/foretrace/mlruns/artifacts/1/artifacts", mlruns=Path("/app/mlruns"))
    PosixPath('/app/mlruns/artifacts/1/artifacts')
    """
    try:
        uri = urlparse(location)
    except ValueError as error:
        raise UserError(f"run: its artifacts have no readable location: {location} ({error})") from error
    if uri.scheme not in ("", "file"):
        return None
    path = unquote(uri.path)
    above, is_own, within = f"/{path}".rpartition(f"/{RELATIVE}/")
    if not is_own or (above and os.access(f"{above}/mlruns", os.F_OK)):
        return Path(path)
    return mlruns / "artifacts" / within


def digest_of(source: str) -> str:
    """Return the SHA-256 of all values that a data set's source names; empty where there is none."""
    try:
        found = json.loads(source)
    except ValueError:  # of another tool
        return ""
    return str(found.get("sha256", "")) if isinstance(found, dict) else ""


def unavailable(error: Exception) -> UserError:
    """Return the reason why a store does not answer as an error of the user's, without passwords."""
    reason = redact(" ".join(str(error).split()))
    return UserError(f"tracking.uri: the tracking store does not answer: {reason}")


@contextmanager
def store_access() -> Iterator[None]:
    """Say in one sentence that the store does not answer, or which of its files the user may not write.

    Raises:
        UserError: If that is what ends the block.
    """
    try:
        yield
    except NO_ANSWER as error:
        raise unavailable(error) from error
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        hint = 'Give the folder to that user, or run as its owner (an image: --user "$(id -u):$(id -g)").'
        reason = f"user {os.getuid()} may not write {error.filename} ({error.strerror})"
        raise UserError(f"mlruns: {reason}", hint=hint) from error


def ui_address(client: MlflowClient, page: str) -> str:
    """Return a page's address in a browser: at its server, or where ``mlflow ui`` answers unless told otherwise.

    MLflow 3 opens an experiment on its GenAI page, without any run, unless the address says otherwise; the
    experiment's tag ``mlflow.experimentKind`` does not change that (3.17).
    """
    server = urlsplit(client.tracking_uri)
    host = f"{server.scheme}://{server.netloc.rpartition('@')[2]}{server.path.rstrip('/')}"
    host = host if server.scheme in ("http", "https") else LOCAL_UI
    return f"{host}/#/{page}?workflowType=machine_learning"


class StoredRun:
    """A run of the store, to be read. In ``staging``, each run has a folder for what it has not sent.

    Attributes:
        id: The run's id.
        info: MLflow's, with the status as it was when the run was read.
        folder: The folder of its artifacts, or the one to which they are downloaded.
        params: Its settings.
        tags: Its tags.
        inputs: Digests of the data that it read, by the names under which they were recorded.
    """

    def __init__(self, client: MlflowClient, run: Run, *, staging: Path) -> None:
        self.client, self.id = client, str(run.info.run_id)
        self._waiting = staging / self.id
        self._read(run)
        local = local_path(str(run.info.artifact_uri), mlruns=staging.parent)
        self._is_local, self.folder = local is not None, local or self._waiting / "artifacts"
        uploads = None if self._is_local else self.folder
        self._write = partial(write_record, client=client, run_id=self.id, uploads=uploads)

    def _read(self, run: Run) -> None:
        """Take over what the store has of the run."""
        self._run, self.info = run, run.info
        self.params = {unescape(name): value for name, value in run.data.params.items()}
        self.tags = {unescape(name): value for name, value in run.data.tags.items()}
        given = [one.dataset for one in (run.inputs.dataset_inputs if run.inputs else ())]
        self.inputs = {dataset.name: digest_of(dataset.source) or dataset.digest for dataset in given}

    @property
    def address(self) -> str:
        """The run's page in a browser."""
        return ui_address(self.client, f"experiments/{self.info.experiment_id}/runs/{self.id}")

    def sync(self) -> int:
        """Send what waits in staging, for whoever holds the run's lock; return how many records that were.

        Raises:
            MlflowException: If the store does not answer.
        """
        outbox = Outbox(self._waiting)
        number, _ = outbox.send(self._write)
        outbox.remove()
        return number

    def has_artifact(self, path: str) -> bool:
        """Return whether the run has an artifact of that name.

        Raises:
            UserError: If they are somewhere that cannot be read.
        """
        try:
            if self._is_local:
                return (self.folder / path).is_file()
            found = self.client.list_artifacts(self.id, str(Path(path).parent))
        except UNREADABLE as error:
            raise UserError(f"run {self.id}: its artifacts cannot be listed: {error}") from error
        return any(file.path == path for file in found)

    def download_artifact(self, path: str) -> Path:
        """Return the local path of an artifact that the run holds.

        Raises:
            UserError: If it holds none of that name.
        """
        found, reason = self.folder / path, "there is none"
        try:
            if not found.is_file() and not self._is_local:
                self.folder.mkdir(parents=True, exist_ok=True)
                found = Path(self.client.download_artifacts(self.id, path, str(self.folder)))
            if found.is_file():  # no pipe and no device, which would never end
                return found
        except UNREADABLE as error:
            reason = sanitize(str(error), longest=200) or type(error).__name__
        if not self._is_local:
            with suppress(OSError):  # something is in it
                self.folder.rmdir()
                self._waiting.rmdir()
        raise UserError(f"run {self.id}: no artifact {path}: {reason}")
