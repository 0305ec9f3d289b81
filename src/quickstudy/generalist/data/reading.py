"""Episodes by their seeds: from the store where they were built, and a few made on the spot; and which of them are good enough."""

import numpy as np
from jaxtyping import Bool, Float

from quickstudy import catalog
from quickstudy.core import Split
from quickstudy.generalist.data import build, store
from quickstudy.generalist.data.store import Episode, Shard

_FEW = 50  # episodes that are made rather than asked for; ours


def episodes(domain: str, task: str, split: Split, n: int, *, made: int = _FEW) -> list[Episode]:
    """What the first `n` seeds of a split give, or of the domain `minari` its first `n` episodes, without those that were rejected.

    Those that were not built are made on the spot, if they are `made` at most. Raises `FileNotFoundError` with the command that builds
    them if there are not enough, `OSError` if they are damaged.
    """
    if domain == "minari":
        return build.domain_module(domain).stored(task, split, n)
    folder, wanted = build.folder_of(domain), store.SEEDS[catalog.require(split, store.SEEDS, "split")][:n]
    blocks = [folder / work.place for work in build.plan(domain, [task], episodes=n, split=split)]
    if all(block.exists() for block in blocks):
        return [episode for block in blocks for episode in Shard.open(block).read() if episode.facts["seed"] in wanted]
    if n > made:
        command = f"quickstudy data build {domain} --tasks {task} --split {split} --episodes {n}"
        raise FileNotFoundError(f"{n} episodes of {task} for {split} are not in {folder}: run `{command}`")
    record = build.domain_module(domain).record
    return [episode for seed in wanted if isinstance(episode := record(task, seed), Episode)]


def good_enough(returns: Float[np.ndarray, " episodes"], share: float = 0.8) -> Bool[np.ndarray, " episodes"]:
    """Which of one task's episodes, in the order in which they were made, come up to `share` of the expert's return.

    The expert's return is the highest mean of a window of episodes, a tenth of them and at most 1,000. A negative one is let down by
    as much as a positive one: to 1.2 times itself. Raises `ValueError` for no episodes. Source: Reed et al. 2022, "A Generalist
    Agent", section 3.1: episodes below 80 % are left out; what to do with negative returns is ours.

    >>> good_enough(np.array([0.0, 1.0, 0.9, 0.7])).tolist()
    [False, True, True, False]
    """
    if not len(returns):
        raise ValueError("returns must be those of at least one episode, not of none")
    window = max(1, min(1_000, len(returns) // 10))
    sums = np.concatenate([[0.0], np.cumsum(returns)])
    expert = float(np.max(sums[window:] - sums[:-window])) / window
    return returns >= expert - (1 - share) * abs(expert)
