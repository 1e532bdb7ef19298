"""`stream-unmask live`."""

import logging
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stream_unmask.backends import BACKENDS
from stream_unmask.errors import OptionError
from stream_unmask.live import Figures, Outputs, live
from stream_unmask.models.profile import PORTRAIT
from stream_unmask.options import PRECISIONS, Options
from stream_unmask.video.camera import Wanted, devices

command = typer.Typer(add_completion=False)


def _size(text: str) -> tuple[int, int]:
    """(width, height) out of "1280x720"; OptionError for anything else."""
    match = re.fullmatch(r"(\d{2,5})x(\d{2,5})", text, re.ASCII)
    if match is None:
        raise OptionError(f"{text!r} is no size: give it as 1280x720.")
    return int(match[1]), int(match[2])


def _list_devices(wanted: bool) -> None:
    if wanted:
        for number, device in enumerate(devices()):
            print(f"{number}  {device.name}  {device.title}")
        raise typer.Exit


@command.command(epilog="The faces are invented, not recovered: never use them to identify anyone.")
def unmask_live(
    source: Annotated[
        str,
        typer.Argument(
            metavar="[CAMERA]",
            help="Number, path or name of a camera, a URL, or a file, played at its own pace.",
        ),
    ] = "0",
    list_devices: Annotated[
        bool,
        typer.Option(
            "--list-devices", callback=_list_devices, is_eager=True, help="Cameras, and exit."
        ),
    ] = False,
    size: Annotated[
        tuple[int, int] | None, typer.Option(parser=_size, metavar="WxH", help="Ask for this size.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Ask for so many frames a second.")] = None,
    hwaccel: Annotated[
        str | None, typer.Option(help="Decode in hardware: auto, cuda, videotoolbox ...")
    ] = None,
    window: Annotated[bool, typer.Option(help="Show a window; h shows its keys.")] = True,
    full_screen: Annotated[
        bool, typer.Option("--full-screen", help="It fills the screen.")
    ] = False,
    record: Annotated[Path | None, typer.Option(help="Also write what is shown.")] = None,
    record_sound: Annotated[
        bool, typer.Option("--record-sound", help="With the source's sound.")
    ] = False,
    virtual_camera: Annotated[
        bool, typer.Option("--virtual-camera", help="Also be a camera for other programs.")
    ] = False,
    label: Annotated[bool, typer.Option(help="Draw a visible label.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs.")] = False,
    profile: Annotated[str, typer.Option(help="portrait or paper.")] = PORTRAIT.name,
    backend: Annotated[str, typer.Option(help=f"auto, {', '.join(BACKENDS)}.")] = "auto",
    device: Annotated[
        str, typer.Option(help="auto, cpu or gpu: what the networks run on.")
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help=f"{', '.join(PRECISIONS)}: what they compute in.")
    ] = "auto",
) -> None:
    """Shows what a camera sees, with invented faces where people wear face masks."""
    del list_devices
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    options = Options(
        profile=profile, backend=backend, device=device, precision=precision, hwaccel=hwaccel,
        label=label, overwrite=overwrite,
    )  # fmt: skip
    outputs = Outputs(window, full_screen, record, record_sound, virtual_camera)
    figures = live(source, options, outputs, Wanted(size, rate))
    Console(highlight=False, soft_wrap=True).print(_summary(figures))


def _summary(done: Figures) -> str:
    if not done.frames:
        return "Nothing was shown."
    return (
        f"{done.frames} frames in {done.seconds:.1f} s, {done.missed} passed over; the first after "
        f"{done.first or 0:.1f} s; {done.latency(0.5)} ms behind (p95 {done.latency(0.95)})."
    )
