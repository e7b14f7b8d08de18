"""Text for LLVM -> object code -> a function in this process (the one module that imports `llvmlite`).

As a script it reads a text and writes the optimised object code: what takes seconds is done by a process of its own,
which takes its memory with it when it ends, and whose crash costs nothing but the optimisation.
"""

import ctypes
import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import llvmlite
import llvmlite.binding as llvm

Answer = Callable[[int, int, int], None]
"""`(table, rows, answer)`: two addresses and a count."""
PROTOTYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
PR_SET_PDEATHSIG = 1


def version() -> str:
    """Return what object code depends on beside the text: compiler and processor."""
    compiler = ".".join(map(str, llvm.llvm_version_info))
    processor = f"{llvm.get_process_triple()}, {llvm.get_host_cpu_name()}, {llvm.get_host_cpu_features().flatten()}"
    return f"llvmlite {llvmlite.__version__}, LLVM {compiler}, {processor}"


@functools.cache
def _target() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple()


def object_code(text: str, *, optimised: bool) -> bytes:
    """Compile a module; `optimised`, for this very processor, takes some twenty times as long.

    Passes over the text are not run: they take as long again, and find nothing in straight code. No option lets the
    compiler change what is computed: no fast-math flags, no fused multiply-add.
    """
    module = llvm.parse_assembly(text)
    if not optimised:
        return bytes(_target().create_target_machine(opt=0).emit_object(module))
    features = llvm.get_host_cpu_features().flatten()
    machine = _target().create_target_machine(opt=1, cpu=llvm.get_host_cpu_name(), features=features)
    return bytes(machine.emit_object(module))


def linked(code: bytes, entry: str) -> Answer:
    """Put object code into memory and return its function, which keeps it there as long as somebody has the function.

    It may be called from several threads, and lets other threads run meanwhile.
    """
    # The engine takes the machine, and frees it when it goes: each needs its own.
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target().create_target_machine(opt=0))
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    function = PROTOTYPE(engine.get_function_address(entry))

    def answer(table: int, rows: int, result: int, _engine: Any = engine) -> None:
        function(table, rows, result)

    return answer


def main() -> None:
    """Read a text from standard input, write optimised object code to standard output."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # who wanted it is gone: nobody reads it
    os.nice(19)
    sys.stdout.buffer.write(object_code(sys.stdin.read(), optimised=True))


if __name__ == "__main__":
    main()
