"""How long an engine takes in each precision, one call of each in turn, on OpenVINO and the CPU.

    python -m benchmarks.precision
    ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI python -m benchmarks.precision --precisions fp32 int8

The second line has OpenVINO's kernels do with what an older CPU has.
"""

import argparse
import time
from contextlib import ExitStack, closing
from statistics import median

import numpy as np

from stream_unmask.backends import Engine, Tensor, open_engine
from stream_unmask.models.profile import PROFILES

SPECS = {spec.name: spec for p in PROFILES.values() for spec in (p.segmenter, p.inpainter)}


def milliseconds(engine: Engine, given: Tensor) -> float:
    """How long one call takes."""
    begin = time.perf_counter()
    engine(given)
    return 1000 * (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description="Times an engine in several precisions.")
    parser.add_argument("--engine", choices=SPECS, default="portrait_segmenter")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "int8", "bf16"])
    parser.add_argument("--faces", type=int, default=1, help="in one call")
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    spec = SPECS[args.engine]
    shape = args.faces, *(side or 1 for side in spec.inputs[0].shape[1:])
    given = np.random.default_rng(0).random(shape, np.float32)
    with ExitStack() as stack:
        engines = [
            stack.enter_context(closing(open_engine(spec, "openvino", "cpu", precision=each)))
            for each in args.precisions
        ]
        rounds = [[milliseconds(e, given) for e in engines] for _ in range(args.rounds + 1)]
        columns = list(zip(*rounds[1:], strict=True))  # the first call makes ready
        slowest = median(columns[0])
        print(f"{spec.name}, {args.faces} at once, median and least of {args.rounds} calls")
        for engine, column in zip(engines, columns, strict=True):
            usual, least = median(column), min(column)
            ratio = f"{slowest / usual:.1f} and {min(columns[0]) / least:.1f} times as fast"
            print(f"{engine.device:20} {usual:7.1f} ms {least:7.1f} ms  {ratio}")


if __name__ == "__main__":
    main()
