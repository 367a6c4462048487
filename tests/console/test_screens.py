"""The screens in the manual are what the program shows, played anew."""

from __future__ import annotations

import re

import pytest

from tests.console.scenes import SCENES, Stage, shape
from tests.support.picture import text_of
from tests.support.processes import CHECKOUT

SCREENS = CHECKOUT / "docs" / "screens"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """All scenes, played: guests read and write through it all, which they check themselves."""
    stage = Stage(tmp_path_factory.mktemp("s"))
    for scene in SCENES:
        scene(stage)
    return stage


def test_every_screen_of_the_manual_is_of_a_scene_and_shown_in_it(stage: Stage) -> None:
    assert {path.stem for path in SCREENS.iterdir()} == set(stage.screens)
    page = (CHECKOUT / "docs" / "console.rst").read_text()
    assert {name for name in stage.screens if f"screens/{name}.svg" not in page} == set()


@pytest.mark.parametrize("name", sorted(path.stem for path in SCREENS.iterdir()))
def test_the_program_shows_what_the_manual_says(stage: Stage, name: str) -> None:
    assert shape(text_of(stage.screens[name])) == shape(text_of((SCREENS / f"{name}.svg").read_text()))


@pytest.mark.parametrize("name", sorted({path.stem for path in SCREENS.iterdir()} - {"dumb"}))
def test_the_program_shows_it_in_the_colours_of_the_manual(stage: Stage, name: str) -> None:
    played, shown = (colours(svg) for svg in (stage.screens[name], (SCREENS / f"{name}.svg").read_text()))
    assert played == shown
    assert len(shown) > 1


def colours(svg: str) -> set[str]:
    return set(re.findall(r"#[0-9a-f]{6}", svg))


def test_no_row_is_wider_than_its_terminal(stage: Stage) -> None:
    assert max(map(len, text_of(stage.screens["narrow"]).split("\n"))) <= 60
    assert all(len(row) <= 80 for screen in stage.screens.values() for row in text_of(screen).split("\n"))


def test_numbers_alone_do_not_make_another_screen() -> None:
    assert shape("[##...]  7%  3 MiB/64 MiB  4 MiB/s, 1 min 2 s left") == shape(
        "[####.] 70%  44.5 MiB/64 MiB  980 KiB/s, 8 s left"
    )
    assert shape("running") != shape("paused")
