"""The demonstration: learners that were meta-trained minutes ago meet what they have never seen. One page shows it all."""

import time
from collections.abc import Callable
from pathlib import Path

from quickstudy import measure
from quickstudy.demo import bandits, characters, generalist, tables
from quickstudy.report.html import Section, page, table


def main(images: str | None = None, out: str = "demo", *, say: Callable[[str], None] = print) -> int:
    """Run every stop of the demonstration, print what comes out, write `out/index.html`, and return the exit code, 0.

    `images` is a folder with one sub-folder of pictures per class, used instead of the digits. Raises `ValueError` or `OSError` with
    one sentence if the folder cannot be used or the report cannot be written.
    """
    began = time.perf_counter()
    target = Path(out) / "index.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    # Everything that can be wrong with the material is found before anything is trained.
    material = characters.material_of(images)
    say("1. New characters from a few examples\n")
    sections = characters.show(material, say)
    say("\n2. New bandits, explored like a statistician\n")
    sections += bandits.show(say)
    say("\n3. A new table, read and not trained on\n")
    sections += tables.show(say)
    say("\n4. One network that follows missions, captions pictures and learns new characters\n")
    sections += generalist.show(say)
    seconds = time.perf_counter() - began
    subtitle = (
        "Slow weights are trained on tasks that nobody has met; fast learners then meet new ones. The first two were trained just now."
    )
    text = page("quickstudy: learning to learn", [*sections, Section("Provenance", _provenance(material, seconds))], subtitle=subtitle)
    target.write_text(text, encoding="utf-8")
    say(f"\nDone in {seconds:.0f} s. Open {target}")
    return 0


def _provenance(material: characters.Material, seconds: float) -> str:
    commit = measure.commit()
    facts = {
        "command": "quickstudy demo",
        **characters.facts(material),
        **bandits.facts(),
        **tables.facts(),
        **generalist.facts(),
        "seconds in all, compilation included": round(seconds, 1),
        "commit": "not a checkout" if commit is None else commit[0] + (" with changes" if commit[1] else ""),
        **measure.machine(),
        **measure.versions(),
    }
    return table([(name, str(value)) for name, value in facts.items()], ("what", "value"))
