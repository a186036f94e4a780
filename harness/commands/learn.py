"""Training a network by itself, without a cell that needs it: for the programs that make models (`harness.cli.learn`)."""

from __future__ import annotations

from pathlib import Path

from harness.contracts.lesson import LOG, Learned
from harness.contracts.recipe import Recipe
from harness.errors import UserError
from harness.plan.training import training
from harness.records.learned import lesson_id, obtain, place
from harness.terminal.printing import Terminal


def learn(recipe: Recipe, results: Path) -> tuple[Learned, Path]:
    """What the recipe learned, and its log: read if it was learned before, else trained now. The terminal shows how far it is."""
    if type(recipe).__module__ == "__main__":
        raise UserError(
            f"{type(recipe).__name__} stands in the file that was started, so its source has no name. Put it in a module and import it."
        )
    console = Terminal(stderr=True)
    with console.status(recipe.label) as status:

        def note(words: str) -> None:
            status.update(words) if console.is_terminal else console.print(words)

        lesson = training(recipe, results, note)
        learned = obtain(lesson, results, note)
    folder = place(results, lesson_id(lesson))
    console.print(f"{recipe.label}: {folder}", soft_wrap=True)
    return learned, folder / LOG
