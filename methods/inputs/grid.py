"""Where the tokens of a picture lie on it, for methods that need to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.contracts.inputs import Sample
    from harness.contracts.model import Model

Box = tuple[int, int, int, int]  # left, top, right, bottom


def refuse(view: Model, method: str, *kinds: str) -> None:
    """`UserError` if the model lays out its pictures in one of `kinds` (`Sight.kind` of its family)."""
    reasons = {
        "Queries": "its image tokens are queries that belong to no place on the picture",
        "Tiles": "it reads a picture as a whole and in tiles, so its image tokens form no single grid",
    }
    kind = layout(view)
    if kind in kinds:
        raise UserError(
            f"Method '{method}' cannot serve model '{view.name}': {reasons[kind]}. It works on LLaVA-1.5 and Qwen2-VL."
        )


def layout(view: Model) -> str:
    """How the model's family lays out pictures: `Patches`, `Tiles`, `Merged`, `Queries`."""
    return view.vision.layout if view.vision is not None else ""


def base_grid(view: Model, sample: Sample, method: str) -> tuple[int, int]:
    """(rows, columns) of a sample's only picture; these tokens come first. `UserError` if there are more pictures."""
    assert view.vision is not None
    grids = view.vision.grid(sample.tensors)
    if grids is None or len(grids) != 1:
        found = "an unknown number of" if grids is None else len(grids)
        raise UserError(
            f"Method '{method}' works on one picture per prompt, on a grid; '{sample.draft.id}' has {found}."
        )
    return grids[0]


def shown_box(view: Model, size: tuple[int, int]) -> Box:
    """The part of a picture of `size` (width, height) that the token grid covers; larger than the picture where it is
    padded.
    """
    processor = getattr(view.vision, "image_processor", None)
    if layout(view) != "Patches" or processor is None:
        return (0, 0, *size)
    width, height = size
    if getattr(processor, "do_pad", False):  # to a square, the picture in the middle
        side = max(size)
        width, height = side, side
    edge = (getattr(processor, "size", None) or {}).get("shortest_edge")
    crop = getattr(processor, "crop_size", None) or {}
    if getattr(processor, "do_center_crop", False) and edge and crop:
        scale = min(width, height) / edge
        width, height = min(width, round(crop["width"] * scale)), min(height, round(crop["height"] * scale))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return (left, top, left + width, top + height)
