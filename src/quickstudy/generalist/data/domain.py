"""What the domains share that are made here: splits that share no content."""

import hashlib
from collections.abc import Callable, Mapping
from typing import TypeVar

from quickstudy.core import Split
from quickstudy.generalist.data.store import SEEDS

_HELD_OUT: Mapping[Split, int] = {"valid": 10, "test": 10}  # per cent of all contents; ours
Content = TypeVar("Content")


def split_of_seed(seed: int) -> Split:
    """The split that owns a seed. Raises `ValueError` if none does.

    >>> split_of_seed(1_000_000)
    'valid'
    """
    splits: tuple[Split, ...] = ("train", "valid", "test")
    for split in splits:
        if seed in SEEDS[split]:
            return split
    raise ValueError(f"seed must be from 0 to {max(seeds[-1] for seeds in SEEDS.values())}, not {seed}")


def split_of_content(content: str) -> Split:
    """The split that owns a content, by a hash of it: four in five belong to train.

    >>> split_of_content("a red ball"), split_of_content("a green box")
    ('train', 'train')
    """
    left = int.from_bytes(hashlib.sha256(content.encode()).digest()[:8]) % 100
    for split, share in _HELD_OUT.items():
        if left < share:
            return split
        left -= share
    return "train"


def draw_within(split: Split, draw: Callable[[], Content], content: Callable[[Content], str]) -> Content:
    """Draw until what is drawn belongs to a split, so that no content is in two splits."""
    while split_of_content(content(drawn := draw())) != split:
        pass
    return drawn
