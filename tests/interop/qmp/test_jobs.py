"""Jobs by QMP: what a real QEMU answers and tells about one, qmon answers and tells, too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.support.images import MIB
from tests.support.job_sides import JobSides, Side
from tests.support.peer import options_of
from tests.support.peers import require
from tests.support.thoroughness import examples

VERBS = ("pause", "resume", "cancel", "complete", "finalize", "dismiss")


def a_disk(folder: Path) -> list[str]:
    (folder / "d0.img").write_bytes(bytes(MIB))
    return options_of("id=d0,file=d0.img,format=raw")


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[JobSides]:
    require("qemu-system-x86_64")
    with JobSides(tmp_path, a_disk) as sides:
        yield sides


def stream(side: Side, **arguments: Any) -> dict[str, Any]:
    return side.ask("block-stream", device="d0", **arguments)


def look(side: Side) -> list[Any]:
    return [side.ask("query-jobs"), side.ask("query-block-jobs"), side.events()]


def test_a_job_with_nothing_to_do_ends_at_once(sides: JobSides) -> None:
    def scene(side: Side) -> Any:
        return stream(side), look(side), stream(side, job_id="other", speed=5), look(side)

    told = sides.same(scene)
    assert [name for name, _ in told[1][2]].count("JOB_STATUS_CHANGE") == 6


def test_a_job_waits_until_it_is_finalized_and_dismissed(sides: JobSides) -> None:
    """And meanwhile its drive is in use."""

    def scene(side: Side) -> Any:
        said: list[Any] = [stream(side, job_id="j", auto_finalize=False, auto_dismiss=False), look(side)]
        said += [side.ask("job-resume", id="j"), side.ask("job-pause", id="j")]
        said += [side.ask("block-job-set-speed", device="j", speed=1), stream(side, job_id="k")]
        said += [side.ask(f"job-{verb}", id="j") for verb in ("complete", "dismiss", "finalize")]
        said += [
            look(side),
            *(side.ask(f"job-{verb}", id="j") for verb in VERBS[:5]),
            stream(side, job_id="k"),
        ]
        said += [side.ask("job-dismiss", id="j"), look(side), stream(side, job_id="k"), look(side)]
        return said

    sides.same(scene)


def test_a_pending_job_can_be_cancelled(sides: JobSides) -> None:
    def scene(side: Side) -> Any:
        said: list[Any] = []
        for command, name in (("job-cancel", "id"), ("block-job-cancel", "device")):
            for dismiss in (True, False):
                said += [stream(side, job_id="j", auto_finalize=False, auto_dismiss=dismiss)]
                said += [side.ask(command, {name: "j"}), look(side), side.ask("block-job-dismiss", id="j")]
                said += [look(side)]
        return said

    sides.same(scene)


def verbs_of_jobs(id: str) -> some.SearchStrategy[tuple[str, dict[str, Any]]]:
    """A command about a job, or one that starts it."""
    switch = some.booleans()
    options = {"auto-finalize": switch, "auto-dismiss": switch, "speed": some.integers(-1, 9)}
    begin = some.fixed_dictionaries({"device": some.just("d0"), "job-id": some.just(id)}, optional=options)
    one = some.sampled_from([*(f"job-{verb}" for verb in VERBS), *(f"block-job-{verb}" for verb in VERBS)])
    asked = one.map(lambda name: (name, {_KEYS.get(name, "id"): id}))
    speed = some.integers(-1, 9).map(lambda n: ("block-job-set-speed", {"device": id, "speed": n}))
    queries: some.SearchStrategy[tuple[str, dict[str, Any]]] = some.sampled_from(
        [("query-jobs", {}), ("query-block-jobs", {})]
    )
    return begin.map(lambda given: ("block-stream", given)) | asked | asked | speed | queries


_KEYS = {f"block-job-{verb}": "device" for verb in ("pause", "resume", "cancel", "complete")}


@settings(max_examples=examples(40))
@given(asked=some.lists(verbs_of_jobs("j") | verbs_of_jobs("k"), max_size=12))
def test_whatever_is_asked_of_jobs_is_answered_as_by_qemu(
    sides: JobSides, asked: list[tuple[str, dict[str, Any]]]
) -> None:
    def scene(side: Side) -> Any:
        said = [side.ask(command, arguments) for command, arguments in asked]
        for id in ("j", "k"):
            said += [side.ask("job-cancel", id=id), side.ask("job-dismiss", id=id)]
        return [*said, side.ask("query-jobs"), side.events()]

    sides.same(scene)


def test_ids_and_speeds_that_no_job_has_are_refused(sides: JobSides) -> None:
    def scene(side: Side) -> Any:
        said: list[Any] = [stream(side, job_id=id) for id in ("", "1x", "a b", "ä", "-")]
        said += [stream(side, job_id="j", speed=-1), stream(side, job_id="1j", speed=-1), look(side)]
        said += [side.ask(f"job-{verb}", id="j") for verb in VERBS]
        for verb in ("pause", "resume", "cancel", "complete"):
            said += [side.ask(f"block-job-{verb}", device="j")]
        said += [side.ask(f"block-job-{verb}", id="j") for verb in ("finalize", "dismiss")]
        said += [side.ask("block-job-set-speed", device="j", speed=1), side.ask("job-pause"), look(side)]
        return said

    sides.same(scene)


def test_a_node_has_no_name_for_its_job(sides: JobSides) -> None:
    """And can't be deleted while it has one."""

    def scene(side: Side) -> Any:
        (side.folder / "n.img").write_bytes(bytes(MIB))
        said = [side.ask("blockdev-add", driver="file", node_name="n", filename="n.img")]
        said += [side.ask("block-stream", device="n"), side.ask("block-stream", device="nosuch")]
        said += [side.ask("block-stream", device="n", job_id="j", auto_finalize=False)]
        said += [side.ask("blockdev-del", node_name="n"), side.ask("job-finalize", id="j")]
        return [*said, side.ask("blockdev-del", node_name="n"), side.events()]

    sides.same(scene)


def test_lines_about_jobs_are_answered_as_by_qemu(sides: JobSides) -> None:
    def scene(side: Side) -> Any:
        lines = ["block_stream d0", "block_stream nosuch", "block_stream d0 -1", "info block-jobs"]
        said = [side.peer.command(line) for line in lines]
        stream(side, job_id="j", auto_finalize=False, auto_dismiss=False)
        verbs = ("pause", "resume", "complete", "set_speed j 5", "cancel", "cancel -f")
        lines = [f"block_job_{verb}" if "j" in verb else f"block_job_{verb} j" for verb in verbs]
        for line in ("info block-jobs", "block_stream d0", *lines, "info block-jobs"):
            said += [side.peer.command(line)]
        return [*said, side.ask("query-block-jobs"), side.events()]

    sides.same(scene)


def test_a_line_waits_for_any_job(sides: JobSides) -> None:
    """And says why the job has failed."""
    side = sides.ours
    for name, path in (("good", "new.img"), ("bad", "absent/new.img")):
        options = {"driver": "file", "filename": path, "size": 512}
        side.client.run("blockdev-create", {"job-id": name, "options": options})
        side.settled(name)  # else the line shows the job's progress, too
    assert side.peer.command("wait job good") == ""
    assert side.peer.command("wait job bad") == (
        "Error: Could not create 'absent/new.img': No such file or directory"
    )
