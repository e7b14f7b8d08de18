"""Text for LLVM -> a function in this process (the one module that imports `llvmlite`)."""

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm

Answer = Callable[[int, int, int], None]
"""`(table, rows, answer)`: two addresses of float32 and a count."""
PROTOTYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)


@functools.cache
def _target() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple()


def compiled(text: str, entry: str) -> Answer:
    """Compile a module and return its function, which keeps the code in memory as long as somebody has it.

    No pass is run over the text: they take ten times as long as the code generation, and nested ifs leave them little
    to do. The function may be called from several threads, and lets other threads run meanwhile.
    """
    machine = _target().create_target_machine(opt=0)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text), machine)
    engine.finalize_object()
    function = PROTOTYPE(engine.get_function_address(entry))

    def answer(table: int, rows: int, result: int, _engine: Any = engine) -> None:
        function(table, rows, result)

    return answer
