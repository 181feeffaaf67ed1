"""Jobs on Ray, on this machine or on a cluster."""

import importlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

from submission.runtime import signals
from submission.runtime.errors import UserError, first_line
from submission.runtime.progress import progress_bar
from submission.sweep.job import Job, scores_of, work
from submission.sweep.plan import SweepOptions

_INSTALL = ".venv/bin/pip install -r requirements-sweep.lock"


def import_ray() -> Any:
    # Before Ray's import, and for all that it starts: it would report the use of it.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        what = f"a sweep needs Ray, which is an optional extra: run `{_INSTALL}`"
        raise UserError(what) from error


def on_ray(ray: Any, options: SweepOptions, todo: Sequence[Job]) -> Iterator[tuple[Job, str]]:
    """Runs the jobs, as many at a time as there are cores for; yields each at its end, with the
    reason why it failed.

    Raises:
        UserError: no cluster at the address, or none of its nodes can hold a job.
        Stopped: a signal came; the jobs have saved what they had.
    """
    # For Ray's logs and sockets. A socket's path may have 107 characters, of which Ray takes 75; a
    # scheduler's TMPDIR can be longer than the rest.
    own = tempfile.gettempdir()
    parent = own if len(os.fsencode(own)) <= 30 else "/tmp"
    made = tempfile.TemporaryDirectory(prefix="ray-", dir=parent, ignore_cleanup_errors=True)
    with made as temporary:
        try:
            _start(ray, options, temporary)
            remote = ray.remote(num_cpus=options.cpus, num_gpus=options.gpus, max_retries=0)(work)
            bar = progress_bar(total=len(todo), desc="jobs", unit=" jobs", smoothing=0)
            # After Ray's start, which takes SIGTERM for itself.
            with signals.stoppable(), signals.held(), bar:
                pending = {remote.remote(job): job for job in todo}
                while pending:
                    done, _ = ray.wait(list(pending), timeout=0)
                    for reference in done:
                        job = pending.pop(reference)
                        bar.update()
                        yield job, _outcome(ray, reference)
                    if number := signals.asked():
                        for reference in pending:  # ends its job, as SIGTERM does
                            ray.cancel(reference)
                        ray.wait(list(pending), num_returns=len(pending), timeout=60)
                        left = f"{len(pending)} of {len(todo)} jobs are left"
                        signals.stop(number, f"{left}, those that were running have saved")
                    if sys.stderr.isatty():
                        bar.refresh()
                    if not done:
                        time.sleep(0.5)
        finally:
            ray.shutdown()


def _start(ray: Any, options: SweepOptions, temporary: str) -> None:
    what = f"no Ray cluster can be joined at {options.address}"
    remedy = "start one with `ray start --head`, or leave out --address"
    own: dict[str, Any] = {}
    if not options.address:
        what = "Ray cannot be started here"
        remedy = "name another folder for its sockets in TMPDIR, or give it more memory"
        # Next to nothing passes through the object store: about the least that Ray takes.
        own = {"include_dashboard": False, "object_store_memory": 80 << 20, "_temp_dir": temporary}
    try:
        ray.init(options.address or "local", log_to_driver=False, logging_level="ERROR", **own)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{what} ({first_line(error)}): {remedy}") from error
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = options.cpus, options.gpus
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        what = f"no node has the {cpus} cores and {gpus:g} GPUs that one job asks for"
        raise UserError(f"{what}: lower --cpus or --gpus")


def _outcome(ray: Any, reference: Any) -> str:
    try:
        return str(ray.get(reference))
    except ray.exceptions.RayError as error:
        # The cause of an error of `work` itself, as on a full disk; else the worker is gone.
        return first_line(getattr(error, "cause", error))


def sentence(job: Job, reason: str) -> str:
    if reason:
        return f"{job.folder.name} failed: {reason} (log: {job.log})"
    scores = scores_of(job)
    return f"{job.folder.name}: done in {scores['seconds'] if scores else 0:,.0f} s"
