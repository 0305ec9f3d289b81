"""Fourth stop: one network follows missions, captions pictures and tells characters apart, with weights that come with the package.

Nothing is trained here. Levels, scenes and classes of characters are those of test seeds, the first ones: none was ever recorded for
training, and none is chosen.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from quickstudy.core import Split
from quickstudy.report.html import Section, paragraph, stats, table
from quickstudy.report.images import Animation, Mark, image_grid

LEVELS = ("GoToLocal", "PickupLoc", "PutNextLocal")  # of one room, with more and more to do; ours
EPISODES = 10  # of each level, ours
SCENES = ("caption-gridworld", "caption-shapes")
PICTURES = 10  # of each kind of scene, ours
SEQUENCES = 40  # of characters, ours
_SECONDS = 0.25  # a frame is shown
_TILE = 16  # pixels of a level's cell
_SHOWN = 4  # pictures of each kind in the report


class Life(NamedTuple):
    """One episode: its mission, what it looked like from above, and whether the mission was done."""

    mission: str
    frames: UInt8[np.ndarray, "frames height width 3"]
    success: bool


def show(say: Callable[[str], None]) -> list[Section]:
    """Let the generalist play, caption and classify, print what comes out; returns the report's sections.

    Without the packages that it needs, a sentence that names them is all there is.
    """
    try:
        from quickstudy.generalist import trained

        generalist = trained.shipped()
        found = {level: [live(generalist, level, seed) for seed in _seeds(EPISODES)] for level in LEVELS}
    except ImportError as error:
        say(f"Left out: {error}")
        return []
    for level, lives in found.items():
        done = sum(life.success for life in lives)
        say(f'{level:<18} {done:>2} of {len(lives)} missions done, such as "{lives[0].mission}"')
    captions = {scene: describe(generalist, scene) for scene in SCENES}
    for scene, lines in captions.items():
        right = sum(said == truth for _, said, truth in lines)
        say(f'{scene:<18} {right:>2} of {len(lines)} captions exact, such as "{lines[0][1]}"')
    answers, drawings = tell_apart(generalist)
    share = f"{100 * np.mean(answers):.0f} %"
    say(f"{'characters':<18} {share} of {len(answers)} right after one example of each of five classes (chance: 20 %)")
    head = paragraph(
        "One network, the same weights throughout. What it does depends on what it is shown: it follows a mission in words, says what "
        "a picture shows, and tells new characters apart after one example of each."
    )
    numbers = [(level, f"{sum(life.success for life in lives)} of {len(lives)}") for level, lives in found.items()]
    numbers += [(scene, f"{sum(said == truth for _, said, truth in lines)} of {len(lines)}") for scene, lines in captions.items()]
    numbers += [("characters", share)]
    body = head + stats(numbers) + _played(found) + _captioned(captions) + _told_apart(drawings)
    return [Section("A generalist", body)]


def _seeds(count: int, split: Split = "test") -> range:
    from quickstudy.generalist.data.store import SEEDS

    return SEEDS[split][:count]


def live(generalist: Any, level: str, seed: int) -> Life:
    """One episode of a level."""
    from quickstudy.generalist.embodiments import parse

    body, task = parse(f"babyai-compact/{level}")
    world, agent = body.environment(task, seed), generalist.agent(f"babyai-compact/{level}", greedy=True)
    seen, end, success = world.reset(), False, False
    picture = lambda: world.world.get_frame(highlight=True, tile_size=_TILE).astype(np.uint8)
    mission, frames = seen["mission"], [picture()]
    agent.reset(seed)
    while not end:
        seen, _, end, success = world.step(agent.act(seen))
        frames.append(picture())
    return Life(mission, np.stack(frames), success)


def describe(generalist: Any, scene: str) -> list[tuple[np.ndarray, str, str]]:
    """Pictures, each with what the generalist says of it and what is true."""
    from quickstudy.generalist import answering
    from quickstudy.generalist.data import scenes

    episodes = [scenes.record(scene, seed) for seed in _seeds(PICTURES)]
    pictures = [np.asarray(episode.observations["image"])[0] for episode in episodes]
    said = answering.caption(generalist.network, pictures)
    return [(picture, words, episode.facts["caption"]) for picture, words, episode in zip(pictures, said, episodes, strict=True)]


def tell_apart(generalist: Any) -> tuple[list[bool], tuple[np.ndarray, np.ndarray, int]]:
    """Whether the first query of each sequence was told right; and of the first sequence the drawings, their labels and the answer."""
    from quickstudy.generalist.data import characters

    right, first = [], None
    for seed in _seeds(SEQUENCES):
        episode = characters.record("characters-5-way-1-shot", seed)
        images, labels, support = np.asarray(episode.observations["image"]), episode.actions, episode.facts["support"]
        (said,) = generalist.classify(images[:support], labels[:support], images[support : support + 1])
        right.append(bool(said == labels[support]))
        first = first or (images[: support + 1], labels[: support + 1], int(said))
    assert first is not None
    return right, first


def _played(found: dict[str, list[Life]]) -> str:
    lives = [(level, life) for level, lives in found.items() for life in lives[:2]]
    marks: list[Mark] = ["right" if life.success else "wrong" for _, life in lives]
    return paragraph("The first two missions of each level, in levels never seen before:") + image_grid(
        [Animation(life.frames, _SECONDS) for _, life in lives],
        [f"{level}: {life.mission}" for level, life in lives],
        marks=marks,
        size=_TILE * 8,
    )


def _captioned(captions: dict[str, list[tuple[np.ndarray, str, str]]]) -> str:
    lines = [line for some in captions.values() for line in some[:_SHOWN]]
    marks: list[Mark] = ["right" if said == truth else "wrong" for _, said, truth in lines]
    wrong = [(said, truth) for some in captions.values() for _, said, truth in some if said != truth]
    errors = table(wrong, ("said", "is"), caption="Captions that are not exact") if wrong else ""
    return (
        paragraph("Scenes, captioned:")
        + image_grid([p for p, _, _ in lines], [said for _, said, _ in lines], marks=marks, size=128)
        + errors
    )


def _told_apart(shown: tuple[np.ndarray, np.ndarray, int]) -> str:
    drawings, labels, said = shown
    grey: Sequence[np.ndarray] = [255 - drawing[..., 0] for drawing in drawings]
    captions = [f"class {label + 1}" for label in labels[:-1]] + [f"taken for {said + 1}, is {labels[-1] + 1}"]
    marks: list[Mark] = [*[""] * (len(captions) - 1), "right" if said == labels[-1] else "wrong"]  # type: ignore[list-item]
    return paragraph("Five new characters with their numbers, then one of them again:") + image_grid(grey, captions, marks=marks)


def facts() -> dict[str, object]:
    """What the report says of how this stop was made."""
    from quickstudy.shipped import provenance

    weights = provenance("generalist")
    return {
        "generalist: weights": f"{weights['command']}, commit {weights['commit'][:7]}, {weights['seconds']:,} s",
        "generalist: levels, scenes and characters": "the first test seeds of each",
    }
