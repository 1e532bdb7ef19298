"""`stream-unmask INPUT -o OUTPUT`."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from stream_unmask.api import Progress as ProgressCallback
from stream_unmask.backends import BACKENDS
from stream_unmask.batch import Job, foretold, plan, run
from stream_unmask.cli.console import say_error
from stream_unmask.errors import OptionError, OutputError, UnmaskError
from stream_unmask.models.profile import PORTRAIT
from stream_unmask.options import PRECISIONS, Options, seconds
from stream_unmask.provenance import check_signing
from stream_unmask.provenance import sign as sign_file
from stream_unmask.report import Failure, Report, to_json
from stream_unmask.video.encoder import ENCODERS, Encoding
from stream_unmask.video.source import Limits
from stream_unmask.video.target import claim, publish
from stream_unmask.video.writer import STDOUT

_EPILOG = (
    "The faces are invented, not recovered: never use them to identify anyone. "
    "`stream-unmask info` shows backends, devices and engines; `stream-unmask verify FILE` reads "
    "back what an output says of itself."
)
# Headings of the help.
_FACES, _CODING, _LIMITS = "Faces and networks", "Coding", "Limits"
_log = logging.getLogger("stream_unmask")
command = typer.Typer(add_completion=False)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"stream-unmask {version('stream-unmask')}")
        raise typer.Exit


@command.command(epilog=_EPILOG)
def unmask(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Videos, pictures, folders, patterns, URLs, sequences (frame_%04d.png), or -.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the result goes; - is stdout.")
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", help="Where results of several inputs go.")
    ] = None,
    mask_output: Annotated[
        Path | None, typer.Option(help="Also write the map: white where a face was invented.")
    ] = None,
    preview_sheet: Annotated[
        Path | None, typer.Option(help="Also write a picture: before, map, after at a few times.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Also write a report (JSON).")] = None,
    start: Annotated[
        float | None, typer.Option(parser=seconds, metavar="TIME", help="Begin here (hh:mm:ss).")
    ] = None,
    end: Annotated[
        float | None, typer.Option(parser=seconds, metavar="TIME", help="End here.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Pictures a second, of a sequence.")] = 25.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted run left off.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would happen to each input.")
    ] = False,
    keep_partial: Annotated[
        bool, typer.Option("--keep-partial", help="On an error keep NAME.part.EXT, playable.")
    ] = False,
    label: Annotated[
        bool, typer.Option("--label", help="Draw a visible label.", rich_help_panel=_FACES)
    ] = False,
    sign: Annotated[
        bool,
        typer.Option(
            "--sign", help="Sign outputs with invented faces (C2PA).", rich_help_panel=_FACES
        ),
    ] = False,
    sign_certificate: Annotated[
        Path | None, typer.Option(help="PEM file; else made up.", rich_help_panel=_FACES)
    ] = None,
    sign_key: Annotated[
        Path | None, typer.Option(help="PEM file, its key.", rich_help_panel=_FACES)
    ] = None,
    profile: Annotated[
        str,
        typer.Option(
            help="portrait, or paper: the published networks, for comparison.",
            rich_help_panel=_FACES,
        ),
    ] = PORTRAIT.name,
    smooth: Annotated[
        bool,
        typer.Option(help="Steady crops, maps and faces over time.", rich_help_panel=_FACES),
    ] = True,
    look_ahead: Annotated[
        int,
        typer.Option(
            help="Frames to come that have a say in that; 0 as in live use.",
            rich_help_panel=_FACES,
        ),
    ] = 4,
    batch: Annotated[
        int,
        typer.Option(
            help="Most faces in a call of a network (a CPU takes 2); they gather over frames.",
            rich_help_panel=_FACES,
        ),
    ] = 8,
    latency: Annotated[
        int | None,
        typer.Option(
            metavar="FRAMES",
            help="Most frames, not a time, that one waits for, in all; 0 as in live use.",
            rich_help_panel=_FACES,
        ),
    ] = None,
    backend: Annotated[
        str, typer.Option(help=f"auto, {', '.join(BACKENDS)}.", rich_help_panel=_FACES)
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or gpu.", rich_help_panel=_FACES)] = "auto",
    precision: Annotated[
        str, typer.Option(help=f"{', '.join(PRECISIONS)}.", rich_help_panel=_FACES)
    ] = "auto",
    hwaccel: Annotated[
        str | None,
        typer.Option(
            help="Decode in hardware: auto, cuda, videotoolbox ...", rich_help_panel=_CODING
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec",
            "--encoder",
            rich_help_panel=_CODING,
            help=f"{', '.join(ENCODERS)}, or an FFmpeg encoder; else the input's own.",
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(help="The encoder's crf: lower is better.", rich_help_panel=_CODING),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="The encoder's speed.", rich_help_panel=_CODING)
    ] = None,
    pixel_format: Annotated[
        str | None,
        typer.Option(help="As yuv420p10le; else the input's own.", rich_help_panel=_CODING),
    ] = None,
    lossless: Annotated[
        bool,
        typer.Option(
            "--lossless",
            help="All but the faces decodes to the same bits.",
            rich_help_panel=_CODING,
        ),
    ] = False,
    max_pixels: Annotated[
        int, typer.Option(help="Refuse larger pictures.", rich_help_panel=_LIMITS)
    ] = Limits().pixels,
    max_hours: Annotated[
        float, typer.Option(help="Refuse longer videos.", rich_help_panel=_LIMITS)
    ] = Limits().hours,
    max_errors: Annotated[
        int, typer.Option(help="Give up beyond so many bad packets.", rich_help_panel=_LIMITS)
    ] = Limits().errors,
    timeout: Annotated[
        float,
        typer.Option(help="Seconds without a byte from a network.", rich_help_panel=_LIMITS),
    ] = Limits().timeout,
    allow_playlists: Annotated[
        bool,
        typer.Option(
            "--allow-playlists", help="An input may name others to open.", rich_help_panel=_LIMITS
        ),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say errors only.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="And exit.")
    ] = False,
) -> None:
    """Paints plausible, invented faces where people in INPUT wear face masks."""
    del show_version
    level = logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s")
    options = Options(
        profile=profile, backend=backend, device=device, precision=precision,
        smooth=smooth, look_ahead=look_ahead, batch=batch, latency=latency,
        encoding=Encoding(codec, quality, preset, pixel_format, lossless),
        limits=Limits(max_pixels, hours=max_hours, errors=max_errors, timeout=timeout,
                      playlists=allow_playlists),
        start=start, end=end, hwaccel=hwaccel, rate=rate, label=label, overwrite=overwrite,
        keep_partial=keep_partial, resume=resume,
    )  # fmt: skip
    jobs = plan(sources, output, output_dir)
    extras = [path for path in (mask_output, preview_sheet, report) if path is not None]
    if len(jobs) > 1 and (mask_output or preview_sheet):
        raise OptionError("--mask-output and --preview-sheet take one input.")
    _refuse_same([*(job.target for job in jobs), *extras])
    if report is not None:
        for job in jobs:
            claim(report, Path(job.source), overwrite)
    # What is said goes where the picture does not.
    said = Console(stderr=str(output) == STDOUT, highlight=False, soft_wrap=True, markup=False)
    if dry_run:
        sys.exit(_foretell(jobs, options, mask_output, preview_sheet, said))
    seal = None
    if sign or sign_certificate is not None or sign_key is not None:
        seal = _sealer(jobs, profile, sign_certificate, sign_key)
    outcomes: list[Report | Failure] = []
    with _progress(quiet) as progress:
        for outcome in run(
            jobs, options, mask_target=mask_output, sheet_target=preview_sheet,
            seal=seal, progress=progress,
        ):  # fmt: skip
            outcomes.append(outcome)
            _tell(outcome, said, quiet)
    if report is not None:
        _write_text(report, to_json(outcomes))
    sys.exit(_exit_code(outcomes))


def _sealer(
    jobs: list[Job], profile: str, certificate: Path | None, key: Path | None
) -> Callable[[Path], None]:
    """What signs an output; OptionError or OutputError now if that could not be done."""
    for suffix in {job.target.suffix for job in jobs}:
        check_signing(next(j.target for j in jobs if j.target.suffix == suffix), certificate, key)
    return lambda path: sign_file(path, path.name, profile, certificate, key)


def _foretell(
    jobs: list[Job], options: Options, maps: Path | None, sheet: Path | None, said: Console
) -> int:
    """The exit code that the jobs would have, as far as can be known; prints what would happen."""
    failures = 0
    for job in jobs:
        try:
            said.print(foretold(job, options, maps, sheet))
        except UnmaskError as error:
            failures += 1
            say_error(str(error))
    return 0 if not failures else 2 if failures == len(jobs) else 1


def _tell(outcome: Report | Failure, said: Console, quiet: bool) -> None:
    """Prints what became of a job."""
    if isinstance(outcome, Failure):
        if outcome.status == "failed":
            say_error(outcome.why)
        elif not quiet:
            said.print(f"{outcome.source}: skipped, {outcome.why}")
        return
    for sentence in (*outcome.warnings, *(f"Left out: {what}." for what in outcome.dropped)):
        _log.warning(sentence)
    if not quiet:
        said.print(_summary(outcome))


def _exit_code(outcomes: list[Report | Failure]) -> int:
    """0: all done, or nothing was to be done. 1: some failed. 2: all failed."""
    failed = sum(isinstance(o, Failure) and o.status == "failed" for o in outcomes)
    return 0 if not failed else 2 if failed == len(outcomes) else 1


def _refuse_same(paths: list[Path]) -> None:
    if len({path.absolute() for path in paths}) < len(paths):
        raise OutputError("Two outputs have the same name.")


def _write_text(path: Path, text: str) -> None:
    part = claim(path, None, overwrite=True)
    try:
        part.write_text(text + "\n", encoding="utf-8")
        publish(part, path)
    except OSError as error:
        raise OutputError(f"{path} can't be written ({error.strerror}).") from error
    finally:
        part.unlink(missing_ok=True)


def _summary(done: Report) -> str:
    what = f"{done.frames} frames" if done.frames != 1 else "1 frame"
    found = f"{done.people} people" if done.people != 1 else "1 person"
    if not done.masked_faces:
        return f"{done.target}: {what}, {found}, no mask found; nothing was changed."
    rate = done.frames / max(done.seconds, 1e-6)
    return (
        f"{done.target}: {what}, {done.edited_frames} with invented faces, {found}, "
        f"{done.seconds:.1f} s ({rate:.1f} frames/s, {done.backend})."
    )


@contextmanager
def _progress(quiet: bool) -> Iterator[ProgressCallback]:
    """A progress bar on standard error; nothing where that is no terminal."""
    console = Console(stderr=True)
    bar = Progress(
        SpinnerColumn(), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[rate]:.1f} frames/s"), TimeElapsedColumn(),
        TimeRemainingColumn(), console=console, disable=quiet or not console.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task("unmask", total=None, rate=0.0)
        frames = 0

        def show(done: float, total: float | None) -> None:
            nonlocal frames
            frames += 1
            elapsed = bar.tasks[task].elapsed or 1e-6
            bar.update(task, completed=done, total=total, rate=frames / elapsed)

        yield show
