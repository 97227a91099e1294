"""Data: images by their hub name, from a local mirror or the hub."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from kempeframe import Data, component, field
from kempeframe_standard.hub import NAME, Images, load_images
from kempeframe_standard.pool import Indices, Pool

if TYPE_CHECKING:
    from kempeframe.runs import Run
    from kempeframe.task import Examples, Task


@component
class HubImages(Data):
    """Images of a data set on the Hugging Face hub, by name: "ylecun/mnist", "zalando-datasets/fashion_mnist", ...

    Read from the directory that KEMPEFRAME_HUB names (laid out as the hub is: parquet files with encoded images), else
    from the hub through the extra `kempeframe-standard[hub]`; decoded once and kept in the store's directory.
    Pixels are in [0, 1], inputs (channels, height, width). Training images are taken in the order of one permutation
    of the training part, the trial's: a larger n_train holds a smaller one, and [skip, skip + n_train) that do not
    overlap share no image. Test images come from the test part. The split "population" is the whole training part.
    """

    dataset: str = field("ylecun/mnist", "name on the hub, OWNER/NAME")
    n_train: int = field(1000, "training images", ge=1)
    n_validation: int = field(0, "validation images, those after the training images; 0: no such split", ge=0)
    n_test: int = field(1000, "test images", ge=1)
    skip: int = field(0, "images of the trial's permutation to leave out before the first", ge=0)
    pool: Literal[1, 2] = field(1, "average over squares of so many pixels: 2 turns 28 x 28 into 14 x 14")
    centre: bool = field(False, "subtract the mean image of the whole training part")
    unit_variance: bool = field(False, "divide by the standard deviation of all pixels of the training part")
    classes: tuple[int, ...] = field(
        (), "labels to keep, renumbered from 0 in this order; none given: all", ge=0
    )
    augmentation: tuple[Literal["crop", "flip"], ...] = field(
        (), "of training batches: random crops after padding by 4 pixels, and left-right flips of half the images"
    )
    dtype: Literal["float32", "float64"] = field("float32", "of the inputs")

    def __attrs_post_init__(self) -> None:
        if not NAME.fullmatch(self.dataset):
            raise ValueError(f"dataset = {self.dataset!r}: expected a name on the hub, OWNER/NAME")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes = {list(self.classes)}: a label is there twice")

    def load(self, run: Run) -> Task:
        import torch

        from kempeframe.task import Task

        images = load_images(self.dataset, "train")
        kept = self._kept(images)
        last = self.skip + self.n_train
        if last + self.n_validation > len(kept):
            asked = f"skip + n_train + n_validation = {last + self.n_validation}"
            raise ValueError(f"{self.dataset}: {asked}, there are {len(kept)} images in the training part")
        order = run.root.rng("data", "order").permutation(kept)
        train, validation = order[self.skip : last], order[last : last + self.n_validation]
        height, width, channels = images.pixels.shape[1:]
        if height % self.pool or width % self.pool:
            raise ValueError(f"{self.dataset}: pool = {self.pool} does not divide images of {height} x {width}")
        number = len(self.classes) or int(images.labels.max()) + 1
        form = f"pool {self.pool} centre {self.centre} {self.unit_variance} classes {self.classes} {self.dtype}"
        return Task(
            splits={
                "train": lambda: self._augmented(self._take(images, train, images)),
                **({"validation": lambda: self._take(images, validation, images)} if self.n_validation else {}),
                "test": lambda: self._test(run, images),
                "population": lambda: self._take(images, kept, images),
            },
            input_shape=(channels, height // self.pool, width // self.pool),
            output_shape=(number,),
            dtype=getattr(torch, self.dtype),
            classes=number,
            truth=Pool(f"{images.identity} train", form, train, np.empty(0, dtype=np.int64)),
            bounds=None if self.centre or self.unit_variance else (0.0, 1.0),
        )

    def _augmented(self, examples: Examples) -> Examples:
        from kempeframe_standard.augmentation import AugmentedExamples

        if not self.augmentation:
            return examples
        parts = (examples.inputs, examples.targets, examples.weights, examples.groups)
        return AugmentedExamples(*parts, "crop" in self.augmentation, "flip" in self.augmentation)

    def _kept(self, images: Images) -> Indices:
        """Indices of the images whose label is kept."""
        if not self.classes:
            return np.arange(len(images.labels))
        absent = set(self.classes) - set(images.labels.tolist())
        if absent:
            raise ValueError(f"{self.dataset}: no image has the label {', '.join(map(str, sorted(absent)))}")
        return np.flatnonzero(np.isin(images.labels, self.classes))

    def _test(self, run: Run, training_part: Images) -> Examples:
        images = load_images(self.dataset, "test")
        kept = self._kept(images)
        if self.n_test > len(kept):
            asked = f"n_test = {self.n_test}"
            raise ValueError(f"{self.dataset}: {asked}, there are {len(kept)} images in the test part")
        chosen = run.root.rng("data", "test order").permutation(kept)[: self.n_test]
        return self._take(images, chosen, training_part)

    def _take(self, images: Images, chosen: Indices, training_part: Images) -> Examples:
        """The images at these indices, prepared, with their labels; the training part gives the mean image."""
        import torch

        from kempeframe.task import Examples

        pixels = pooled(images.pixels[chosen] / 255, self.pool)
        if self.centre:
            pixels -= pooled(mean_image(training_part, self.classes)[None], self.pool)
        if self.unit_variance:
            pixels /= deviation(training_part, self.classes, self.pool, self.centre)
        inputs = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=self.dtype)
        labels = images.labels[chosen]
        if self.classes:
            number = np.full(max(self.classes) + 1, -1)
            number[list(self.classes)] = np.arange(len(self.classes))
            labels = number[labels]
        return Examples(torch.from_numpy(inputs), torch.from_numpy(labels))


def pooled(pixels: npt.NDArray[np.float64], factor: int) -> npt.NDArray[np.float64]:
    """(n, height, width, channels) -> (n, height/factor, width/factor, channels), averaged over squares."""
    n, height, width, channels = pixels.shape
    squares = pixels.reshape(n, height // factor, factor, width // factor, factor, channels)
    return np.asarray(squares.mean(axis=(2, 4)) if factor > 1 else pixels)


@lru_cache(maxsize=16)
def mean_image(images: Images, classes: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """(height, width, channels): the mean of the images with these labels (none given: of all), in [0, 1]."""
    pixels = images.pixels[np.isin(images.labels, classes)] if classes else images.pixels
    return np.asarray(pixels.mean(axis=0, dtype=np.float64) / 255)


@lru_cache(maxsize=16)
def deviation(images: Images, classes: tuple[int, ...], factor: int, centred: bool) -> float:
    """Standard deviation of all pixels of the images with these labels, pooled, around the mean image if centred."""
    kept = images.pixels[np.isin(images.labels, classes)] if classes else images.pixels
    pixels = pooled(kept / 255, factor)
    return float((pixels - pixels.mean(axis=0)).std() if centred else pixels.std())
