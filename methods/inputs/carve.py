"""CARVE ("Focusing by Contrastive Attention", arXiv 2509.06461): look twice, cut out what the question is about, ask.

The model answers the question Q and a general request G about the picture. At each generated step t and in the layers
`first_layer` to `last_layer`, A_{l,t} is the attention from the newest position to the image tokens, averaged over heads. Then

    C_{l,t} = A^Q_{l,t} / (A^G_{l,t} + floor),     S = sum_t w_t sum_l C_{l,t},     w_t = t - t_start + 1,

steps paired by index up to the shorter answer. S is laid on the token grid and resized to the picture (bilinear), the
pixels with the highest `share` of S are kept, of their connected regions (4 neighbours) the `regions` with the largest
sum; everything else becomes black, the bounding box is cut out and enlarged (Lanczos) until it covers the old size.

| | layers | steps | floor | share | regions | asked again on |
|---|---|---|---|---|---|---|
| `mode: paper` | 20..25 | the last one (best reported) | 0.001 / tokens (ours) | 0.4 | at most 2 | the refined picture |
| `mode: release` | 20..25 | all, weighted | 1e-8 | 0.2 | at least 3 | the original, then the refined picture |

Options that are null take the mode's value. The layers are numbers, the same ones for models of 28, 32, 36 and 40 layers
(paper and release). Both probes end in `suffix`, the release's, behind a space (appended once): two answers of the same
form are compared, without it the quotient shows the form of the answer. The enlarged sides are rounded down, as in the
release; `mode: paper` keeps them from falling below the old size, which rounding may do by one pixel. The release's
second picture is out of distribution for LLaVA-1.5.

Ours: a model too shallow for layer 25 is watched at the same share of its depth. The paper does not give its floor, and
one near zero makes bright spots out of nothing, hence the floor in units of uniform attention. G is asked for as many
tokens as Q was answered with; more could not be paired. Where the processor cuts out the middle of a picture, S covers
that part only (and the refined picture is cut likewise); of tiles (LLaVA-NeXT) only the base image counts. Questions
about the whole scene or about what is absent lose evidence by design.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from harness.contracts.call import Ask, Call, Request
from harness.contracts.inputs import Draft
from harness.contracts.method import Method
from harness.contracts.tokens import Prompt
from harness.errors import UserError
from methods.inputs.grid import Box, base_grid, refuse, shown_box
from methods.weights.depth import InLayers, layer_number

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from harness.contracts.model import Model

GENERAL = "Write a general description of the image."
SUFFIX = " Answer the question using a single word or phrase."
LAYERS = (20, 25)  # published, whatever the model's depth
OF = 32  # layers of the model that a shallower one's shares of depth are taken from: 20 / 32 and 25 / 32
STEPS = {"paper": "end", "release": "full"}
SHARE = {"paper": 0.4, "release": 0.2}


@dataclass(frozen=True, kw_only=True)
class Tap(Method):
    """Watches: attention of the newest position to the image tokens `[n]`, head mean, by (step, layer)."""

    name = "tap"
    title = "Keeps the attention of the newest position to the image"
    paper = "own"
    prefill_is_dense = True
    options = {"within": "layers that are kept", "kept": "where they are kept", "grid": "the grid of image tokens"}

    within: tuple[int, ...]
    kept: dict[tuple[int, int], Any] = field(default_factory=dict, compare=False, repr=False)
    grid: list[tuple[int, int]] = field(default_factory=list, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Its lists stay lists: they are filled while it watches."""

    def layers(self, view: Model) -> list[int]:
        return list(self.within)

    def begin(self, request: Request) -> None:
        self.grid.append(base_grid(request.view, request.inputs.samples[0], "carve"))

    def probs(self, ctx: Call, a: Tensor) -> None:
        if ctx.layer in self.within and ctx.image is not None:
            self.kept[ctx.step, ctx.layer] = a[0, :, -1].mean(0)[ctx.image[0]].float().cpu()


@dataclass(frozen=True, kw_only=True)
class Carve(InLayers):
    """Contrastive attention, mask, crop, ask again."""

    name = "carve"
    title = "CARVE: crop to what contrastive attention points at"
    paper = "2509.06461"
    needs = frozenset({"images"})
    budget_unit = "share of the pixels that is kept"
    options = {
        "mode": "paper: ask on the refined picture; release: on the original and the refined one",
        "steps": "start, end or full: the first, the last, or all steps weighted by their index; null: as the mode",
        "share": "share of the pixels that is kept; 1 keeps the picture; null: as the mode",
        "regions": "regions that are kept at most (paper) or at least (release); null: 2 or 3",
        "general": "the request that is contrasted with",
        "suffix": "what both requests end in while they are watched",
        "max_new_tokens": "most tokens of the two answers that are watched",
    } | InLayers.options
    options["first_layer"] += "; null: 20, or the same share of the depth where there is no layer 25"
    options["last_layer"] += "; null: 25, likewise"

    mode: Literal["paper", "release"] = "paper"
    first_layer: float | None = None  # type: ignore[assignment]
    last_layer: float | None = None  # type: ignore[assignment]
    steps: Literal["start", "end", "full"] | None = None
    share: float | None = None
    regions: int | None = None
    general: str = GENERAL
    suffix: str = SUFFIX
    max_new_tokens: int = 32

    def validate(self) -> None:
        self.require(self.mode in STEPS, "mode", "it is 'paper' or 'release'")
        super().validate()
        self.require(self.steps in (None, "start", "end", "full"), "steps", "it is 'start', 'end', 'full' or null")
        self.require(self.share is None or 0 < self.share <= 1, "share", "it is a share above 0, at most 1")
        self.require(self.regions is None or self.regions >= 1, "regions", "at least one region is kept")
        self.require(self.max_new_tokens >= 1, "max_new_tokens", "at least one step is watched")

    def check(self, view: Model) -> None:
        super().check(view)
        refuse(view, self.name, "Queries")

    def span(self, n_layers: int) -> range:
        """The layers that are watched."""
        published = [layer if n_layers > LAYERS[1] else layer / OF for layer in LAYERS]
        given = (self.first_layer, self.last_layer)
        first, last = (p if value is None else value for p, value in zip(published, given, strict=True))
        return range(layer_number(first, n_layers), layer_number(last, n_layers) + 1)

    def layers(self, view: Model) -> list[int]:
        return []  # the picture is changed, no layer is

    def transform(self, view: Model, draft: Draft, ask: Ask) -> Draft:
        if len(draft.images) != 1:
            raise UserError(f"Method 'carve' works on one picture, and example '{draft.id}' has {len(draft.images)}.")
        picture = draft.images[0]
        refined = self.refine(picture, self.focus(view, draft, ask))
        return replace(draft, images=(refined,) if self.mode == "paper" else (picture, refined), image_key="")

    def focus(self, view: Model, draft: Draft, ask: Ask) -> Any:
        """S `[H, W]` (float64) in the pixels of the draft's picture; -inf where the model does not look."""
        asked = last_said(draft.prompt, lambda text: ending_in(text, self.suffix))
        general = last_said(draft.prompt, lambda _: self.general + self.suffix)
        within = tuple(self.span(view.n_layers))
        watched = []
        n = 1 if self.steps == "start" else self.max_new_tokens
        for prompt in (asked, general):
            tap = Tap(within=within)
            ask(replace(draft, prompt=prompt), n, tap)
            watched.append(tap)
            n = 1 + max(step for step, _ in tap.kept)
        (h, w), tokens = watched[0].grid[0], watched[0].grid[0][0] * watched[0].grid[0][1]
        least = 1e-8 if self.mode == "release" else 1e-3 / tokens
        steps = self.steps or STEPS[self.mode]
        maps = [[[tap.kept[t, i][:tokens] for i in within] for t in range(n)] for tap in watched]
        fused = fuse(maps[0], maps[1], steps, least).reshape(h, w)
        return spread(fused, draft.images[0].size, shown_box(view, draft.images[0].size))

    def refine(self, picture: Image, scores: Any) -> Image:
        """The picture, cut to the regions with the highest scores `[H, W]`."""
        share = self.share if self.share is not None else SHARE[self.mode]
        kept = regions(scores, share, self.regions, at_least=self.mode == "release")
        return cut(picture, kept, covers=self.mode == "paper")


def ending_in(text: str, suffix: str) -> str:
    """`text` with `suffix` behind it, once: a question that ends in its words already, after a space or on a line of its
    own, keeps one of the two.
    """
    bare = text.removesuffix(suffix.strip())
    return (text if bare == text else bare.rstrip()) + suffix


def last_said(prompt: Prompt, change: Any) -> Prompt:
    """The prompt with the text of its last user message changed."""
    if isinstance(prompt, str):
        return change(prompt)
    last = max(i for i, message in enumerate(prompt) if message["role"] == "user")
    return tuple(
        {**message, "content": change(message["content"])} if i == last else message for i, message in enumerate(prompt)
    )


def fuse(question: Sequence[Sequence[Any]], general: Sequence[Sequence[Any]], steps: str, least: float) -> Any:
    """S on the tokens `[n]` (float64 array), from attention by step and layer (`[n]` each) to two requests."""
    import numpy as np

    q, g = np.asarray(np.stack([np.stack(s) for s in question]), np.float64), np.stack([np.stack(s) for s in general])
    contrast = (q / (g + least)).sum(1)  # [T, n]
    weights = (
        np.arange(1, len(contrast) + 1) if steps == "full" else np.eye(len(contrast))[0 if steps == "start" else -1]
    )
    return weights @ contrast


def spread(scores: Any, size: tuple[int, int], box: Box) -> Any:
    """Scores of a token grid `[h, w]` resized to the part `box` of a picture of `size` (W, H): `[H, W]`, -inf outside."""
    import numpy as np
    from PIL import Image

    left, top, right, bottom = box
    wide = Image.fromarray(scores.astype(np.float32)).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    whole = np.full((size[1], size[0]), -np.inf)
    inside = slice(max(top, 0), min(bottom, size[1])), slice(max(left, 0), min(right, size[0]))
    whole[inside] = np.asarray(wide, np.float64)[
        tuple(slice(s.start - o, s.stop - o) for s, o in zip(inside, (top, left), strict=True))
    ]
    return whole


def regions(scores: Any, share: float, most: int | None, at_least: bool = False) -> Any:
    """bool `[H, W]`: the regions of the highest `share` of the pixels that the model is shown (those with a finite score)
    that have the largest sums of scores.
    """
    import numpy as np
    from scipy.ndimage import label, sum_labels

    n = max(1, round(share * (scores.size if share == 1 else np.isfinite(scores).sum())))
    labels, found = label(scores >= np.partition(scores, scores.size - n, axis=None)[scores.size - n])
    wanted = max(most or 3, int(found * share)) if at_least else most or 2
    sums = sum_labels(scores, labels, np.arange(1, found + 1))
    return np.isin(labels, 1 + np.argsort(-sums, kind="stable")[:wanted])


def cut(picture: Image, kept: Any, covers: bool = True) -> Image:
    """The bounding box of the kept pixels, the others black, enlarged until it covers the picture's size; without `covers`
    a side may end one pixel short of it, where the release's rounding down does.
    """
    import numpy as np
    from PIL import Image

    rows, columns = np.flatnonzero(kept.any(1)), np.flatnonzero(kept.any(0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    masked = Image.fromarray(np.asarray(picture.convert("RGB")) * kept[..., None].astype(np.uint8)).crop(box)
    factor = max(picture.width / masked.width, picture.height / masked.height)
    size = (int(masked.width * factor), int(masked.height * factor))
    size = (max(picture.width, size[0]), max(picture.height, size[1])) if covers else size
    return masked.resize(size, Image.Resampling.LANCZOS) if size != masked.size else masked
