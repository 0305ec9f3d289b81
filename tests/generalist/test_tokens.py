"""The specification of the tokens, a test for every sentence of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from quickstudy.generalist.spaces import leaves
from quickstudy.generalist.text import TextModel
from quickstudy.generalist.tokens import ACTION_PLACE, Tokenizer, Tokens, join
from quickstudy.generalist.vocabulary import (
    Vocabulary,
    inverse_mu_law,
    mu_law,
    patch_intervals,
    position_bins,
    scale_pixels,
    to_patches,
)

TEXT = TextModel()
VOCABULARY = Vocabulary(TEXT.size)
LITERAL = Vocabulary(32000, literal=True)
BUTTON = spaces.Discrete(3)
MISSION = spaces.Text(99, charset="abcdefghijklmnopqrstuvwxyz ,")
RNG = np.random.default_rng(100)


def tokenizer(observations, actions=BUTTON, vocabulary=VOCABULARY, **options):
    return Tokenizer(observations, actions, vocabulary, TEXT, **options)


def written(space, values, vocabulary=VOCABULARY):
    """The ids of one observation, without its separator."""
    return tokenizer(space, vocabulary=vocabulary).step(values, True).ids[:-1]


def picture(height, width, channels=3, steps=None):
    shape = (height, width, channels) if steps is None else (steps, height, width, channels)
    return RNG.integers(0, 256, shape, np.uint8)


def pixels(height, width, channels=3):
    return spaces.Box(0, 255, (height, width, channels), np.uint8)


# Values and ids


def test_text_is_pieces_of_sentencepiece():
    assert written(MISSION, "go to a ball").tolist() == TEXT.encode("go to a ball")


def test_a_discrete_value_is_itself_after_the_text():
    assert written(spaces.Discrete(1024), 1023).tolist() == [TEXT.size + 1023]


def test_a_discrete_value_counts_from_the_least_value_of_its_space():
    assert written(spaces.Discrete(4, start=-2), -2).tolist() == [TEXT.size]
    space = spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[0, 10], [-1, 7]])
    assert written(space, np.array([[1, 12], [2, 7]])).tolist() == [TEXT.size + value for value in (1, 2, 3, 0)]


def test_multi_binary_is_zero_or_one():
    assert written(spaces.MultiBinary(3), np.array([1, 0, 1], np.int8)).tolist() == [TEXT.size + 1, TEXT.size, TEXT.size + 1]


def test_the_mu_law_has_mu_100_and_m_256():
    x = np.array([-256.0, -1.0, 0.0, 0.3, 256.0])
    np.testing.assert_allclose(mu_law(x), np.sign(x) * np.log(np.abs(x) * 100 + 1) / np.log(256 * 100 + 1), rtol=1e-12)
    np.testing.assert_allclose(inverse_mu_law(mu_law(x)), x, rtol=1e-9)


def test_there_are_1024_bins_of_equal_width():
    edges = np.linspace(-1, 1, 1025)
    inside = (edges[:-1] + edges[1:]) / 2
    start = VOCABULARY.continuous_start
    assert VOCABULARY.encode_continuous(inside, compand=False).tolist() == list(range(start, start + 1024))
    assert VOCABULARY.encode_continuous(edges[:-1] + 1e-9, compand=False).tolist() == list(range(start, start + 1024))


def test_plus_one_is_in_the_last_bin_and_not_beyond():
    ids = VOCABULARY.encode_continuous(np.array([1.0, np.nextafter(1.0, 0)]), compand=False)
    assert ids.tolist() == [VOCABULARY.continuous_start + 1023] * 2
    assert VOCABULARY.encode_continuous(np.array([256.0])).tolist() == [VOCABULARY.continuous_start + 1023]


def test_what_is_companded_below_minus_one_is_in_the_first_bin_and_not_below():
    ids = VOCABULARY.encode_continuous(np.array([-256.0, -257.0, -1e300, -np.inf]))
    assert ids.tolist() == [VOCABULARY.continuous_start] * 4


def test_a_value_beyond_256_is_clipped():
    ids = VOCABULARY.encode_continuous(np.array([256.5, 1e308, np.inf]))
    assert ids.tolist() == [VOCABULARY.continuous_start + 1023] * 3


def test_a_bin_stands_for_its_centre():
    ids = VOCABULARY.continuous_start + np.arange(1024)
    centres = VOCABULARY.decode_continuous(ids, compand=False)
    np.testing.assert_allclose(centres, (np.arange(1024) + 0.5) / 512 - 1, atol=1e-15)
    assert abs(centres.mean()) < 1e-12  # left edges would be half a bin too low on the average
    np.testing.assert_array_equal(VOCABULARY.encode_continuous(VOCABULARY.decode_continuous(ids)), ids)


def test_an_observation_declared_within_minus_one_and_one_is_not_companded():
    inside, wider = spaces.Box(-1, 1, (1,)), spaces.Box(-1, 1.5, (1,))
    value = np.array([0.5], np.float32)
    assert written(inside, value).tolist() == [VOCABULARY.continuous_start + 768]
    assert written(wider, value).tolist() == VOCABULARY.encode_continuous(np.array([0.5])).tolist()


def test_a_continuous_action_is_scaled_linearly_from_its_bounds_and_never_companded():
    box = spaces.Box(np.array([-300, 0], np.float32), np.array([300, 4], np.float32))
    ids = tokenizer(BUTTON, box).encode_action(np.array([150.0, 1.0], np.float32))
    assert (ids - VOCABULARY.continuous_start).tolist() == [768, 256]


def test_an_action_whose_bounds_are_equal_is_that_value():
    box = spaces.Box(2.0, 2.0, (1,))
    tokens = tokenizer(BUTTON, box)
    assert tokens.decode_action(tokens.encode_action(np.array([2.0], np.float32))).tolist() == [2.0]


def test_an_integer_box_counts_as_discrete_up_to_1024_values_and_as_continuous_beyond():
    kinds = [leaves(spaces.Box(-5, high, (1,), np.int64), VOCABULARY, ("observation",))[0].kind for high in (1018, 1019)]
    assert kinds == ["discrete", "continuous"]
    assert written(spaces.Box(-5, 5, (1,), np.int8), np.array([-5], np.int8)).tolist() == [TEXT.size]
    assert written(spaces.Box(0, 255, (1,), np.uint8), np.array([255], np.uint8)).tolist() == [TEXT.size + 255]
    assert written(spaces.Box(0, 1, (2,), bool), np.array([True, False])).tolist() == [TEXT.size + 1, TEXT.size]


def test_the_ranges_of_ids_are_disjoint():
    v = VOCABULARY
    assert (v.discrete_start, v.continuous_start, v.separator, v.size) == (
        TEXT.size,
        TEXT.size + 1024,
        TEXT.size + 2048,
        TEXT.size + 2049,
    )


def test_literal_ranges_are_those_of_the_paper():
    assert (LITERAL.discrete_start, LITERAL.continuous_start, LITERAL.separator) == (0, 32000, 33024)
    assert LITERAL.encode_discrete(np.array([0, 1023])).tolist() == [0, 1023]
    assert LITERAL.encode_continuous(np.array([-1.0, 1.0]), compand=False).tolist() == [32000, 33023]


# Images


def test_an_image_is_patches_of_16_pixels_in_raster_order():
    image = picture(32, 48)
    tokens = tokenizer(pixels(32, 48)).step(image, True)
    assert tokens.is_patch.tolist() == [True] * 6 + [False]
    corners = [(0, 0), (0, 16), (0, 32), (16, 0), (16, 16), (16, 32)]
    for patch, (row, column) in zip(tokens.ids[:6] - tokens.size, corners, strict=True):
        np.testing.assert_array_equal(tokens.patches[patch], image[row : row + 16, column : column + 16])


def test_pixels_are_scaled_to_one_and_divided_by_four():
    values = np.array([0, 51, 255], np.uint8)
    np.testing.assert_allclose(scale_pixels(values), [-1 / 4, -0.6 / 4, 1 / 4], atol=1e-7)
    np.testing.assert_allclose(jax.jit(scale_pixels)(jnp.asarray(values)), scale_pixels(values), atol=1e-7)


def test_grey_is_repeated_to_three_channels():
    patches = to_patches(picture(16, 16, 1)[None])
    assert patches.shape == (1, 1, 16, 16, 3)
    np.testing.assert_array_equal(patches[..., 0], patches[..., 2])


def test_a_patch_covers_its_128ths_of_the_rows_and_of_the_columns():
    intervals = patch_intervals(80, 64)  # the shape of the paper's Atari frames
    assert intervals.shape == (20, 2, 2)
    assert intervals[5].tolist() == [[26, 50], [32, 63]]  # the second row and the second column of patches
    np.testing.assert_array_equal(tokenizer(pixels(80, 64)).step(picture(80, 64), True).intervals[:20], intervals)


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 128), st.integers(1, 128))
def test_rows_of_patches_share_no_bin_and_leave_none_out(rows, columns):
    intervals = patch_intervals(16 * rows, 16 * columns).reshape(rows, columns, 2, 2)
    for first, last in (intervals[:, 0, 0].T, intervals[0, :, 1].T):
        assert first[0] == 0 and last[-1] == 127
        np.testing.assert_array_equal(first[1:], last[:-1] + 1)


def test_in_evaluation_a_position_is_the_rounded_mean_of_its_interval():
    intervals = np.array([[[0, 3], [4, 4]], [[0, 2], [0, 127]]], np.uint8)
    assert position_bins(intervals).tolist() == [[2, 4], [1, 64]]


def test_in_training_a_position_is_drawn_uniformly_from_its_interval():
    share = jax.random.uniform(jax.random.key(100), (4000, 2))
    bins = jax.jit(jax.vmap(position_bins, (None, 0)))(jnp.asarray(patch_intervals(80, 64)[5]), share)
    counts = np.bincount(bins[:, 0], minlength=128)
    assert counts[:26].sum() == 0 == counts[51:].sum()
    assert counts[26:51].min() > 100  # of 160 expected
    assert position_bins(np.array([[[0, 127], [3, 9]]], np.uint8), np.float32(1 - 2**-24)).tolist() == [[127, 9]]


def test_a_patch_is_kept_once_however_often_it_is_seen():
    frames = np.repeat(picture(16, 32, steps=2), 5, axis=0)
    tokens = tokenizer(pixels(16, 32)).encode(frames, np.zeros(10, np.int64))
    assert len(tokens.patches) == 4
    assert (tokens.ids[tokens.is_patch] - tokens.size).tolist() == [0, 1] * 5 + [2, 3] * 5


# Order and places

MIXED = spaces.Dict(
    zoom=spaces.Discrete(5),
    word=MISSION,
    eye=pixels(16, 32),
    body=spaces.Dict(b=spaces.Box(-9, 9, (2, 2)), a=spaces.Discrete(9), sight=pixels(16, 16), title=MISSION),
)


def mixed(steps):
    return {
        "word": ["go to the ball"] * steps,
        "zoom": np.arange(steps) % 5,
        "eye": picture(16, 32, steps=steps),
        "body": {
            "title": ["pick up"] * steps,
            "sight": picture(16, 16, steps=steps),
            "a": np.full(steps, 8),
            "b": np.array([[[1.0, 2.0], [3.0, 4.0]]] * steps, np.float32),
        },
    }


def test_a_time_step_is_text_then_images_then_tensors_then_separator_then_action_each_in_key_order():
    values, actions = mixed(2), spaces.Dict(z=spaces.Discrete(2), a=spaces.MultiDiscrete([4, 4]))
    tokens = tokenizer(MIXED, actions).encode(values, {"a": np.array([[3, 2], [1, 0]]), "z": np.array([1, 0])})
    texts = TEXT.encode("pick up") + TEXT.encode("go to the ball")  # body.title, word
    patches = [tokens.size + row for row in range(3)]  # body.sight, eye
    b = VOCABULARY.encode_continuous(np.array([1.0, 2.0, 3.0, 4.0])).tolist()  # row-major
    step = [*texts, *patches, TEXT.size + 8, *b, TEXT.size, VOCABULARY.separator, *(TEXT.size + value for value in (3, 2, 1))]
    assert tokens.ids[: len(step)].tolist() == step
    assert len(tokens.ids) == 2 * len(step)
    np.testing.assert_array_equal(tokens.patches[0], values["body"]["sight"][0])


def test_a_tuple_is_in_the_order_of_its_numbers():
    space = spaces.Tuple([spaces.Discrete(20) for _ in range(12)])
    assert (written(space, tuple(range(12))) - TEXT.size).tolist() == list(range(12))


def test_the_ids_of_each_step_follow_those_of_the_step_before():
    machine = tokenizer(spaces.Discrete(9))
    tokens = machine.encode(np.array([4, 5]), np.array([1, 2]))
    s = VOCABULARY.separator
    assert tokens.ids.tolist() == [TEXT.size + 4, s, TEXT.size + 1, TEXT.size + 5, s, TEXT.size + 2]


def test_observation_tokens_and_the_separator_have_places_and_actions_share_one():
    machine = tokenizer(spaces.Dict(word=MISSION, speed=spaces.Box(-2, 2, (3,))), spaces.MultiDiscrete([2, 2]))
    tokens = machine.encode({"word": ["go", "go to a ball"], "speed": np.zeros((2, 3))}, np.zeros((2, 2), np.int64))
    first, second = len(TEXT.encode("go")) + 4, len(TEXT.encode("go to a ball")) + 4
    assert tokens.places.tolist() == [*range(first), ACTION_PLACE, ACTION_PLACE, *range(second), ACTION_PLACE, ACTION_PLACE]
    np.testing.assert_array_equal(tokens.is_action, tokens.places == 512)


def test_the_targets_are_the_tokens_of_text_and_of_actions():
    for vocabulary in (VOCABULARY, LITERAL):
        machine = tokenizer(spaces.Dict(word=MISSION, eye=pixels(16, 16), n=BUTTON), vocabulary=vocabulary)
        tokens = machine.encode({"word": ["go"], "eye": picture(16, 16, steps=1), "n": np.array([1])}, np.array([2]))
        text = len(TEXT.encode("go"))
        assert tokens.targets.tolist() == [True] * text + [False] * 3 + [True]


def test_intervals_are_zeros_where_there_is_no_patch():
    tokens = tokenizer(MIXED).encode(mixed(3), np.zeros(3, np.int64))
    assert not tokens.intervals[~tokens.is_patch].any()
    assert tokens.intervals[tokens.is_patch].any((1, 2)).all()


def test_text_may_be_written_at_every_nth_step_only_and_begins_a_section():
    machine = tokenizer(spaces.Dict(word=MISSION, n=BUTTON), text_every=2)
    observations = {"word": ["go to a ball"] * 5, "n": np.zeros(5, np.int64)}
    tokens = machine.encode(observations, np.zeros(5, np.int64))
    text = TEXT.encode("go to a ball")
    step = [TEXT.size, VOCABULARY.separator, TEXT.size]
    assert tokens.ids.tolist() == (text + step + step) * 2 + text + step
    assert tokens.sections.tolist() == [0, len(text) + 6, 2 * len(text) + 12]
    assert machine.decode(tokens)[0]["word"] == observations["word"]


def test_separators_may_be_left_out():
    machine = tokenizer(spaces.Dict(word=MISSION, eye=pixels(16, 16)), text_every=2, separator=False)
    observations = {"word": ["go to a ball"] * 3, "eye": picture(16, 16, steps=3)}
    tokens = machine.encode(observations, np.array([2, 1, 0]))
    text, size = TEXT.encode("go to a ball"), VOCABULARY.size
    assert tokens.ids.tolist() == [*text, size, TEXT.size + 2, size + 1, TEXT.size + 1, *text, size + 2, TEXT.size]
    read, actions = machine.decode(tokens)
    np.testing.assert_array_equal(read["eye"], observations["eye"])
    assert read["word"] == observations["word"] and actions.tolist() == [2, 1, 0]
    assert machine.describe(tokens).splitlines()[1] == "1: eye patches 1, action 1"
    assert machine.step({"word": "go", "eye": picture(16, 16)}, first=False).ids.tolist() == [size]


def test_without_separators_an_observation_needs_a_token_that_is_not_text():
    with pytest.raises(ValueError, match="needs a token that is not text"):
        tokenizer(MISSION, separator=False)


def test_every_step_begins_a_section_if_text_is_written_at_every_step():
    assert tokenizer(BUTTON).encode(np.zeros(3, np.int64), np.zeros(3, np.int64)).sections.tolist() == [0, 3, 6]


def test_steps_and_actions_written_one_by_one_are_the_episode():
    machine = tokenizer(MIXED, text_every=2)
    values, actions = mixed(4), np.array([0, 2, 1, 0])
    whole = machine.encode(values, actions)
    alone = []
    for t in range(4):
        body = {key: value[t] for key, value in values["body"].items()}
        observation = {**{key: values[key][t] for key in ("word", "zoom", "eye")}, "body": body}
        alone.append(machine.step(observation, first=t % 2 == 0))
        ids = machine.encode_action(actions[t])
        nothing = np.zeros((0, 16, 16, 3), np.uint8)
        places, targets = np.full(len(ids), ACTION_PLACE, np.int16), np.ones(len(ids), bool)
        intervals, none = np.zeros((len(ids), 2, 2), np.uint8), np.zeros(0, np.int64)
        alone.append(Tokens(ids, places, targets, intervals, nothing, none, none, none, VOCABULARY.size))
    # Where an episode begins, one that acts does not say.
    for field, other in zip(whole._replace(episodes=none, recorded=none), join(alone), strict=True):
        np.testing.assert_array_equal(field, other)


def test_several_episodes_at_once_are_each_alone_one_after_the_other():
    machine = tokenizer(spaces.Dict(word=MISSION, speed=spaces.Discrete(9)), text_every=2)
    speeds, actions, words = np.arange(6), np.array([0, 1, 2, 2, 1, 0]), ["go", "go", "go", "stop", "stop", "go"]
    whole = machine.encode({"word": words, "speed": speeds}, actions, [3, 2, 1])
    parts = [machine.encode({"word": words[a:b], "speed": speeds[a:b]}, actions[a:b]) for a, b in ((0, 3), (3, 5), (5, 6))]
    for field, other in zip(whole, join(parts), strict=True):
        np.testing.assert_array_equal(field, other)
    assert len(whole.episodes) == 3
    with pytest.raises(ValueError, match="add up to the 6 time steps there are, not to 5"):
        machine.encode({"word": words, "speed": speeds}, actions, [3, 2])


def test_joined_sequences_share_one_table_of_their_different_patches():
    machine = tokenizer(pixels(16, 32))
    frames, nothing = picture(16, 32, steps=3), np.zeros(3, np.int64)
    frames[2] = frames[0]
    whole = machine.encode(frames, nothing)
    last, first = machine.encode(frames[2:], nothing[2:]), machine.encode(frames[:2], nothing[:2])
    for field, other in zip(whole, join([first, last])._replace(episodes=whole.episodes, recorded=whole.recorded), strict=True):
        np.testing.assert_array_equal(field, other)
    np.testing.assert_array_equal(machine.decode(join([last, first]))[0], frames[[2, 0, 1]])


# Reading back


def test_each_token_of_an_action_has_its_range_of_ids():
    actions = spaces.Dict(a=spaces.Discrete(7, start=3), b=spaces.Box(-1, 1, (1,)), c=spaces.MultiBinary(1))
    t, c = TEXT.size, VOCABULARY.continuous_start
    machine = tokenizer(BUTTON, actions)
    assert machine.action_ids == 3
    assert machine.action_ranges.tolist() == [[t, t + 7], [c, c + 1024], [t, t + 2]]


@pytest.mark.parametrize("vocabulary", [VOCABULARY, LITERAL])
def test_every_action_that_the_ranges_allow_is_a_member_of_its_space(vocabulary):
    actions = spaces.Tuple([spaces.Discrete(7, start=3), spaces.Box(-1, 5, (2,)), spaces.Box(0, 5000, (1,), np.int32), BUTTON])
    machine = tokenizer(BUTTON, actions, vocabulary)
    first, end = machine.action_ranges.T
    for ids in (first, end - 1, RNG.integers(first, end)):
        action = machine.decode_action(ids)
        assert actions.contains(action)
        assert machine.encode_action(action)[0] == ids[0]


def test_an_episode_in_words():
    machine = tokenizer(spaces.Dict(word=MISSION, eye=pixels(16, 32), speed=spaces.Box(-1, 1, (1,)), n=spaces.MultiDiscrete([9] * 12)))
    n = np.stack([np.arange(12) % 9] * 2)
    observations = {"word": ["go", "open"], "eye": picture(16, 32, steps=2), "speed": np.full((2, 1), 0.25), "n": n}
    tokens = machine.encode(observations, np.array([1, 2]))
    expected = [
        '0: word "go", eye patches [0, 1], n [0, 1, 2, ..., 0, 1, 2], speed 0.251, |, action 1',
        '1: word "open", eye patches [2, 3], n [0, 1, 2, ..., 0, 1, 2], speed 0.251, |, action 2',
    ]
    assert machine.describe(tokens).splitlines() == expected


def test_a_step_without_its_action_is_told_in_words_and_one_that_is_cut_is_counted():
    machine = tokenizer(spaces.Discrete(9), spaces.MultiDiscrete([3, 3]))
    whole = machine.encode(np.array([4, 5]), np.array([[1, 2], [0, 0]]))
    parts = [field[1:7] for field in whole[:4]]
    cut = Tokens(*parts, *whole[4:])
    assert machine.describe(cut).splitlines() == ["0: 3 tokens of a time step that is cut", "1: 3 tokens of a time step that is cut"]
    assert machine.describe(join([whole, machine.step(7, True)])).splitlines()[2] == "2: observation 7, |"


def shapes():
    return st.lists(st.integers(0, 3), max_size=2).map(tuple)


@st.composite
def boxes(draw, *, bounded):
    dtype = np.dtype(draw(st.sampled_from(["f2", "f4", "f8", "i1", "u1", "i4", "i8", "u8"])))
    shape = draw(shapes())
    if dtype.kind == "f":
        ends = st.floats(-(2.0**15), 2.0**15, width=16).map(dtype.type)
    else:
        limits = np.iinfo(dtype)
        near = st.integers(max(-2000, limits.min), min(2000, limits.max))
        # Gymnasium takes no integers beyond these, and samples none from wider spaces.
        ends = near | st.integers(max(-(2**62), limits.min), min(2**62, limits.max - 1))
    ends = st.lists(ends, min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))
    low, high = (np.array(draw(ends), dtype).reshape(shape) for _ in range(2))
    low, high = np.minimum(low, high), np.maximum(low, high)
    if dtype.kind == "f" and not bounded and draw(st.booleans()):
        low, high = (np.full(shape, -np.inf, dtype), high) if draw(st.booleans()) else (low, np.full(shape, np.inf, dtype))
    return spaces.Box(low, high, shape, dtype.type)


def tensors(*, bounded):
    counts = st.integers(1, 1024)
    starts = st.integers(-3000, 3000)
    discrete = st.builds(lambda n, start: spaces.Discrete(n, start=start), counts, starts)
    multi = st.lists(st.tuples(counts, starts), min_size=1, max_size=4).map(
        lambda pairs: spaces.MultiDiscrete([n for n, _ in pairs], start=[start for _, start in pairs])
    )
    binary = (st.integers(1, 5) | st.tuples(st.integers(1, 2), st.integers(1, 3))).map(spaces.MultiBinary)
    return discrete | multi | binary | boxes(bounded=bounded)


def nested(leaf):
    keys = st.text("ab.0", min_size=1, max_size=3)
    return st.recursive(
        leaf,
        lambda inner: st.dictionaries(keys, inner, max_size=3).map(spaces.Dict) | st.lists(inner, max_size=3).map(spaces.Tuple),
        max_leaves=5,
    )


def observation_spaces():
    images = st.builds(pixels, st.sampled_from([16, 32]), st.sampled_from([16, 48]), st.sampled_from([1, 3]))
    texts = st.builds(
        lambda n, charset: spaces.Text(n, charset=charset), st.integers(1, 20), st.sampled_from(["ab \n", "走到红球\u2581", "Ää"])
    )
    return nested(tensors(bounded=False) | images | texts)


def stacked(space, steps):
    """Values of a space, sampled at each of several time steps."""
    if isinstance(space, spaces.Dict):
        return {key: stacked(part, steps) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(stacked(part, steps) for part in space.spaces)
    values = [space.sample() for _ in range(steps)]
    return values if isinstance(space, spaces.Text) else np.stack(values)


def assert_close(space, given, read, *, is_action):
    """What was read is what was given: exactly, or within the bounds of the specification."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        keys = space.spaces if isinstance(space, spaces.Dict) else range(len(space.spaces))
        assert type(given) is type(read) and len(given) == len(read)
        for key in keys:
            assert_close(space[key], given[key], read[key], is_action=is_action)
        return
    assert all(space.contains(read[step, ...] if isinstance(space, spaces.Box) else read[step]) for step in range(len(read)))
    (leaf,) = leaves(space, VOCABULARY, ("action" if is_action else "observation",))
    if leaf.kind != "continuous":
        assert np.array_equal(given, read)
        return
    x, y = np.float64(given), np.float64(read)
    low, high = np.float64(space.low), np.float64(space.high)
    if leaf.compands:
        x = np.clip(np.clip(x, -256, 256), low, high)
        bound = 0.01 * (np.abs(x) + 0.01)
    else:
        bound = (high / 2 - low / 2) / 1024 if is_action else np.full_like(x, 1 / 1024)
    rounding = 0.5 if space.dtype.kind in "iu" else 0.0
    precision = 2 * float(np.finfo(space.dtype if space.dtype.kind == "f" else np.float64).eps)
    assert np.all(np.abs(x - y) <= bound + rounding + precision * np.maximum(np.abs(x), np.abs(y)) + 1e-7)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    observation_spaces(),
    nested(tensors(bounded=True)),
    st.integers(1, 3),
    st.integers(100, 2**31),
    st.sampled_from([VOCABULARY, LITERAL]),
    st.booleans(),
)
def test_values_of_every_space_come_back_exactly_or_within_the_bounds_that_the_specification_gives(
    observed, acted, steps, seed, vocabulary, separator
):
    texts = [leaf for leaf in leaves(observed, VOCABULARY, ("observation",)) if leaf.kind == "text"]
    assume(sum(leaf.tokens for leaf in leaves(acted, VOCABULARY, ("action",))))
    assume(separator or any(leaf.tokens for leaf in leaves(observed, VOCABULARY, ("observation",))))
    machine = tokenizer(observed, acted, vocabulary, separator=separator)
    observed.seed(seed), acted.seed(seed)
    observations, actions = stacked(observed, steps), stacked(acted, steps)
    tokens = machine.encode(observations, actions)
    assert len(machine.describe(tokens).splitlines()) >= steps
    if len(texts) > 1:
        with pytest.raises(ValueError, match="cannot be told apart"):
            machine.decode(tokens)
        return
    for space, given_values, read, is_action in zip(
        (observed, acted), (observations, actions), machine.decode(tokens), (False, True), strict=True
    ):
        assert_close(space, given_values, read, is_action=is_action)
    action = acted.sample()
    assert acted.contains(machine.decode_action(machine.encode_action(action)))
    assert np.all(machine.encode_action(action) >= machine.action_ranges[:, 0])
    assert np.all(machine.encode_action(action) < machine.action_ranges[:, 1])


# When things go wrong


@pytest.mark.parametrize(
    ("space", "name"),
    [
        (spaces.Sequence(BUTTON), "observation is Sequence"),
        (spaces.Graph(BUTTON, BUTTON), "observation is Graph"),
        (spaces.OneOf([BUTTON, BUTTON]), "observation is OneOf"),
        (spaces.Dict(a=spaces.Sequence(BUTTON)), r"observation\.a is Sequence"),
    ],
)
def test_a_space_that_no_tokens_stand_for_is_refused(space, name):
    with pytest.raises(TypeError, match=rf"{name}.*the spaces that have tokens are Box, Discrete.*Text"):
        tokenizer(space)


@pytest.mark.parametrize("space", [MISSION, spaces.Sequence(BUTTON)])
def test_an_action_that_is_text_or_has_no_tokens_is_refused(space):
    with pytest.raises(TypeError, match=r"action\.say is .*the spaces that have tokens as actions are Box.*Dict$"):
        tokenizer(BUTTON, spaces.Dict(say=space))


def test_an_action_without_bounds_is_refused():
    with pytest.raises(TypeError, match=r"action is Box\(-inf, inf.*needs finite bounds"):
        tokenizer(BUTTON, spaces.Box(-np.inf, np.inf, (1,)))


def test_an_action_space_without_values_is_refused():
    with pytest.raises(ValueError, match=r"the action space Tuple\(\) has no values"):
        tokenizer(BUTTON, spaces.Tuple([]))


@pytest.mark.parametrize("space", [spaces.Discrete(1025), spaces.MultiDiscrete([3, 1025])])
def test_more_than_1024_discrete_values_are_refused(space):
    with pytest.raises(ValueError, match="observation has a number with 1025 values; a discrete value has at most 1024"):
        tokenizer(space)


@pytest.mark.parametrize("shape", [(7, 7, 3), (16, 15, 1), (33, 32, 3)])
def test_an_image_of_odd_size_is_refused(shape):
    wanted = f"multiples of 16 and 1 or 3 channels, not {shape[0]} x {shape[1]} x {shape[2]}"
    with pytest.raises(ValueError, match=wanted):
        tokenizer(pixels(*shape))
    with pytest.raises(ValueError, match=wanted):
        to_patches(picture(*shape, steps=1))


def test_an_observation_of_more_than_512_tokens_is_refused():
    assert len(tokenizer(spaces.MultiBinary(511)).step(np.zeros(511, np.int8), True).ids) == 512
    with pytest.raises(ValueError, match="at most 512 tokens with its separator, not 513"):
        tokenizer(spaces.MultiBinary(512))
    with pytest.raises(ValueError, match="at most 512 tokens with its separator, not 514"):
        tokenizer(spaces.Tuple([spaces.MultiBinary(511), MISSION])).step((np.zeros(511, np.int8), "go to"), True)


@pytest.mark.parametrize(
    ("space", "value", "what"),
    [
        (spaces.Discrete(3, start=1), 0, r"\[1, 3\], not 0"),
        (spaces.Discrete(3), 3, r"\[0, 2\], not 3"),
        (spaces.MultiDiscrete([2, 2]), np.array([0, 2]), r"\[0, 1\], not 2 \(time step 0, place 1\)"),
        (spaces.MultiBinary(2), np.array([0, 2], np.int8), r"\[0, 1\], not 2"),
        (spaces.Box(-1, 1, (2,)), np.array([0, 1.5]), r"\[-1.0, 1.0\], not 1.5 \(time step 0, place 1\)"),
        (spaces.Box(-np.inf, 1, (1,)), np.array([np.nan]), r"\[-inf, 1.0\], not nan"),
        (spaces.Box(0, 5000, (1,), np.int16), np.array([70000]), r"\[0, 5000\], not 70000"),
        (spaces.Box(0, 9, (1,), np.uint8), np.array([10], np.uint8), r"\[0, 9\], not 10"),
    ],
)
def test_values_outside_the_declared_space_are_refused(space, value, what):
    with pytest.raises(ValueError, match=f"observation must lie in {what}"):
        tokenizer(space).step(value, True)


def test_a_value_beyond_the_declared_bounds_of_an_action_is_refused():
    with pytest.raises(ValueError, match=r"action must lie in \[-1.0, 1.0\], not 1.5 \(time step 1, place 0\)"):
        tokenizer(BUTTON, spaces.Box(-1, 1, (1,))).encode(np.array([0, 0]), np.array([[1.0], [1.5]]))


@pytest.mark.parametrize("text", ["GO", "x" * 100, ""])
def test_text_outside_its_space_is_refused(text):
    with pytest.raises(ValueError, match="observation must be a text of its space"):
        tokenizer(MISSION).step(text, True)


def test_text_in_another_script_comes_back():
    space = spaces.Text(20, charset="走到红球")
    machine = tokenizer(space)
    assert machine.decode(machine.encode(["走到红球"], np.array([0])))[0] == ["走到红球"]


def test_text_that_changes_where_it_is_not_written_is_refused():
    with pytest.raises(ValueError, match="text changes at time step 1, but is written at every 3th only"):
        tokenizer(MISSION, text_every=3).encode(["go", "open"], np.zeros(2, np.int64))


@pytest.mark.parametrize(
    ("space", "value", "what"),
    [
        (spaces.Discrete(3), 1.0, "observation must be int64, as its space .* says, not float64"),
        (pixels(16, 16), np.zeros((16, 16, 3), np.int64), "observation must be uint8, as its space .* says, not int64"),
        (spaces.Box(-1, 1, (1,)), np.array(["a"]), "observation must be float32, as its space .* says, not <U1"),
        (MISSION, 3, "observation must be a list of strings, not of int"),
    ],
)
def test_values_of_another_type_are_refused(space, value, what):
    with pytest.raises(TypeError, match=what):
        tokenizer(space).step(value, True)


def test_values_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"observation must have the shape \(2, 3\), a row for each time step, not \(2, 4\)"):
        tokenizer(spaces.Box(-1, 1, (3,))).encode(np.zeros((2, 4)), np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="observation must be a list of 2 strings, one for each time step, not list of 1"):
        tokenizer(MISSION).encode(["go"], np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="an episode has at least one time step"):
        tokenizer(BUTTON).encode(np.zeros(0, np.int64), np.zeros(0, np.int64))


def test_values_nested_otherwise_than_their_space_are_refused():
    with pytest.raises(ValueError, match=r"observation must have the keys \['a'\], not \['a', 'b'\]"):
        tokenizer(spaces.Dict(a=BUTTON)).step({"a": 0, "b": 0}, True)
    with pytest.raises(ValueError, match=r"observation must have the keys .*, not int"):
        tokenizer(spaces.Dict(a=BUTTON)).step(3, True)
    with pytest.raises(ValueError, match=r"observation\.a must be a tuple of 1, not tuple of 2"):
        tokenizer(spaces.Dict(a=spaces.Tuple([BUTTON]))).step({"a": (0, 0)}, True)


def test_ids_that_an_action_never_takes_are_refused():
    machine = tokenizer(BUTTON, spaces.MultiDiscrete([3, 4]))
    t = TEXT.size
    with pytest.raises(ValueError, match=rf"action takes ids in \[{t}, {t + 4}\) at place 1, not {t + 4}"):
        machine.decode_action(np.array([t, t + 4]))
    with pytest.raises(ValueError, match="an action has 2 tokens, not 1"):
        machine.decode_action(np.array([t]))


def test_ids_of_another_kind_are_refused():
    v = VOCABULARY
    for ids in (v.discrete_start - 1, v.continuous_start):
        with pytest.raises(
            ValueError, match=rf"ids of discrete values must lie in \[{v.discrete_start}, {v.continuous_start}\), not {ids}"
        ):
            v.decode_discrete(np.array([ids]))
    for ids in (v.continuous_start - 1, v.separator):
        with pytest.raises(
            ValueError, match=rf"ids of continuous values must lie in \[{v.continuous_start}, {v.separator}\), not {ids}"
        ):
            v.decode_continuous(np.array([ids]))
    with pytest.raises(ValueError, match=r"discrete values must lie in \[0, 1024\), not 1024"):
        v.encode_discrete(np.array([5, 1024]))
    with pytest.raises(ValueError, match="not NaN"):
        v.encode_continuous(np.array([np.nan]))


def test_tokens_that_are_no_whole_steps_are_not_read():
    machine = tokenizer(spaces.Discrete(9))
    whole = machine.encode(np.array([4, 5]), np.array([1, 2]))
    for part in (slice(1, 6), slice(0, 5), slice(0, 0)):
        with pytest.raises(ValueError, match="whole time steps"):
            machine.decode(Tokens(*(field[part] for field in whole[:4]), *whole[4:]))


def test_sequences_of_other_vocabularies_or_none_are_not_joined():
    one, other = (tokenizer(BUTTON, vocabulary=v).step(1, True) for v in (VOCABULARY, LITERAL))
    for parts in ([], [one, other]):
        with pytest.raises(ValueError, match="joined must be one at least and of one vocabulary"):
            join(parts)


def test_a_vocabulary_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"at least 1, not \(0, 1024, 1024\)"):
        Vocabulary(0)
    with pytest.raises(ValueError, match="literal ranges need at least as many ids of text as of discrete values, 1024, not 512"):
        Vocabulary(512, literal=True)
    with pytest.raises(ValueError, match=f"the text model has {TEXT.size} pieces, the vocabulary has ids for 100"):
        tokenizer(MISSION, vocabulary=Vocabulary(100))
    with pytest.raises(ValueError, match="observation is text, and no text model was given"):
        Tokenizer(MISSION, BUTTON, VOCABULARY)
    with pytest.raises(ValueError, match="text_every must be at least 1, not 0"):
        tokenizer(BUTTON, text_every=0)
