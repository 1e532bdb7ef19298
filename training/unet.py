"""The network of the portrait profile: an encoder-decoder that works at half the crop's size.

Both its segmenter and its inpainter are one. Against the paper's networks: it sees the whole crop
at once (six scales, pooled context), so that a map has no holes where the cloth is plain and the
middle of a large mask is painted as well as its rim, at a third of the U-Net's arithmetic.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (32, 64, 128, 176, 208)  # at a half, a quarter ... of the crop's size


class HalfUNet(nn.Module):
    """(n, outputs, h, w) from (n, inputs, h, w); h and w multiples of 32.

    refined: a last layer at full size that sees the input again, for detail.
    """

    def __init__(
        self, inputs: int, outputs: int, widths: tuple[int, ...] = WIDTHS, refined: bool = False
    ) -> None:
        super().__init__()
        self.stem = _Layer(4 * inputs, widths[0])
        self.enter = nn.ModuleList(_Layer(i, o, 2) for i, o in pairwise(widths))
        self.down = nn.ModuleList(_Block(w) for w in widths)
        self.middle = nn.Sequential(*(_Block(widths[-1], d, pooled=True) for d in (1, 2, 1)))
        steps = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.merge = nn.ModuleList(_Layer(i + o, o) for i, o in steps)
        self.up = nn.ModuleList(_Block(o) for _, o in steps)
        made = 16 if refined else outputs
        self.head = nn.Conv2d(widths[0], 4 * made, 3, padding=1)
        self.refine = (
            nn.Sequential(
                nn.Conv2d(made + inputs, 16, 3, padding=1), nn.LeakyReLU(0.1),
                nn.Conv2d(16, outputs, 3, padding=1),
            ) if refined else None
        )  # fmt: skip

    def forward(self, given: Tensor) -> Tensor:
        x = self.down[0](self.stem(functional.pixel_unshuffle(given, 2)))
        skips = [x]
        for enter, block in zip(self.enter, self.down[1:], strict=True):
            x = block(enter(x))
            skips.append(x)
        x = self.middle(x)
        for merge, block, skip in zip(self.merge, self.up, skips[-2::-1], strict=True):
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(merge(torch.cat([x, skip], 1)))
        made: Tensor = functional.pixel_shuffle(self.head(x), 2)
        if self.refine is not None:
            made = self.refine(torch.cat([made, given], 1))
        return made


class _Layer(nn.Module):
    """Convolution, normalisation, activation."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(self.norm(self.conv(x)), 0.1)


class _Block(nn.Module):
    """Two layers beside the identity; `pooled` adds what the whole picture says."""

    def __init__(self, width: int, dilation: int = 1, pooled: bool = False) -> None:
        super().__init__()
        self.first = _Layer(width, width, dilation=dilation)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        nn.init.zeros_(self.norm.weight)  # begins as the identity
        self.context = nn.Linear(width, width) if pooled else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        if self.context is not None:
            y = y + self.context(y.mean((2, 3)))[:, :, None, None]
        out: Tensor = functional.leaky_relu(x + self.norm(self.second(y)), 0.1)
        return out
