"""Sends a run to MLflow: a run with the report, and below it a run for each cell. The one file that knows MLflow."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.track.entries import CellEntry
from persrec.commandline import one_line

_LOCAL = "sqlite:///"
DIGEST = "records_digest"


class TrackerError(ValueError):
    """The tracker is not installed, not there, or refuses; the message is one line."""


class MlflowRun:
    """An experiment of an MLflow store.

    Args:
        uri: as MLflow takes it: ``sqlite:///FILE.db``, or a server's.
        experiment: its name; MLflow creates it where there is none.

    Raises:
        TrackerError: MLflow is not installed, or the store cannot be opened.
    """

    def __init__(self, *, uri: str, experiment: str) -> None:
        if uri.startswith(_LOCAL) and not Path(uri.removeprefix(_LOCAL)).absolute().parent.is_dir():
            raise TrackerError(f"--uri: {uri}: no such folder {Path(uri.removeprefix(_LOCAL)).parent}")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow then sends nothing to anybody but the store
        try:
            from mlflow.tracking import MlflowClient  # noqa: PLC0415 - an extra, and slow to import
        except ImportError as error:
            raise TrackerError(
                f"mlflow is not installed ({error}); pip install --constraint constraints.txt --editable '.[mlflow]'"
            ) from error
        with _one_line(uri):
            self._client: Any = MlflowClient(tracking_uri=uri)
            match = self._client.get_experiment_by_name(experiment)
            self._experiment: str = match.experiment_id if match else self._client.create_experiment(experiment, _artifacts(uri))
        self._uri = uri

    def holds(self, digest: str) -> bool:
        """Whether an earlier call sent the same records, and all of them."""
        with _one_line(self._uri):
            return bool(self._client.search_runs([self._experiment], filter_string=f"tags.{DIGEST} = '{digest}'", max_results=1))

    def send(self, name: str, cells: Sequence[CellEntry], *, files: Path, digest: str) -> str:
        """Sends a run. One that breaks off is marked as failed and carries no digest, so that the next call sends it anew.

        Args:
            name: the run's.
            cells: of the run.
            files: a folder to keep beside it: the report, its tables and pictures.
            digest: of the records.

        Returns:
            The tracker's id of the run.
        """
        with _one_line(self._uri):
            parent: str = self._client.create_run(self._experiment, run_name=name).info.run_id
            try:
                self._client.log_artifacts(parent, str(files))
                for cell in cells:
                    self._send_cell(cell, parent)
                self._client.log_metric(parent, "cells", len(cells))
                self._client.set_tag(parent, DIGEST, digest)
                self._client.set_terminated(parent, "FINISHED")
            except BaseException:
                self._client.set_terminated(parent, "FAILED")
                raise
        return parent

    def _send_cell(self, cell: CellEntry, parent: str) -> None:
        from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415 - as above

        run = self._client.create_run(self._experiment, run_name=cell.name, tags={"mlflow.parentRunId": parent})
        numbers = [Metric(name, value, run.info.start_time, 0) for name, value in cell.numbers.items()]
        settings = [Param(name, value) for name, value in cell.settings.items()]
        self._client.log_batch(run.info.run_id, numbers, settings, [RunTag(name, value) for name, value in cell.tags.items()])
        self._client.set_terminated(run.info.run_id, "FINISHED" if cell.tags["status"] == "ok" else "FAILED")


def _artifacts(uri: str) -> str | None:
    """Where files go: beside a local store, else where the server keeps them."""
    return (Path(uri.removeprefix(_LOCAL)).absolute().parent / "mlartifacts").as_uri() if uri.startswith(_LOCAL) else None


@contextlib.contextmanager
def _one_line(uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - as above

    try:
        yield
    except MlflowException as error:
        raise TrackerError(f"--uri: {uri}: {one_line(str(error))}") from error
