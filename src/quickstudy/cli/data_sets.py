"""`quickstudy data`: data sets that are fetched from their homes, and demonstrations that are made here."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quickstudy import catalog
from quickstudy.cli.flags import Parser, count
from quickstudy.cli.show_progress import show_progress

if TYPE_CHECKING:
    from quickstudy.core import Split

_EPILOG = """build makes demonstrations for the generalist agent, and goes on where an earlier build stopped. card says what was built;
check reads all of it and names what is damaged. export writes recorded episodes of a task as a new data set in Minari's folder; import
takes a data set from there into the domain minari."""


def data_command(arguments: Sequence[str]) -> int:
    """List the data sets, fetch one, or build, describe, check, export and import demonstrations."""
    parser = Parser("data", "Data sets, fetched from their official homes or made here.", _EPILOG)
    parser.add_argument("action", choices=tuple(_ACTIONS))
    parser.add_argument("name", nargs="?", help="a data set, for fetch; Minari's name of one, for import; otherwise a domain")
    parser.add_argument("task", nargs="?", help="a task, for export")
    parser.add_argument("--out", type=Path, metavar="DIR", help="build, card, check, import: the domain's; in the cache by default")
    group = parser.add_argument_group("build and export")
    group.add_argument(
        "--episodes", type=count, help="seeds of each task, for build rounded up to whole blocks of 100; 1000 by default"
    )
    group.add_argument(
        "--tasks",
        "--levels",
        metavar="NAMES",
        help="tasks (of BabyAI: levels) or groups (BabyAI: single-room; Meta-World: mt10), with commas between; all by default",
    )
    group.add_argument("--mixture", metavar="NAME", help="build: all that this preset of the generalist needs, such as laptop")
    group.add_argument("--split", choices=("train", "valid", "test"), help="train by default")
    group.add_argument("--jobs", type=count, default=1, help="how many processes work at it; 1 by default")
    group.add_argument("--to-minari", metavar="ID", help="export: the new data set's name, such as babyai/go-to-local-v0")
    found = parser.read(arguments)
    if found.task is not None and found.action != "export":
        raise ValueError(f"there is no place for {found.task!r} in quickstudy data {found.action}; only export takes a task")
    if found.mixture and (found.name, found.out, found.tasks, found.episodes, found.split) != (None,) * 5:
        raise ValueError(
            "--mixture names all that is to be built, in the cache: leave out the domain, --out, --tasks, --episodes, --split"
        )
    found.tasks = "all" if found.tasks is None else found.tasks
    found.episodes, found.split = found.episodes or 1_000, found.split or "train"
    return _ACTIONS[found.action](found)


def _list(found: argparse.Namespace) -> int:
    from quickstudy import data
    from quickstudy.generalist.data import build, store

    for name, entry in data.DATA_SETS.items():
        print(f"{name:12} {entry.description}; licence {entry.licence}; {'fetched' if data.is_fetched(name) else 'not fetched'}")
    for domain in build.DOMAINS:
        try:
            shards = [store.Shard.open(path) for path in store.shard_paths(build.folder_of(domain))]
        except OSError as error:
            print(f"{domain:12} {build.DOMAINS[domain].summary}; {error}")
            continue
        episodes = sum(len(shard.episodes) for shard in shards)
        built = f"{episodes:,} episodes of {len({shard.facts['task'] for shard in shards})} tasks built" if shards else "not built"
        print(f"{domain:12} {build.DOMAINS[domain].summary}; {built}")
    return 0


def _fetch(found: argparse.Namespace) -> int:
    from quickstudy import data

    if found.name is None:
        raise ValueError(f"fetch needs the name of a data set: {', '.join(data.DATA_SETS)}")
    print(data.fetch(catalog.require(found.name, data.DATA_SETS, "data set")))
    return 0


def _build(found: argparse.Namespace) -> int:
    from quickstudy.generalist.data import build, card

    for domain, tasks, split, episodes in _wanted(found):
        total = sum(work.size for work in build.plan(domain, tasks, episodes=episodes, split=split))
        with show_progress(f"{domain} {split}", total=total) as report:
            built = build.build(domain, tasks, report=report, episodes=episodes, split=split, jobs=found.jobs, folder=found.out)
        for path in built.set_aside:
            print(f"a shard was damaged and made anew; the damaged one is kept as {path}")
        print(f"{built.made} blocks made, {built.kept} were there; {card.write_card(domain, found.out)} says what is in them")
    return 0


def _wanted(found: argparse.Namespace) -> list[tuple[str, list[str], "Split", int]]:
    """Domain, tasks, split and episodes of each build that is asked for."""
    if found.mixture is None:
        return [(_domain(found), found.tasks.split(","), found.split, found.episodes)]
    from quickstudy.generalist.mixtures import MIXTURES

    return MIXTURES[catalog.require(found.mixture, MIXTURES, "mixture")]().builds()


def _card(found: argparse.Namespace) -> int:
    from quickstudy.generalist.data import card

    print(card.write_card(_domain(found), found.out).read_text(), end="")
    return 0


def _check(found: argparse.Namespace) -> int:
    from quickstudy.generalist.data import build, store

    folder = found.out or build.folder_of(_domain(found))
    shards, complaints = store.shard_paths(folder), store.complaints(folder)
    if not shards:
        raise FileNotFoundError(f"there are no shards in {folder}: `quickstudy data build` makes them")
    for complaint in complaints:
        print(complaint)
    if complaints:
        remedy = "import" if found.name == "minari" else "build"
        what = "as many episodes of their tasks and splits" if remedy == "build" else "the data set"
        raise OSError(f"{len(complaints)} of {len(shards)} shards are damaged: {remedy} {what} again, or delete them")
    print(f"{len(shards)} shards are whole")
    return 0


def _export(found: argparse.Namespace) -> int:
    from quickstudy.generalist.data import minari_files, reading

    domain = _domain(found)
    for what, given in (("a task", found.task), ("a name: --to-minari ID", found.to_minari)):
        if given is None:
            raise ValueError(f"export needs {what}")
    episodes = reading.episodes(domain, found.task, found.split, found.episodes)
    name = minari_files.export(domain, found.task, found.split, episodes, found.to_minari)
    print(f"{len(episodes)} episodes are the Minari data set {name} in {minari_files.minari_folder()}")
    return 0


def _import(found: argparse.Namespace) -> int:
    from quickstudy.generalist.data import card, minari_files

    if found.name is None:
        raise ValueError(f"import needs the name of a Minari data set: {', '.join(minari_files.names()) or 'there is none'}")
    done = minari_files.import_into_store(found.name, found.out)
    told = card.write_card("minari", found.out)
    print(f"{done.episodes} episodes imported as minari/{done.folder.name}, {done.rejected} rejected; {told} says what is in them")
    return 0


def _domain(found: argparse.Namespace) -> str:
    from quickstudy.generalist.data import build

    if found.name is None:
        raise ValueError(f"{found.action} needs the name of a domain: {', '.join(build.DOMAINS)}")
    return catalog.require(found.name, build.DOMAINS, "domain")


_ACTIONS = {"list": _list, "fetch": _fetch, "build": _build, "card": _card, "check": _check, "export": _export, "import": _import}
