"""The command line: `stream-unmask INPUT -o OUTPUT`, and `stream-unmask info`."""

import logging
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from stream_unmask import api
from stream_unmask.backends import BACKENDS, installed, package
from stream_unmask.backends.artefacts import engine_path, engines_folder, manifest
from stream_unmask.errors import OutputError, UnmaskError
from stream_unmask.label import mark
from stream_unmask.models.profile import PORTRAIT
from stream_unmask.options import Options
from stream_unmask.report import Clock, Report
from stream_unmask.sheet import PreviewSheet
from stream_unmask.video.image import SUFFIXES, read_image, write_image
from stream_unmask.video.target import claim

_EPILOG = (
    "The faces are invented, not recovered: never use them to identify anyone. "
    "`stream-unmask info` shows backends, devices and engines."
)
_INTERRUPTED = 130  # what typer makes of Ctrl-C, without a word
_log = logging.getLogger("stream_unmask")
_unmask = typer.Typer(add_completion=False)
_info = typer.Typer(add_completion=False)


def main() -> None:
    """Runs the command that the arguments name; `INPUT` alone means unmasking."""
    arguments = sys.argv[1:]
    try:
        if arguments[:1] == ["info"]:
            _info(arguments[1:], prog_name="stream-unmask info")
        _unmask(arguments or ["--help"], prog_name="stream-unmask")
    except UnmaskError as error:
        Console(stderr=True).print(
            f"Error: {error}", style="red", markup=False, highlight=False, soft_wrap=True
        )
        sys.exit(2)
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            Console(stderr=True).print("Interrupted; no output was kept.")
        raise


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"stream-unmask {version('stream-unmask')}")
        raise typer.Exit


@_unmask.command(epilog=_EPILOG)
def unmask(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A video, or a .jpg .png .webp.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the result goes.")],
    mask_output: Annotated[
        Path | None, typer.Option(help="Also write the map: white where a face was invented.")
    ] = None,
    preview_sheet: Annotated[
        Path | None, typer.Option(help="Also write a picture: before, map, after at a few times.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Also write a report (JSON).")] = None,
    profile: Annotated[
        str, typer.Option(help="portrait, or paper: the published networks, for comparison.")
    ] = PORTRAIT.name,
    backend: Annotated[str, typer.Option(help=f"auto, {', '.join(BACKENDS)}.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "auto",
    smooth: Annotated[bool, typer.Option(help="Steady crops, maps and faces over time.")] = True,
    look_ahead: Annotated[
        int, typer.Option(help="Frames to come that have a say in that; 0 as in live use.")
    ] = 4,
    label: Annotated[bool, typer.Option("--label", help="Draw a visible label.")] = False,
    start: Annotated[float | None, typer.Option(help="Seconds to skip at the start.")] = None,
    duration: Annotated[float | None, typer.Option(help="Seconds to process.")] = None,
    encoder: Annotated[str | None, typer.Option(help="FFmpeg encoder, e.g. libx265.")] = None,
    quality: Annotated[int | None, typer.Option(help="Its crf: lower is better.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs.")] = False,
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
        profile=profile, backend=backend, device=device, smooth=smooth,
        look_ahead=look_ahead, label=label,
        start=start, duration=duration, encoder=encoder, quality=quality, overwrite=overwrite,
    )  # fmt: skip
    extras = [path for path in (mask_output, preview_sheet, report) if path is not None]
    _refuse_same([output, *extras])
    if report is not None:
        claim(report, source, overwrite)
    if source.suffix.lower() in SUFFIXES:
        done = _picture(source, output, mask_output, preview_sheet, options)
    else:
        with _progress(quiet) as progress:
            done = api.unmask_video(
                source, output, options,
                mask_target=mask_output, sheet_target=preview_sheet, progress=progress,
            )  # fmt: skip
    if report is not None:
        _write_text(report, done.to_json())
    for sentence in (*done.warnings, *(f"Left out: {what}." for what in done.dropped)):
        _log.warning(sentence)
    if not quiet:
        print(_summary(done))


def _picture(
    source: Path,
    output: Path,
    mask_output: Path | None,
    preview_sheet: Path | None,
    options: Options,
) -> Report:
    """Unmasks a still picture."""
    if options.start is not None or options.duration is not None:
        _log.warning("A picture has no time: --start and --duration were ignored.")
    image = read_image(source)
    for path in (output, mask_output, preview_sheet):
        if path is not None:
            api.claim_picture(path, source, options.overwrite)
    clock = Clock()
    with clock("unmask"):
        result = api.unmask_image(image, options)
    write_image(output, result.image, mark=mark(), source=source, overwrite=options.overwrite)
    if mask_output is not None:
        grey = np.rint(result.mask * 255).astype(np.uint8)
        write_image(mask_output, grey, mark=mark(), source=source, overwrite=options.overwrite)
    if preview_sheet is not None:
        sheet = PreviewSheet(None)
        sheet.add(None, image, result.mask, result.image)
        row = sheet.image()
        assert row is not None
        write_image(preview_sheet, row, mark=mark(), source=source, overwrite=options.overwrite)
    return Report(
        source=str(source), target=str(output), frames=1, edited_frames=int(result.masked > 0),
        faces=len(result.faces), masked_faces=result.masked, people=len(result.faces),
        seconds=clock.seconds["unmask"], stages=clock.seconds, backend=result.backend,
    )  # fmt: skip


def _refuse_same(paths: list[Path]) -> None:
    if len({path.absolute() for path in paths}) < len(paths):
        raise OutputError("Two outputs have the same name.")


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} can't be written ({error.strerror}).") from error


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
def _progress(quiet: bool) -> Iterator[api.Progress]:
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


@_info.command()
def info() -> None:
    """Shows the version, backends with their devices, and engines with their checksums."""
    console = Console()
    system = f"Python {platform.python_version()}, {platform.platform()}"
    console.print(f"stream-unmask {version('stream-unmask')} ({system})", highlight=False)
    table = Table("backend", "installed", "devices", title="Backends", title_justify="left")
    for name in BACKENDS:
        present = name in installed()
        hint = escape(f"no: pip install '{package(name)}'")
        table.add_row(name, "yes" if present else hint, _devices(name) if present else "")
    console.print(table)
    table = Table("engine", "SHA-256", "licence", title="Engines", title_justify="left")
    for name, facts in manifest().items():
        engine_path(name)  # which compares the checksum with the file's
        table.add_row(name, facts["sha256"][:16], facts["licence"])
    console.print(table)
    console.print(f"Engines are in {engines_folder()}; checksums fit.", highlight=False)


def _devices(backend: str) -> str:
    if backend == "openvino":
        import openvino

        return ", ".join(openvino.Core().available_devices)
    import onnxruntime

    names = onnxruntime.get_available_providers()
    return ", ".join(name.removesuffix("ExecutionProvider") for name in names)
