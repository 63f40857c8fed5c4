"""The command line of the trainer: run, resume, validate, evaluate, merge, push, catalog. Needs no server.

Exit codes: 0 finished, 1 failed, 2 invalid input, 3 stopped, 4 paused.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.events import EXIT_FAILED, EXIT_FINISHED, EXIT_INVALID

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from trainer.spec import RunSpec

# Nothing here may load torch: `--help`, `validate` and `catalog` answer at once, and spec.json and the
# first journal line are on the disk before the slow imports begin. Hence the imports inside functions.
# ruff: noqa: PLC0415


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, do, and return the exit code."""
    parser = _parser()
    # argparse gives up on overrides that stand behind an option: they come back as unknown.
    options, rest = parser.parse_known_args(arguments)
    if any(item.startswith("-") for item in rest) or (rest and not hasattr(options, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    try:
        code: int = options.action(options)
    except BrokenPipeError:
        return EXIT_FAILED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    actions = parser.add_subparsers(required=True, metavar="COMMAND")

    run = actions.add_parser("run", help="train what a spec describes")
    run.add_argument("spec", help="a TOML or JSON file, or a recipe's name")
    _add_start(run)
    run.set_defaults(action=_run)

    resume = actions.add_parser("resume", help="continue the run in a directory")
    resume.add_argument("dir", type=Path)
    resume.add_argument("overrides", nargs="*", metavar="key.path=value")
    resume.add_argument(
        "--void",
        action="append",
        default=[],
        type=_void,
        metavar="ATTEMPT:STEP",
        help="remove checkpoints behind STEP that attempts up to ATTEMPT saved, and go on from STEP",
    )
    _add_common(resume)
    resume.set_defaults(action=_resume)

    evaluate = actions.add_parser("evaluate", help="measure the spec's model on data.eval")
    evaluate.add_argument("spec", help="a TOML or JSON file, or a recipe's name")
    _add_start(evaluate)
    evaluate.set_defaults(action=_evaluate)

    validate = actions.add_parser("validate", help="check a spec without running it")
    validate.add_argument("spec", help="a TOML or JSON file, or a recipe's name")
    validate.add_argument("overrides", nargs="*", metavar="key.path=value")
    validate.set_defaults(action=_validate)

    merge = actions.add_parser(
        "merge", help="copy a checkpoint for plain transformers, its adapter added into the weights"
    )
    merge.add_argument("checkpoint", type=Path)
    merge.add_argument("--out", type=Path, required=True, help="a new folder")
    merge.set_defaults(action=_merge)

    push = actions.add_parser("push", help="upload a checkpoint to a hub; nothing else ever does")
    push.add_argument("checkpoint", type=Path)
    push.add_argument("--to", required=True, metavar="HUB_ID", help="OWNER/NAME of a repository")
    push.add_argument("--private", action="store_true", help="where the repository is made new")
    push.add_argument("--merge", action="store_true", help="upload the merged copy")
    push.set_defaults(action=_push)

    catalog = actions.add_parser("catalog", help="list every method with its knobs")
    form = catalog.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true")
    form.add_argument("--markdown", action="store_true")
    catalog.set_defaults(action=_catalog)
    return parser


def _add_start(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", type=Path, required=True, help="the run's new directory")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    _add_common(parser)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--attempt", type=int, default=0, help="its number; the next one unless given"
    )
    parser.add_argument(
        "--model-path", default="", help="folder that stands for run:ID or checkpoint:ID"
    )
    parser.add_argument("--reference-path", default="", help="the same for reference.name")
    parser.add_argument(
        "--play-path",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="folder that stands for a run:ID or checkpoint:ID of play.models",
    )
    parser.add_argument(
        "--reward-path",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="folder that stands for a run:ID or checkpoint:ID that a reward names",
    )
    parser.add_argument(
        "--dataset", action="append", default=[], metavar="ID=PATH", help="file of a dataset id"
    )


def _void(text: str) -> tuple[int, int]:
    """ATTEMPT:STEP of a rollback."""
    attempt, _, step = text.partition(":")
    return int(attempt), int(step)


def _run(options: argparse.Namespace, kind: str = "") -> int:
    from trainer.rundir import RunDir

    spec = _load(options.spec, [*options.overrides, *([f"kind={kind}"] if kind else [])])
    if spec is None:
        return EXIT_INVALID
    run = RunDir(options.dir.expanduser().resolve())
    try:
        run.create(spec)
    except OSError as error:
        # FileExistsError carries our own sentence.
        return _refuse(str(error) if isinstance(error, FileExistsError) else f"--dir: {error}")
    return _work(run, spec, options)


def _evaluate(options: argparse.Namespace) -> int:
    return _run(options, kind="evaluate")


def _resume(options: argparse.Namespace) -> int:
    from trainer.rundir import RunDir
    from trainer.spec import SpecError, spec_parse
    from trainer.specfile import with_overrides

    run = RunDir(options.dir.expanduser().resolve())
    try:
        spec = spec_parse(with_overrides(run.spec_raw()["spec"], options.overrides))
    except FileNotFoundError as error:
        return _refuse(str(error))
    except (SpecError, ValueError, KeyError) as error:
        return _refuse(f"{run.spec_path}: {error}")
    return _work(run, spec, options)


def _validate(options: argparse.Namespace) -> int:
    spec = _load(options.spec, options.overrides)
    if spec is None:
        return EXIT_INVALID
    from trainer.spec import spec_hash

    print(f"{options.spec} is valid ({spec_hash(spec)[:12]})")
    return EXIT_FINISHED


def _catalog(options: argparse.Namespace) -> int:
    from trainer import catalog

    print(catalog.catalog_json() if options.json else catalog.catalog_markdown())
    return EXIT_FINISHED


def _merge(options: argparse.Namespace) -> int:
    return _export(
        options, lambda export, folder: export.checkpoint_merge(folder, _path(options.out))
    )


def _push(options: argparse.Namespace) -> int:
    return _export(
        options,
        lambda export, folder: export.checkpoint_push(
            folder, options.to, private=options.private, merge=options.merge
        ),
    )


def _export(options: argparse.Namespace, work: Callable[[ModuleType, Path], object]) -> int:
    """Do it and print where the result is."""
    _prepare_threads(os.cpu_count() or 1)
    from trainer.engine import export

    try:
        print(work(export, _path(options.checkpoint)))
    except ValueError as error:
        return _refuse(str(error))
    except export.UNFINISHED as error:
        return _ends_without_a_journal(error)
    return EXIT_FINISHED


def _path(path: Path) -> Path:
    return path.expanduser().resolve()


def _load(name: str, overrides: Sequence[str]) -> RunSpec | None:
    """The spec, or None after saying what is wrong with it."""
    try:
        from trainer.spec import SpecError
        from trainer.specfile import spec_load
    except ImportError as error:
        # A method file of the user's own that breaks the registry's rules.
        _refuse(str(error))
        return None
    try:
        return spec_load(name, overrides)
    except SpecError as error:
        for problem in error.problems:
            _refuse(str(problem))
        return None


def _refuse(message: str) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    return EXIT_INVALID


def _paths(named: dict[str, str]) -> dict[str, Path]:
    return {name: Path(path) for name, path in named.items()}


def _work(run: Any, spec: RunSpec, options: argparse.Namespace) -> int:
    """Open the attempt, say so, then load the engine and do the work."""
    from trainer.engine.failure import verdict_of
    from trainer.engine.orders import Orders
    from trainer.engine.progress import Report
    from trainer.engine.session import Session
    from trainer.engine.shared_orders import SharedOrders
    from trainer.followers import Followers
    from trainer.gang import gang_read
    from trainer.stacks import stacks_offer

    datasets: dict[str, str] = {}
    play_paths: dict[str, str] = {}
    reward_paths: dict[str, str] = {}
    for option, items, found in (
        ("--dataset", options.dataset, datasets),
        ("--play-path", options.play_path, play_paths),
        ("--reward-path", options.reward_path, reward_paths),
    ):
        for item in items:
            name, separator, path = item.partition("=")
            if not separator:
                return _refuse(f"{option} {item}: must be ID=PATH")
            found[name] = path
    attempt = run.attempt(options.attempt or run.next_attempt())
    if attempt.journal("trainer").exists():
        return _refuse(f"attempt {attempt.number} was begun already; choose a higher --attempt")
    gang = gang_read(attempt.gang)
    if spec.resources.nodes > 1 and gang is None:
        return _refuse(
            f"resources.nodes: only a server launches a run on {spec.resources.nodes} machines; set it to 1 "
            "to train here"
        )
    _prepare_threads(spec.resources.cpus)
    try:
        try:
            report = Report(attempt)
        except ValueError as error:
            return _refuse(str(error))
        stacks_offer(attempt)
        followers = Followers(attempt, spec, gang) if spec.resources.world > 1 else None
        orders = SharedOrders(run, attempt, followers) if followers else Orders(run, attempt)
        orders.listen()
        awaits = {} if followers is None else followers.announced()
        report.status("load", data={**_opening(run, spec, attempt.number), **awaits})
    except OSError as error:
        return _ends_without_a_journal(error)
    session = Session(
        run,
        attempt,
        report,
        orders,
        model_path=options.model_path,
        reference_path=options.reference_path,
        play_paths=_paths(play_paths),
        reward_paths=reward_paths,
        datasets=_paths(datasets),
        voids=getattr(options, "void", ()),
    )
    try:
        if followers is not None:
            followers.start(session.tick)
            from trainer.engine.together import lead as execute
        else:
            from trainer.engine.job import execute
        verdict = execute(session, spec)
    except BaseException as error:
        verdict = verdict_of(error)
        if verdict.cause == "crash":
            import traceback

            traceback.print_exc()
    if followers is not None:
        verdict = followers.end(verdict)
    report.end(verdict)
    return verdict.exit_code


def _ends_without_a_journal(error: Exception) -> int:
    from trainer.engine.failure import verdict_of

    print(f"error: {verdict_of(error).message}", file=sys.stderr, flush=True)
    return EXIT_FAILED


def _prepare_threads(cpus: int) -> None:
    """Read by the libraries when torch loads. Spinning threads would fight with every neighbour."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OMP_NUM_THREADS", str(cpus))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def _opening(run: Any, spec: RunSpec, attempt: int) -> dict[str, Any]:
    versions = {}
    for package in ("torch", "transformers", "tokenizers", "safetensors", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = ""
    return {
        "spec_hash": run.spec_raw()["sha256"],
        "pid": os.getpid(),
        "attempt": attempt,
        "threads": spec.resources.cpus,
        # Known once torch is there; the second status of this phase says them.
        "dtype": spec.model.dtype,
        "device": "",
        "versions": {"python": sys.version.split()[0], **versions},
    }


if __name__ == "__main__":
    sys.exit(main())
