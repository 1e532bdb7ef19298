"""Many inputs: what is to be done with each, and doing it, whatever becomes of the others."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from stream_unmask.api import Progress, claim_picture, open_reader, unmask_picture, unmask_video
from stream_unmask.errors import InputError, OptionError, OutputError, UnmaskError
from stream_unmask.options import Options
from stream_unmask.pipeline import open_parts
from stream_unmask.provenance import verify
from stream_unmask.report import Failure, Report
from stream_unmask.resume import unmask_resumably
from stream_unmask.video.encoder import FORMATS
from stream_unmask.video.image import SUFFIXES, open_picture
from stream_unmask.video.source import STDIN, is_url, numbered
from stream_unmask.video.target import claim, is_part
from stream_unmask.video.writer import STDOUT, container_of, refused

# What is taken for a video where a whole folder is given. Named ones may be called anything.
_VIDEOS = {*FORMATS, ".avi", ".flv", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".3gp"}
_VIDEOS |= {".ogv", ".vob", ".mxf", ".gif", ".y4m"}


@dataclass(frozen=True, slots=True)
class Job:
    """One input and where its result goes.

    found: met in a folder, or by a pattern, not named. mirrored: the target's folder may be new.
    """

    source: str
    target: Path
    found: bool = False
    mirrored: bool = False

    @property
    def still(self) -> bool:
        """True for one picture, which has no time."""
        one = not is_url(self.source) and not _is_sequence(self.source)
        return one and Path(self.source).suffix.lower() in SUFFIXES


def plan(sources: Sequence[str], output: Path | None, folder: Path | None) -> list[Job]:
    """What is to be done: one input into `output`, or all into a folder, which mirrors theirs.

    OptionError if that does not add up.
    """
    if (output is None) == (folder is None):
        raise OptionError("Say where the result goes: --output FILE, or --output-dir FOLDER.")
    if not all(sources):
        raise OptionError("An input has no name.")
    try:
        if output is not None and Path(sources[0]).is_dir():
            raise OptionError(f"{sources[0]} is a folder: give it an --output-dir.")
        met = [found for source in sources for found in _met(source, folder)]
    except OSError as error:
        raise InputError(f"{error.filename} can't be read ({error.strerror}).") from error
    if output is not None and len(met) > 1:
        raise OptionError("--output takes one input; give several an --output-dir.")
    if not met:
        raise OptionError(f"There is no video or picture in {', '.join(sources)}.")
    if folder is None:
        assert output is not None
        return [Job(met[0][0], output)]
    jobs = [Job(source, folder / name, found, True) for source, name, found in met]
    seen: dict[Path, Job] = {}
    for job in jobs:
        other = seen.setdefault(job.target, job)
        if other is not job:
            raise OptionError(f"{other.source} and {job.source} would both become {job.target}.")
    return jobs


def run(
    jobs: Sequence[Job],
    options: Options,
    *,
    mask_target: Path | None = None,
    sheet_target: Path | None = None,
    seal: Callable[[Path], None] | None = None,
    progress: Progress | None = None,
) -> Iterator[Report | Failure]:
    """What became of each job, in order; one that fails does not keep the others from being done.

    mask_target, sheet_target: of a single job. seal: called at last with each output that has an
    invented face. BackendError if no engine can be opened.
    """
    with ExitStack() as stack:
        # Several share the engines; one opens them itself, once its input has turned out to be one.
        parts = stack.enter_context(open_parts(options)) if len(jobs) > 1 else None
        for job in jobs:
            why = _needless(job, options.resume)
            if why is not None:
                yield Failure(job.source, str(job.target), why, "skipped")
                continue
            try:
                if job.mirrored:
                    _make_folder(job.target.parent)
                if job.still:
                    done = unmask_picture(
                        job.source, job.target, options,
                        mask_target=mask_target, sheet_target=sheet_target, parts=parts,
                    )  # fmt: skip
                elif options.resume and Path(job.source).is_file():
                    if mask_target is not None or sheet_target is not None:
                        raise OptionError(
                            "--resume works in segments, without --mask-output or --preview-sheet."
                        )
                    done = unmask_resumably(
                        job.source, job.target, options, progress=progress, parts=parts
                    )
                else:
                    done = unmask_video(
                        job.source, job.target, options, mask_target=mask_target,
                        sheet_target=sheet_target, progress=progress, parts=parts,
                    )  # fmt: skip
                if seal is not None and done.edited_frames:
                    seal(job.target)
                yield done
            except UnmaskError as error:
                yield Failure(job.source, str(job.target), str(error))


def foretold(
    job: Job,
    options: Options,
    mask_target: Path | None = None,
    sheet_target: Path | None = None,
) -> str:
    """What would happen to a job, in a sentence; UnmaskError with the reason if nothing would."""
    why = _needless(job, options.resume)
    if why is not None:
        return f"{job.source}: skipped, {why}"
    there = job.target.parent.is_dir() or not job.mirrored
    for path in (job.target, mask_target):
        if path is None or str(path) == STDOUT:
            continue
        if not job.still:
            container_of(path)
        elif path.suffix.lower() not in SUFFIXES:
            raise OutputError(f"{path} must end in one of {', '.join(SUFFIXES)}.")
        if there:
            claim(path, None if is_url(job.source) else Path(job.source), options.overwrite)
    if sheet_target is not None:
        claim_picture(sheet_target, job.source, options.overwrite)
    if job.still:
        height, width = open_picture(job.source, options.limits.pixels).image.shape[:2]
        return f"{job.source} -> {job.target}: a picture of {width} x {height}."
    with open_reader(job.source, options) as reader:
        facts = [f"{reader.codec} {reader.width} x {reader.height}"]
        if reader.duration is not None:
            facts.append(f"{float(reader.duration):.1f} s")
        others = len(reader.streams) - 1
        facts.append(f"{others} other stream{'s' * (others != 1)}")
        more = (*reader.warnings, *refused(reader, job.target, options.encoding))
        return " ".join((f"{job.source} -> {job.target}: {', '.join(facts)}.", *more))


def _met(source: str, folder: Path | None) -> Iterator[tuple[str, Path, bool]]:
    """(input, name of its result below the folder, was it found rather than named) for each."""
    path = Path(source)
    if source == STDIN or is_url(source) or _is_sequence(source):
        yield source, Path(_result_name(_plain_name(source))), False
    elif path.is_dir():
        for file in sorted(path.rglob("*")):
            known = file.suffix.lower() in {*_VIDEOS, *SUFFIXES} and file.is_file()
            inside = folder is not None and file.resolve().is_relative_to(folder.resolve())
            if known and not inside and not is_part(file):
                relative = file.relative_to(path)
                yield str(file), relative.with_name(_result_name(relative.name)), True
    elif has_magic(source) and not path.exists():
        for name in sorted(glob(source, recursive=True)):  # noqa: PTH207 - may be absolute
            if Path(name).is_file() and not is_part(Path(name)):
                yield name, Path(_result_name(Path(name).name)), True
    else:
        yield source, Path(_result_name(path.name)), False


def _result_name(name: str) -> str:
    """A name that says in what container the result is: the input's, or one that takes anything."""
    path = Path(name)
    kept = path.suffix.lower() in {*FORMATS, *SUFFIXES}
    return path.name if kept else f"{path.stem}.mkv"


def _plain_name(source: str) -> str:
    """A file's name for what is no single file."""
    if source == STDIN:
        return "stdin.mkv"
    if is_url(source):
        return PurePosixPath(urlsplit(source).path).name or f"{urlsplit(source).hostname}.mkv"
    return (re.sub(r"[._-]*%0?\d*d", "", Path(source).stem) or "pictures") + ".mkv"


def _is_sequence(source: str) -> bool:
    return numbered(source) and not Path(source).exists()


def _needless(job: Job, resume: bool) -> str | None:
    """Why nothing is to be done, None if something is."""
    if resume and job.target.is_file():
        return f"{job.target} is there already."
    if job.found:
        with suppress(InputError):  # which comes again when it is opened
            if verify(Path(job.source)).synthesised:
                return "it is an output of this tool."
    return None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} can't be made ({error.strerror}).") from error
