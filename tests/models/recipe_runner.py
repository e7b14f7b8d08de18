"""Runs recipes of docs/for-model-owners.md, each in a process forked from this one: imports cost 2.5 s of CPU.

Run by the Python of the exporters' environment. Reads one folder a line, runs the recipe in it, with what is said
in the file `said`, and answers with the exit code. What is imported here is what most recipes begin with: each imports
what it needs all the same.
"""

import importlib
import os
import runpy
import sys

PRELOADED = ("numpy", "pandas", "pyarrow.parquet", "onnx", "sklearn.ensemble", "sklearn.pipeline", "skl2onnx")


def run(folder: str) -> None:
    """Run the recipe in this process."""
    os.chdir(folder)
    said = os.open("said", os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(said, stream)
    os.environ["HOME"] = os.path.dirname(folder)
    sys.argv, sys.path[0] = ["recipe.py"], folder
    runpy.run_path("recipe.py", run_name="__main__")


def main() -> None:
    """Fork for each folder."""
    for module in PRELOADED:
        importlib.import_module(module)
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if not child:
            run(line.removesuffix("\n"))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
