"""The progress bar of a drawing: its phase, and the steps of all pictures."""

from types import TracebackType
from typing import Self

from tqdm import tqdm

from uno_jax.families.progress import Phase, Progress, Watch
from uno_jax.support.words import counted


class StepBar:
    """A bar of tqdm over `pictures` pictures that are still to be drawn."""

    def __init__(self, pictures: int) -> None:
        self._bar = tqdm(unit="step", dynamic_ncols=True)
        self._left = pictures

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    def tell(self, phase: Phase) -> None:
        """Shows what is being done."""
        left = f", {counted(self._left, 'picture')} to go" if self._left else ""
        self._bar.set_description_str(f"{phase}{left}")

    def watch(self, pictures: int) -> Watch:
        """What a batch of so many pictures is to be told to. The first that is heard of a batch's steps gives
        the total, as if the other pictures had as many.
        """
        begun = self._bar.n

        def hear(progress: Progress) -> None:
            if progress.steps:
                self._bar.total = begun + self._left * progress.steps
                self._bar.update(begun + pictures * progress.step - self._bar.n)
            self.tell(progress.phase)

        return hear

    def drawn(self, pictures: int) -> None:
        """Pictures of a batch are written."""
        self._left -= pictures
        if not self._left:
            self.tell("drawing")

    def write(self, line: str) -> None:
        """Prints a line above the bar."""
        self._bar.write(line)
