"""Screens of Atari games, played at random in an emulator."""

import numpy as np

from mergeshift import seed_of
from tasks.pocket.common import shrink
from tasks.sources.built import Built, Pool
from tasks.splits import ADAPT, TEST, TRAIN, VAL
from tasks.task import TASKS, Task

GAMES = (
    "pong",
    "breakout",
    "space_invaders",
    "ms_pacman",
    "seaquest",
    "qbert",
    "freeway",
    "enduro",
    "boxing",
    "bowling",
    "pitfall",
    "frostbite",
    "montezuma_revenge",
    "riverraid",
    "skiing",
    "tennis",
    "battle_zone",
    "zaxxon",
    "centipede",
    "berzerk",
)
CROPS = {TRAIN: 200, ADAPT: 25, VAL: 25, TEST: 50}  # of a game; each split is a play of its own


def _play(game: str, split: int) -> list[np.ndarray]:
    """84-pixel crops of the screen, one every 15 frames of random play."""
    import ale_py
    from ale_py import roms

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    seed = seed_of("games", game, split)
    console = ale_py.ALEInterface()
    console.setInt("random_seed", seed % 2**31)
    console.setFloat("repeat_action_probability", 0.25)
    console.loadROM(str(roms.get_rom_path(game)))
    rng = np.random.default_rng(seed)
    actions = console.getMinimalActionSet()
    crops: list[np.ndarray] = []
    frame = tries = 0
    action = actions[0]
    while len(crops) < CROPS[split]:
        if frame % 4 == 0:
            action = actions[rng.integers(len(actions))]
        console.act(action)
        frame += 1
        if console.game_over():
            console.reset_game()
        if frame > 60 and frame % 15 == 0:
            row, column = rng.integers(20, 116), rng.integers(0, 77)
            crop = console.getScreenRGB()[row : row + 84, column : column + 84]
            tries += 1
            if crop.std() > 4 or tries > 20 * CROPS[split]:  # mostly not an empty corner
                crops.append(crop)
    return crops


def games() -> Pool:
    """20 games, told apart by a crop of the screen."""
    images, labels, splits = [], [], []
    for split, count in CROPS.items():
        for label, game in enumerate(GAMES):
            images.append(shrink(_play(game, split)))
            labels += [label] * count
            splits += [split] * count
    return Pool(np.concatenate(images), np.array(labels), np.array(splits, np.int8))


TASKS.add(
    "games",
    Task(
        name="games",
        title="Games",
        kind="photograph",
        noun="a screen of a game",
        classes=tuple(game.replace("_", " ") for game in GAMES),
        template="a screen of the game {}",
        sizes=(4000, 500, 500, 1000),
        pixels="4b0d76136abbda9a",
        source=Built(games, rights="ale-py, GPL-2.0; rights in the ROMs are unclear"),
        note="frames of random play in the emulator of ale-py",
    ),
)
