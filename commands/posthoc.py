"""`pellucid posthoc`: sparse coders fitted to a dense run."""

from pathlib import Path

from pellucid.commands.options import run_folder
from pellucid.errors import EXIT_OK, UserError
from pellucid.settings.kinds import shown

HELP = """\
usage: pellucid posthoc RUN [--kind KIND] [--no-twin] [run=FOLDER] [field=value ...]

Fits coders to all MLPs of a dense run at once and writes the spliced model as a run. Of k, width
and lr several values may be given, as in k=16,32,64: one run for each k and width, at the rate
whose spliced model best predicts training rows not used before. KIND is transcoder (the default),
skip_transcoder, crosslayer_transcoder, sae or matryoshka; rule=batch_topk keeps the k strongest
units of a token on average, those of a batch while it fits and those above a threshold afterwards.

Beside each run, in its folder frozen/, its twin is made from the same activations: a dictionary
that stays as it was drawn, of which the encoder alone is fitted. `pellucid eval` of the run shows
it as a control. A step of it takes nearly as long as one of the coders; --no-twin leaves it out.
"""


def posthoc(argv: list[str]) -> int:
    """Fit coders to a run, splice them in, and write a run."""
    if {"-h", "--help"} & set(argv):
        from pellucid.posthoc.config import PosthocConfig
        from pellucid.settings import words

        rows = [f"  {row.path}={row.value}" for row in words.describe(PosthocConfig())]
        print(HELP + "\nfields and defaults:\n" + "\n".join(rows))
        return EXIT_OK
    twin = "--no-twin" not in argv
    path, out, given = _read([word for word in argv if word != "--no-twin"])
    run_folder(path)
    from pellucid.posthoc import posthoc as fit

    fit(Path(path), given, out, twin=twin)
    return EXIT_OK


def _read(argv: list[str]) -> tuple[str, str | None, list[str]]:
    """The run, the folder to write, and the fields."""
    words = list(argv)
    while "--kind" in words:
        at = words.index("--kind")
        words[at : at + 2] = [f"kind={''.join(words[at + 1 : at + 2])}"]
    words = ["kind=" + w.removeprefix("--kind=") if w.startswith("--kind=") else w for w in words]
    if option := next((word for word in words if word.startswith("-")), None):
        raise UserError(
            f"{shown(option)} is not an option of posthoc; expected --kind, --no-twin or --help"
        )
    runs = [word for word in words if "=" not in word]
    if len(runs) != 1:
        raise UserError(f"posthoc takes the folder of one dense run; got {len(runs)}")
    outs = [word.removeprefix("run=") for word in words if word.startswith("run=")]
    if outs and not outs[-1]:
        raise UserError("run = '' is not accepted; expected the path of a folder")
    given = [word for word in words if "=" in word and not word.startswith("run=")]
    return runs[0], outs[-1] if outs else None, given
