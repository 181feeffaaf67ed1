"""`run`: what run.sh calls. On the server the submission's job, anywhere else a local dry run."""

import argparse
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from submission.commands import train as server_job
from submission.commands.options import add_metrics, add_training, filled, scoring_of
from submission.data.dataset import Dataset, find_file, open_file
from submission.data.own import open_any
from submission.metrics.results import Context, format_table
from submission.metrics.settings import Result, ScoreOptions
from submission.pipeline.configuration import load_training
from submission.pipeline.memory_plan import log_comparison
from submission.pipeline.score import check_scorable, score_run
from submission.pipeline.train import COMPARISON, TrainOptions, logged_in, plan_of, reserved, train
from submission.report.page import Side, report_on
from submission.report.picture import draw_views
from submission.runtime import paths, signals
from submission.runtime.files import write_text
from submission.runtime.usage import Stages, table_of
from submission.server import events

log = logging.getLogger(__name__)
READOUT = "readout.gin"  # has no seed: one run of it is all

# What `./run.sh` trains: the column's title, the configuration, and what the run's name ends in.
# The report shows the last one, beside the others.
DRY_RUNS = (
    ("paper's method", "dry_run.gin", ""),
    ("supervised heads", READOUT, "_readout"),
    ("ours", "dry_run_refined.gin", "_refined"),
)


@dataclass(frozen=True)
class _Run:
    """One training with its scoring: a column of the table."""

    title: str
    folder: Path
    options: TrainOptions
    stages: Stages


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_training(parser)
    add_metrics(parser)
    what = "gin file; default: public.gin on the server, else"
    all_of_them = ", ".join(config for _, config, _ in DRY_RUNS)
    what += f" {all_of_them} beside each other, or with bindings {DRY_RUNS[0][1]} alone"
    parser.add_argument("--config", type=Path, help=what)
    what = "of the rendered stand-in (default: %(default)s)"
    parser.add_argument("--axis-steps", type=int, default=4, help=what)


def run(args: argparse.Namespace) -> None:
    """Trains and exports; off the server renders a stand-in if need be, scores, and reports."""
    if events.is_grading():
        args.config = args.config or Path("public.gin")
        server_job.run(args)
        return
    # What is mistyped is heard of now, not after the rendering or the training.
    scoring, whole = scoring_of(args), Stages()
    for config in _configs(args):
        load_training(config, args.bindings)
    named = _named(args)
    scorable = named is None or len(named.factor_sizes) > 1
    if args.images is not None and (named is None or named.labels is None):
        scoring = replace(scoring, drawn=True)
    if named and scorable:
        check_scorable(named, scoring)
    runs = _asked_for(args, whole, named is None or named.official)
    with signals.stoppable(), ExitStack() as stack:
        for one in runs:
            stack.enter_context(reserved(one.folder))
        with logged_in(runs[0].folder):
            dataset, rendered = named or _rendered(args, whole), named is None
        print(f"\n{dataset.description}\n")
        for one in runs:  # that the last one does not fit is heard of before the first is trained
            plan_of(dataset, one.options, scoring=scorable, rendered=rendered)
        if not scorable:
            _train_only(runs, dataset, whole)
            return
        scores = [_train_and_score(one, dataset, rendered, scoring) for one in runs]
        results = {one.title: result for one, (result, _) in zip(runs, scores, strict=True)}
        context = scores[0][1]
        table = format_table(results, context)
        print(f"\n{table}", flush=True)
        if not scoring.drawn:
            report = _report(runs, dataset, context.data_md5, whole)
            print(f"the report, for a browser: {report}\n")
        else:
            print("no report: it shows codes of all images (`report` computes them)\n")
        print(times := _times(runs, whole))
        if len(runs) > 1:
            write_text(runs[0].folder / COMPARISON[0], f"{table}\n{times}\n")
        folders = " and ".join(str(one.folder) for one in runs)
        print(f"\neverything is in {folders}")


def _train_only(runs: Sequence[_Run], dataset: Dataset, whole: Stages) -> None:
    """For images of which nobody says two factors."""
    for one in runs:
        with logged_in(one.folder):
            log.info("--- %s, %s, in %s", one.title, one.options.config, one.folder)
            log_comparison(train(dataset, one.folder, one.options, one.stages), one.stages)
            one.stages.write(one.folder / "stages.json")
    print(f"\n{_times(runs, whole)}\n")
    for one in runs:
        print(f"exported: {paths.model_path(one.folder)}")
    print(
        f"\nNothing is scored: {dataset.name} has {len(dataset.factor_sizes)} known factors, and "
        "the metrics compare at least two (docs/datasets.md)"
    )


def _times(runs: Sequence[_Run], whole: Stages) -> str:
    """The table of stages."""
    if len(runs) == 1:
        return whole.table()
    return table_of({one.title: one.stages for one in runs}, whole)


def _configs(args: argparse.Namespace) -> list[Path]:
    """The configurations that a command line stands for. Bindings are one's."""
    if args.config or args.bindings:
        return [args.config or Path(DRY_RUNS[0][1])]
    return [Path(config) for _, config, _ in DRY_RUNS]


def _asked_for(args: argparse.Namespace, whole: Stages, official: bool) -> list[_Run]:
    """The runs of these configurations. The heads read MPI3D's factors, so they are asked of
    nothing else."""
    if args.config or args.bindings:
        options = filled(TrainOptions, args, config=_configs(args)[0])
        folder = paths.run_folder(args.name, default="dry_run")
        return [_Run("this run", folder, options, whole)]
    seeds: dict[str, dict[str, int]] = {READOUT: {"seeds": 1}}
    return [
        _Run(
            title,
            paths.run_folder(args.name, default="dry_run", suffix=suffix),
            filled(TrainOptions, args, config=Path(config), **seeds.get(config, {})),
            Stages(),
        )
        for title, config, suffix in DRY_RUNS
        if official or config != READOUT
    ]


def _train_and_score(
    one: _Run, dataset: Dataset, rendered: bool, scoring: ScoreOptions
) -> tuple[Result, Context]:
    with logged_in(one.folder):
        log.info("--- %s, %s, in %s", one.title, one.options.config, one.folder)
        planned = train(
            dataset, one.folder, one.options, one.stages, scoring=True, rendered=rendered
        )
        scores = score_run(dataset, one.folder, scoring, one.stages, looked_at=True)
        log_comparison(planned, one.stages)
        one.stages.write(one.folder / "stages.json")
    return scores


def _report(runs: Sequence[_Run], dataset: Dataset, md5: str, whole: Stages) -> Path:
    """Writes report.html, and for several runs comparison.png, into the first run's folder; returns
    the page's file."""
    folder, several = runs[0].folder, len(runs) > 1
    sides = [Side([one.folder], one.title if several else "") for one in (runs[-1], *runs[:-1])]
    with logged_in(folder), whole.stage("report"):
        device = runs[-1].options.device
        first, *others = report_on(sides, folder / "report.html", dataset, md5, device)
        if several:
            what = "stand-in, NOT MPI3D" if dataset.stand_in else dataset.name
            views, names = [*others, first], dataset.observed_names
            draw_views(views, folder / COMPARISON[1], names, what)
    return folder / "report.html"


def _named(args: argparse.Namespace) -> Dataset | None:
    """The named data set, or None if none is named and the challenge's is not there."""
    # Who names a data set wants that one, or to hear that it is missing.
    named = args.dataset or args.data or paths.data_is_named()
    if named or find_file(paths.data_folder(), paths.dataset_name())[1]:
        return open_any(args.data, args.dataset)
    return None


def _rendered(args: argparse.Namespace, stages: Stages) -> Dataset:
    """A stand-in, rendered unless it is there."""
    name, folder = paths.dataset_name(), paths.data_folder()
    log.info("no %s in %s: using a stand-in for mpi3d_real, rendered here", name, folder)
    from submission.render.stand_in import write_stand_in  # here: its compiler takes memory

    folder = paths.home() / "stand_in" / f"real_axis_steps_{args.axis_steps}"
    path = folder / "mpi3d_real" / "mpi3d_real.npz"
    if not path.exists():
        with stages.stage("rendering"):
            write_stand_in(folder, "real", args.axis_steps, seed=0)
    return open_file(path, "mpi3d_real")
