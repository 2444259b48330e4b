"""Many images without a window, in Slicer or in plain Python:

    Slicer --no-splash --no-main-window --python-script BreastUSAIBatch.py INPUT... --output DIR [options]
    python BreastUSAIBatch.py INPUT... --output DIR [options]

Inputs, options, files and exit status are those of ``breastusai run``. Slicer ends with that status. It does the work in its own process,
which cannot be ended for one input: --time-limit and --memory-limit are for plain Python.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

# Installed, the library lies beside this script's folder; in the source tree one folder further up.
for _folder in Path(__file__).resolve().parents[1:3]:
    if importlib.util.find_spec("BreastUSAILib") is None and (_folder / "BreastUSAILib").is_dir():
        sys.path.insert(0, str(_folder))


def application():
    """The package slicer where this runs inside the Slicer application, None elsewhere. Imports nothing."""
    slicer = sys.modules.get("slicer")
    return slicer if getattr(slicer, "app", None) is not None else None


def limited(arguments):
    """Whether a limit is given and no --jobs of the user's own."""
    parser = argparse.ArgumentParser(add_help=False)
    for option in ("--time-limit", "--memory-limit"):
        parser.add_argument(option, nargs="?")
    parser.add_argument("--jobs", "-j", nargs="?")
    given, _others = parser.parse_known_args(arguments)
    return given.jobs is None and (given.time_limit or given.memory_limit) is not None


def main(arguments):
    """Run the batch; returns the exit status."""
    from BreastUSAILib import cli

    if application() is not None:
        from BreastUSAILib import slicer_install

        missing = slicer_install.missing()
        if missing:
            print(
                f"BreastUSAI needs {', '.join(missing)} in this Slicer; open the module BreastUSAI Segment once and "
                "press Apply to install them.",
                file=sys.stderr,
            )
            return 2
        for note in slicer_install.notes():
            print(note, file=sys.stderr)
        if limited(arguments):
            print(
                "error: inside Slicer the work is done in Slicer's own process, which cannot be ended for one input; leave --time-limit and "
                "--memory-limit out, or run this script in plain Python (python BreastUSAIBatch.py), where they count.",
                file=sys.stderr,
            )
            return 2
        # Worker processes would each be a whole Slicer: work in this one. The user's own --jobs or -j comes later and counts.
        arguments = ["--jobs", "0", *arguments]
    return cli.main(["run", *arguments])


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        # Without this, Slicer would stay open for ever after an error.
        import traceback

        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    if application() is not None:
        application().util.exit(status)
    else:
        sys.exit(status)
