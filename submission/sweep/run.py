"""The whole of a sweep: checks, features, jobs, tables."""

import logging
import sys
from dataclasses import replace

from tqdm import tqdm

from submission.data.dataset import Dataset, verify
from submission.pipeline.score import check_scorable
from submission.runtime import paths, signals
from submission.runtime.files import locked
from submission.sweep.cluster import import_ray, on_ray, sentence
from submission.sweep.job import scores_of
from submission.sweep.plan import SweepOptions, checked, extract, own_copy, plan_jobs
from submission.sweep.table import write_report

log = logging.getLogger(__name__)


def run_sweep(options: SweepOptions, dataset: Dataset) -> dict[str, str]:
    """Runs the jobs that have no scores yet; writes sweep.csv and sweep.txt after each. Returns why
    jobs failed, by the name of the job's folder.

    Raises:
        UserError: no Ray, or an option or configuration that would fail in every job.
    """
    ray = import_ray()
    options = checked(options)
    check_scorable(dataset)
    paths.make_folder(options.out, "name another --out")
    with locked(options.out / ".lock", "wait for it, or give this sweep another --out"):
        with signals.stoppable():
            log.info("data: %s", dataset.description)
            md5 = verify(dataset, sys.stderr.isatty())
            copies = [own_copy(config, options.out.resolve()) for config in options.configs]
            options = replace(options, configs=copies)
            jobs = plan_jobs(options, dataset, md5)
            todo = [job for job in jobs if not scores_of(job)]
            log.info("%d jobs, %d of them have scores", len(jobs), len(jobs) - len(todo))
            for config in options.configs:
                if any(job.config == config.stem for job in todo):
                    extract(config, options, dataset, md5)
        failed: dict[str, str] = {}
        write_report(options.out, jobs, failed, dataset, options.quick)
        for job, reason in on_ray(ray, options, todo) if todo else ():
            if reason:
                failed[job.folder.name] = reason
            tqdm.write(sentence(job, reason), file=sys.stderr)
            write_report(options.out, jobs, failed, dataset, options.quick)
    return failed
