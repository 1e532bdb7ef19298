"""The stream, from frames to frames: find -> restore -> composite."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from typing import TypeVar

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from stream_unmask.backends import Engine, EngineSpec, open_engine
from stream_unmask.backends.artefacts import engine_path
from stream_unmask.faces.crop import cut, paste
from stream_unmask.faces.detector import FACE_DETECTION, Detector
from stream_unmask.faces.landmarks import FACE_LANDMARK, Landmarker, eye_region, turned
from stream_unmask.faces.lookback import looked_back
from stream_unmask.faces.smoothing import steadied
from stream_unmask.faces.tracker import Tracker
from stream_unmask.label import label_patch
from stream_unmask.models.appearance import Appearance
from stream_unmask.models.enhancer import Enhancer
from stream_unmask.models.inpainter import Inpainter
from stream_unmask.models.profile import PROFILES, Profile
from stream_unmask.models.segmenter import Segmenter
from stream_unmask.options import Options
from stream_unmask.report import Clock
from stream_unmask.steady import Glance, SteadyFill, SteadyMaps, SteadyMask, Wish, worn
from stream_unmask.types import Crop, Face, Image, Mask
from stream_unmask.unmask import Networks, finish, paint, widen
from stream_unmask.video.frame import (
    Frame,
    Patch,
    orientation,
    sparse_luma,
    to_rgb,
    with_patches,
)

T = TypeVar("T")
Seen = tuple[Frame, Image, tuple[Face, ...]]

# Times as long it takes at the most to the next detection, while nothing is new of those in sight,
# and while nobody is: where who turns up is only seen then, and where frames wait to have it back.
_IN_SIGHT, _ALONE = (2, 3), (1, 6)
_FADE = (0.6, 0.75)  # how far a head is turned when its fill begins to fade out, and has done
_SPARED_EDGE = 0.03  # sigma of the soft edge around eyes that stay, in units
_UNSEEN = np.zeros((0, 0, 3), np.uint8)
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
    """The engines, open until the `with` block ends; BackendError if one can't be opened.

    So long NumPy's BLAS has one thread: others would wait for the little there is to do by
    spinning, and take the processors from the networks.
    """
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(1, user_api="blas"))

        def engine(spec: EngineSpec) -> Engine:
            opened = open_engine(spec, options.backend, options.device, precision=options.precision)
            opened.batch = min(opened.batch, options.batch)
            stack.callback(opened.close)
            return opened

        profile = PROFILES[options.profile]
        segmenter = engine(profile.segmenter)
        inpainter = Inpainter(engine(profile.inpainter), appearance(profile))
        enhancer = Enhancer(engine(profile.enhancer)) if profile.enhancer else None
        networks = Networks(profile, Segmenter(segmenter), inpainter, enhancer)
        detector = Detector(engine(FACE_DETECTION))
        yield Parts(detector, Landmarker(engine(FACE_LANDMARK)), networks, segmenter.device)


def appearance(profile: Profile) -> Appearance | None:
    """What a profile's inpainter works from, if it does from anything."""
    return Appearance.load(engine_path(profile.appearance)) if profile.appearance else None


def present(image: Image, parts: Parts) -> tuple[Face, ...]:
    """The faces of a single picture (H, W, 3) that are surely some."""
    found = parts.landmarker(image, parts.detector(image))
    return tuple(face for face in vouched(image, found, parts.networks) if face.sure)


def vouched(image: Image, faces: tuple[Face, ...], networks: Networks) -> tuple[Face, ...]:
    """The same faces, and sure also those that wear a mask.

    A mask takes away what detector and landmarks know faces by. The segmenter looks for nothing
    else, and hesitates where what they took for a face is none: the less sure they are, the sharper
    its map must be. Of 86 doubtful faces in photographs on which it saw a mask, that leaves 61, all
    masked people, and of 23 cups, lamps and galaxies none.
    """
    profile = networks.profile
    doubtful = [face for face in faces if not face.sure]
    if not doubtful:
        return faces
    looks = [cut(image, face, profile.eyes, profile.size).image for face in doubtful]
    both = zip(networks.segmenter(looks), doubtful, strict=True)
    wearing = iter([worn(maps, profile, blurred=face.score) is not None for maps, face in both])
    return tuple(face if face.sure else replace(face, sure=next(wearing)) for face in faces)


def find(frames: Iterable[Frame], parts: Parts, options: Options) -> Iterator[Scene]:
    """Each frame with the crops of its faces, followed from frame to frame and held steady."""
    back, every = options.waits.back, options.every
    rarely, alone = (
        max(least * every, min(most * every, back + 1)) if options.smooth else every
        for least, most in (_IN_SIGHT, _ALONE)
    )
    vouch = partial(vouched, networks=parts.networks)
    tracker = Tracker(parts.detector, parts.landmarker, every, rarely, alone, vouch)
    profile = parts.networks.profile
    seen: Iterable[Seen] = (_seen(frame, tracker) for frame in frames)
    if back:
        seen = looked_back(seen, parts.landmarker, back, lambda f: to_rgb(f.picture))
    for frame, image, faces in steadied(seen) if options.smooth else seen:
        yield Scene(frame, tuple(cut(image, f, profile.eyes, profile.size) for f in faces))


def _seen(frame: Frame, tracker: Tracker) -> Seen:
    """The frame, its picture and the faces in it; an empty picture where nobody has to look."""
    luma = sparse_luma(frame.picture)
    if luma is not None and tracker.idle(luma):
        return frame, _UNSEEN, ()
    image = to_rgb(frame.picture)
    return frame, image, tracker(image)


def restore(
    scenes: Iterable[Scene], networks: Networks, options: Options, clock: Clock
) -> Iterator[Scene]:
    """Each scene, in order, with masked faces repainted."""
    mapped = segment(scenes, networks, options, clock)
    decided = decide(mapped, networks.profile, options, clock)
    return repaint(decided, networks, options, clock)


def segment(
    scenes: Iterable[Scene], networks: Networks, options: Options, clock: Clock
) -> Iterator[Scene]:
    """Each scene with the maps of its crops; faces of several frames share a batch."""
    people: dict[int | None, SteadyMaps] = {}

    def ask(crop: Crop) -> tuple[SteadyMaps, bool]:
        person = _known(people, crop.track, lambda: SteadyMaps(networks.profile))
        return person, not options.smooth or person.asks(crop)

    def run(
        frames: list[Frame], pairs: list[tuple[Crop, tuple[SteadyMaps, bool]]]
    ) -> Iterator[Crop]:
        with clock("segment", *frames):
            found = iter(segmented([crop for crop, (_, new) in pairs if new], networks))
        return (
            replace(crop, maps=person(next(found).maps if new else None))
            for crop, (person, new) in pairs
        )

    return _in_batches(scenes, options, clock, ask, lambda asked: asked[1], run)


def decide(
    scenes: Iterable[Scene], profile: Profile, options: Options, clock: Clock
) -> Iterator[Scene]:
    """Each scene with the masks of those who wear one, by what is seen in the next ones, too."""
    people: dict[int | None, SteadyMask] = {}
    waiting: deque[tuple[Scene, list[Glance]]] = deque()
    last: dict[int | None, Glance] = {}
    ahead = options.waits.ahead

    def first() -> Scene:
        scene, glances = waiting.popleft()
        with clock("steady", scene.frame):
            crops = []
            for glance in glances:
                track = glance.crop.track
                person = _known(people, track, lambda: SteadyMask(profile, options.smooth))
                coming = _coming(track, (later for _, later in waiting))
                crops.append(masked(glance.crop, person(glance, coming), profile))
            return replace(scene, crops=tuple(crops))

    for scene in scenes:
        with clock("steady", scene.frame):
            glances = [Glance.at(crop, profile, last.get(crop.track)) for crop in scene.crops]
            last = {glance.crop.track: glance for glance in glances}
            waiting.append((scene, glances))
        if len(waiting) > ahead:
            yield first()
    while waiting:
        yield first()


def _coming(track: int | None, later: Iterable[list[Glance]]) -> list[Glance]:
    """A track's glances in the next frames, up to the first in which it is not seen."""
    found = (next((g for g in glances if g.crop.track == track), None) for glances in later)
    return list(takewhile(lambda glance: glance is not None, found))  # type: ignore[arg-type]


def repaint(
    scenes: Iterable[Scene], networks: Networks, options: Options, clock: Clock
) -> Iterator[Scene]:
    """Each scene with masked faces repainted; faces of several frames share a batch."""
    people: dict[int | None, SteadyFill] = {}

    def ask(crop: Crop) -> tuple[SteadyFill, Wish] | None:
        if crop.mask is None:
            people.pop(crop.track, None)  # a mask that comes back is painted anew
            return None
        if not options.smooth:
            return SteadyFill(), Wish(0, 1)
        person = _known(people, crop.track, SteadyFill)
        return person, person.asks(crop)

    def new(asked: tuple[SteadyFill, Wish] | None) -> bool:
        return asked is not None and asked[1].new

    def run(
        frames: list[Frame], pairs: list[tuple[Crop, tuple[SteadyFill, Wish] | None]]
    ) -> Iterator[Crop]:
        with clock("repaint", *frames):
            fresh = iter(painted([crop for crop, asked in pairs if new(asked)], networks))
        with clock("steady", *frames):
            fills = [
                None if asked is None else asked[0](next(fresh) if new(asked) else None, asked[1])
                for _, asked in pairs
            ]
            return map(faded, merged([crop for crop, _ in pairs], fills, networks.profile))

    return _in_batches(scenes, options, clock, ask, new, run)


def _in_batches(
    scenes: Iterable[Scene],
    options: Options,
    clock: Clock,
    ask: Callable[[Crop], T],
    new: Callable[[T], bool],
    run: Callable[[list[Frame], list[tuple[Crop, T]]], Iterator[Crop]],
) -> Iterator[Scene]:
    """Each scene with what a network makes of its crops; those of several frames share a batch.

    ask(crop): what is wanted of the network. new: whether it has to run for that. run: frames and
    their crops, each with what is wanted, to what the crops become.
    """

    def asked(scene: Scene) -> tuple[Scene, list[tuple[Crop, T]]]:
        with clock("steady", scene.frame):
            return scene, [(crop, ask(crop)) for crop in scene.crops]

    def load(item: tuple[Scene, list[tuple[Crop, T]]]) -> int:
        return sum(new(wanted) for _, wanted in item[1])

    for waiting in gather(map(asked, scenes), options, load):
        frames = [scene.frame for scene, _ in waiting]
        rest = run(frames, [pair for _, pairs in waiting for pair in pairs])
        for scene, pairs in waiting:
            yield replace(scene, crops=tuple(next(rest) for _ in pairs))


def segmented(crops: Sequence[Crop], networks: Networks) -> list[Crop]:
    """The crops with what the segmenter says of them."""
    maps = networks.segmenter([crop.image for crop in crops]) if crops else []
    return [replace(crop, maps=found) for crop, found in zip(crops, maps, strict=True)]


def masked(crop: Crop, cloth: Mask | None, profile: Profile) -> Crop:
    """A crop with the mask to repaint by, from what is worn (h, w), or without one.

    What the segmenter takes for a mask around the eyes, fringes in coloured light, stays.
    """
    if cloth is None:
        return replace(crop, maps=None, mask=None)
    mask = widen(cloth, profile)
    if crop.mesh is not None:
        height, width = mask.shape
        eyes = eye_region(crop.mesh, (height, width))
        mask = mask * (1 - cv2.GaussianBlur(eyes, (0, 0), _SPARED_EDGE * profile.unit))
    return replace(crop, maps=None, mask=mask)


def faded(crop: Crop) -> Crop:
    """A repainted crop, of which less is shown the more the head turns to a profile, where no mesh
    can be trusted."""
    if crop.mask is None or crop.mesh is None:
        return crop
    low, high = _FADE
    shown = (high - turned(crop.mesh)) / (high - low)
    if shown <= 0:
        return replace(crop, mask=np.zeros_like(crop.mask))
    return crop if shown >= 1 else replace(crop, mask=crop.mask * np.float32(shown))


def painted(crops: Sequence[Crop], networks: Networks) -> list[Image | None]:
    """What is painted for each crop with a mask, None for those without."""
    chosen = [crop for crop in crops if crop.mask is not None]
    images, masks, meshes = ([getattr(c, n) for c in chosen] for n in ("image", "mask", "mesh"))
    fills = iter(paint(images, masks, meshes, networks))
    return [None if crop.mask is None else next(fills) for crop in crops]


def merged(crops: Sequence[Crop], fills: Sequence[Image | None], profile: Profile) -> list[Crop]:
    """The crops with what was painted where their mask is."""

    def one(crop: Crop, fill: Image | None) -> Crop:
        if fill is None or crop.mask is None:
            return crop
        return replace(crop, image=finish(fill, crop.image, crop.mask, profile))

    return [one(*pair) for pair in zip(crops, fills, strict=True)]


def _known(people: dict[int | None, T], track: int | None, new: Callable[[], T]) -> T:
    """What is remembered of a track, now the one seen last; those seen longest ago are dropped."""
    person = people.pop(track, None) or new()
    people[track] = person
    for forgotten in list(people)[:-_REMEMBERED]:
        del people[forgotten]
    return person


def gather(frames: Iterable[T], options: Options, load: Callable[[T], int]) -> Iterator[list[T]]:
    """What is known of frames in lists that are worth a batch or as many as may wait; the last may
    be shorter.

    load(frame): how many faces of it a network is to run on.
    """
    waiting: list[T] = []
    window = options.waits.window
    for frame in frames:
        waiting.append(frame)
        if sum(map(load, waiting)) >= options.batch or len(waiting) >= window:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def composite(scenes: Iterable[Scene], label: bool, clock: Clock) -> Iterator[Composed]:
    """Each scene's frame with its repainted faces pasted back; without any, the frame itself."""
    for scene in scenes:
        with clock("composite", scene.frame):
            shape = upright_shape(scene.frame)
            patches = pasted(scene.crops, shape)
            labels = (label_patch(shape),) if label and patches else ()
            picture = with_patches(scene.frame.picture, (*patches, *labels))
            frame = replace(scene.frame, picture=picture)
        clock.done(scene.frame)
        yield Composed(frame, scene, patches)


def unmask_frames(
    frames: Iterable[Frame], parts: Parts, options: Options, clock: Clock | None = None
) -> Iterator[Composed]:
    """The frames with masked faces repainted: no file and no thread is touched here."""
    clock = clock or Clock()
    return finished(found(frames, parts, options, clock), parts, options, clock)


def found(frames: Iterable[Frame], parts: Parts, options: Options, clock: Clock) -> Iterator[Scene]:
    """The first half of `unmask_frames`, which may run in a thread of its own."""
    return clock.each("find", find(frames, parts, options))


def finished(
    scenes: Iterable[Scene], parts: Parts, options: Options, clock: Clock
) -> Iterator[Composed]:
    """The second half of `unmask_frames`."""
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
