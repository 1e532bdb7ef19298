"""The stream, from frames to frames: find -> restore -> composite."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np

from stream_unmask.backends import Engine, EngineSpec, open_engine
from stream_unmask.faces.crop import cut, paste
from stream_unmask.faces.detector import FULL_RANGE, SHORT_RANGE, Detector
from stream_unmask.faces.landmarks import FACE_LANDMARK, Landmarker
from stream_unmask.faces.tracker import Tracker
from stream_unmask.label import label_patch
from stream_unmask.models.enhancer import Enhancer
from stream_unmask.models.inpainter import Inpainter
from stream_unmask.models.profile import PROFILES
from stream_unmask.models.segmenter import Segmenter
from stream_unmask.options import Options
from stream_unmask.report import Clock
from stream_unmask.steady import SteadyMask
from stream_unmask.types import Crop, Image, Mask
from stream_unmask.unmask import Networks, repaint, widen
from stream_unmask.video.frame import Frame, Patch, orientation, to_rgb, with_patches

_REMEMBERED = 64  # people whose last map is kept: memory must not grow with the video


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that runs an engine, opened once and shared by the runs of a process."""

    detector: Detector
    landmarker: Landmarker
    networks: Networks
    backend: str


@dataclass(frozen=True, slots=True)
class Scene:
    """A frame and the upright faces in it; a crop without a mask is left as it is."""

    frame: Frame
    crops: tuple[Crop, ...]


@dataclass(frozen=True, slots=True)
class Composed:
    """A finished frame, and what was laid on the original to get it."""

    frame: Frame
    scene: Scene
    patches: tuple[Patch, ...]

    def mask(self) -> Mask:
        """The map (H, W), upright, of what was repainted: 0 as decoded .. 1 invented."""
        return whole_mask(upright_shape(self.scene.frame), self.patches)


@contextmanager
def open_parts(options: Options) -> Iterator[Parts]:
    """The engines, open until the `with` block ends; BackendError if one can't be opened."""
    with ExitStack() as stack:

        def engine(spec: EngineSpec) -> Engine:
            opened = open_engine(spec, options.backend, options.device)
            stack.callback(opened.close)
            return opened

        profile = PROFILES[options.profile]
        segmenter = engine(profile.segmenter)
        inpainter = Inpainter(engine(profile.inpainter), profile.guided)
        enhancer = Enhancer(engine(profile.enhancer)) if profile.enhancer else None
        networks = Networks(profile, Segmenter(segmenter), inpainter, enhancer)
        detector = Detector(engine(SHORT_RANGE), engine(FULL_RANGE))
        yield Parts(detector, Landmarker(engine(FACE_LANDMARK)), networks, segmenter.device)


def find(frames: Iterable[Frame], parts: Parts, options: Options) -> Iterator[Scene]:
    """Each frame with the crops of its faces, followed from frame to frame."""
    tracker, profile = (
        Tracker(parts.detector, parts.landmarker, options.every),
        parts.networks.profile,
    )
    for frame in frames:
        image = to_rgb(frame.picture)
        crops = (cut(image, f, profile.eyes, profile.size) for f in tracker(image))
        yield Scene(frame, tuple(crops))


def restore(
    scenes: Iterable[Scene], networks: Networks, options: Options, clock: Clock
) -> Iterator[Scene]:
    """Each scene, in order, with masked faces repainted; faces of several frames share a batch."""
    people: dict[int | None, SteadyMask] = {}
    for waiting in gather(scenes, options.batch, options.window):
        crops = [crop for scene in waiting for crop in scene.crops]
        rest = iter(restored(crops, people, networks, options, clock))
        for forgotten in list(people)[:-_REMEMBERED]:
            del people[forgotten]
        for scene in waiting:
            yield replace(scene, crops=tuple(next(rest) for _ in scene.crops))


def restored(
    crops: Sequence[Crop],
    people: dict[int | None, SteadyMask],
    networks: Networks,
    options: Options,
    clock: Clock,
) -> list[Crop]:
    """The crops, in order, those that wear a mask repainted and with the map of where.

    people: by track, what is remembered of them; brought up to date, those seen last at its end.
    """
    done, profile = list(crops), networks.profile
    with clock("segment"):
        maps = networks.segmenter([crop.image for crop in crops]) if crops else []
    masked, wide = [], []
    with clock("steady"):
        for index, (crop, found) in enumerate(zip(crops, maps, strict=True)):
            person = people.pop(crop.track, None) or SteadyMask(profile, options.smooth)
            people[crop.track] = person
            if (fabric := person(found)) is not None:
                masked.append(index)
                wide.append(widen(fabric, profile))
    with clock("repaint"):
        chosen = [crops[index] for index in masked]
        meshes = [crop.mesh for crop in chosen]
        images = repaint([crop.image for crop in chosen], wide, meshes, networks)
        for index, image, mask in zip(masked, images, wide, strict=True):
            done[index] = replace(crops[index], image=image, mask=mask)
    return done


def gather(scenes: Iterable[Scene], batch: int, window: int) -> Iterator[list[Scene]]:
    """Scenes in lists with at least `batch` crops or `window` frames; the last may be shorter."""
    waiting: list[Scene] = []
    for scene in scenes:
        waiting.append(scene)
        if sum(len(s.crops) for s in waiting) >= batch or len(waiting) >= window:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def composite(scenes: Iterable[Scene], label: bool, clock: Clock) -> Iterator[Composed]:
    """Each scene's frame with its repainted faces pasted back; without any, the frame itself."""
    for scene in scenes:
        with clock("composite"):
            shape = upright_shape(scene.frame)
            patches = pasted(scene.crops, shape)
            labels = (label_patch(shape),) if label and patches else ()
            picture = with_patches(scene.frame.picture, (*patches, *labels))
            frame = replace(scene.frame, picture=picture)
        yield Composed(frame, scene, patches)


def unmask_frames(
    frames: Iterable[Frame], parts: Parts, options: Options, clock: Clock | None = None
) -> Iterator[Composed]:
    """The frames with masked faces repainted: no file and no thread is touched here."""
    clock = clock or Clock()
    scenes = clock.each("find", find(frames, parts, options))
    return composite(restore(scenes, parts.networks, options, clock), options.label, clock)


def pasted(crops: Iterable[Crop], shape: tuple[int, int]) -> tuple[Patch, ...]:
    """What repainted crops lay on a picture of (height, width)."""
    return tuple(Patch(*found) for crop in crops if (found := paste(crop, shape)) is not None)


def laid(image: Image, patches: Iterable[Patch]) -> Image:
    """A copy of a picture (H, W, 3) with patches blended in; frames take `with_patches`."""
    result = image.copy()
    for patch in patches:
        height, width = patch.mask.shape
        area = result[patch.y : patch.y + height, patch.x : patch.x + width]
        blend = area + (patch.image.astype(np.float32) - area) * patch.mask[..., None]
        area[:] = np.rint(blend)
    return result


def upright_shape(frame: Frame) -> tuple[int, int]:
    """(height, width) of a frame as the viewer sees it."""
    height, width = frame.picture.height, frame.picture.width
    return (width, height) if orientation(frame.picture).transposed else (height, width)


def whole_mask(shape: tuple[int, int], patches: Iterable[Patch]) -> Mask:
    """The map (H, W) of what patches repaint in a picture: the larger where they overlap."""
    whole = np.zeros(shape, np.float32)
    for patch in patches:
        height, width = patch.mask.shape
        area = whole[patch.y : patch.y + height, patch.x : patch.x + width]
        np.maximum(area, patch.mask, out=area)
    return whole
