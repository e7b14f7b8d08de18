"""A tree ensemble as LLVM's text form: what a compiler would make of nested ifs with the thresholds as constants.

`run(table, rows, answer)` goes through the rows in blocks, and in a block tree by tree: the code of one tree and the
rows of a block fit into the processor's first caches. Each row's sums are made in the order of the trees.

The text is written directly: LLVM's own objects for it cost ten times the compilation without optimisation.
"""

import struct
from collections.abc import Iterator

from muse_stream.models.compiled.ensemble import Aggregate, Branch, Compare, Ensemble, Finish, Tree

BLOCK_ROWS = 128
ENTRY = "run"
CONSTANTS = {True: "true", False: "false"}


def source(ensemble: Ensemble) -> str:
    """Return the text of a module whose function `run(float*, i64, float*)` answers rows."""
    parts = ["declare float @expf(float)", "declare float @llvm.fabs.f32(float)"]
    for number, tree in enumerate(ensemble.trees):
        parts += _tree(number, tree, ensemble)
    parts += _logistic()
    parts += _finish(ensemble)
    parts += _block(ensemble)
    parts += _run(ensemble)
    return "\n".join(parts)


def _float(value: float) -> str:
    """Return a float32 as LLVM writes it: the bits of the double of the same value."""
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def _tree(number: int, tree: Tree, ensemble: Ensemble) -> Iterator[str]:
    """`@tree_N(row, sums)`: adds what the leaf says, or (one target) returns it."""
    one = ensemble.targets == 1
    yield f"define internal {'float' if one else 'void'} @tree_{number}(float* %row, float* %sums) noinline nounwind {{"
    yield "entry:\n br label %n0"
    for place, node in enumerate(tree):
        yield f"n{place}:"
        if isinstance(node, Branch):
            # une (not equal or not a number) is what C's != is; the others are false of what is no number, unless the
            # node sends that the way of a yes
            unordered = node.missing_is_yes or node.compare is Compare.BRANCH_NEQ
            yield f" %p{place} = getelementptr float, float* %row, i64 {node.feature}"
            yield f" %v{place} = load float, float* %p{place}"
            compare = f"fcmp {'u' if unordered else 'o'}{node.compare.value} float"
            yield f" %c{place} = {compare} %v{place}, {_float(node.threshold)}"
            yield f" br i1 %c{place}, label %n{node.yes}, label %n{node.no}"
        elif one:
            yield f" ret float {_float(node.weights[0][1])}"
        else:
            for index, (target, weight) in enumerate(node.weights):
                name = f"{place}_{index}"
                yield f" %q{name} = getelementptr float, float* %sums, i64 {target}"
                yield f" %s{name} = load float, float* %q{name}"
                yield from _join(ensemble, number, f"s{name}", _float(weight), f"t{name}")
                yield f" store float %t{name}, float* %q{name}"
            yield " ret void"
    yield "}"


def _join(ensemble: Ensemble, number: int, so_far: str, value: str, name: str) -> Iterator[str]:
    """`%name` = what a target has so far, and one more value."""
    if ensemble.aggregate in (Aggregate.SUM, Aggregate.AVERAGE):
        yield f" %{name} = fadd float %{so_far}, {value}"
    elif number == 0:
        yield f" %{name} = select i1 true, float {value}, float {value}"
    else:
        compare = "olt" if ensemble.aggregate is Aggregate.MIN else "ogt"
        yield f" %{name}_c = fcmp {compare} float {value}, %{so_far}"
        yield f" %{name} = select i1 %{name}_c, float {value}, float %{so_far}"


def _logistic() -> Iterator[str]:
    """onnxruntime's form: v = 1 / (1 + exp(-|x|)); 1 - v for a negative x."""
    yield "define internal float @logistic(float %x) nounwind {"
    yield " %a = call float @llvm.fabs.f32(float %x)\n %m = fneg float %a\n %e = call float @expf(float %m)"
    yield f" %d = fadd float {_float(1.0)}, %e\n %v = fdiv float {_float(1.0)}, %d"
    yield f" %o = fsub float {_float(1.0)}, %v\n %n = fcmp olt float %x, {_float(0.0)}"
    yield " %r = select i1 %n, float %o, float %v\n ret float %r\n}"


def _finish(ensemble: Ensemble) -> Iterator[str]:
    """`@finish(sums, answer)`: a row's sums become its answer."""
    yield "define internal void @finish(float* %sums, float* %answer) nounwind {"
    values = []
    for target in range(ensemble.targets):
        yield f" %p{target} = getelementptr float, float* %sums, i64 {target}\n %s{target} = load float, float* %p{target}"
        value = f"%s{target}"
        if ensemble.aggregate is Aggregate.AVERAGE:
            yield f" %d{target} = fdiv float {value}, {_float(float(len(ensemble.trees)))}"
            value = f"%d{target}"
        if ensemble.base:
            yield f" %b{target} = fadd float {value}, {_float(ensemble.base[target])}"
            value = f"%b{target}"
        values.append(value)
    for column, (lines, value) in enumerate(_columns(ensemble.finish, values)):
        yield from lines
        yield f" %o{column} = getelementptr float, float* %answer, i64 {column}\n store float {value}, float* %o{column}"
    yield " ret void\n}"


def _columns(finish: Finish, values: list[str]) -> Iterator[tuple[list[str], str]]:
    """Yield for each column of the answer the lines that make it, and its name."""
    match finish:
        case Finish.NONE:
            yield from (([], value) for value in values)
        case Finish.LOGISTIC:
            for place, value in enumerate(values):
                yield [f" %l{place} = call float @logistic(float {value})"], f"%l{place}"
        case Finish.SOFTMAX:
            yield from _softmax(values)
        case Finish.COMPLEMENT:
            yield [f" %c = fsub float {_float(1.0)}, {values[0]}"], "%c"
            yield [], values[0]
        case Finish.TWO_LOGISTICS:
            lines = [f" %m = fneg float {values[0]}", " %l0 = call float @logistic(float %m)"]
            yield lines, "%l0"
            yield [f" %l1 = call float @logistic(float {values[0]})"], "%l1"
        case Finish.OPPOSITE:
            yield [f" %m = fneg float {values[0]}"], "%m"
            yield [], values[0]

def _softmax(values: list[str]) -> Iterator[tuple[list[str], str]]:
    lines, highest = [], _float(-3.4028234663852886e38)
    for place, value in enumerate(values):
        lines.append(f" %h{place}_c = fcmp ogt float {value}, {highest}")
        lines.append(f" %h{place} = select i1 %h{place}_c, float {value}, float {highest}")
        highest = f"%h{place}"
    total = _float(0.0)
    for place, value in enumerate(values):
        lines.append(f" %w{place} = fsub float {value}, {highest}")
        lines.append(f" %e{place} = call float @expf(float %w{place})")
        lines.append(f" %t{place} = fadd float {total}, %e{place}")
        total = f"%t{place}"
    for place in range(len(values)):
        yield [*lines, f" %r{place} = fdiv float %e{place}, {total}"], f"%r{place}"
        lines = []


def _block(ensemble: Ensemble) -> Iterator[str]:
    """`@block(table, rows, answer)`, at most BLOCK_ROWS rows."""
    targets = ensemble.targets
    yield "define internal void @block(float* %table, i64 %rows, float* %answer) noinline nounwind {\nentry:"
    yield f" %sums = alloca [{BLOCK_ROWS * targets} x float]"
    yield f" %first = getelementptr [{BLOCK_ROWS * targets} x float], [{BLOCK_ROWS * targets} x float]* %sums, i64 0, i64 0"
    yield f" %cells = mul i64 %rows, {targets}\n br label %clear"
    yield "clear:\n %z = phi i64 [0, %entry], [%z1, %clear]\n %zp = getelementptr float, float* %first, i64 %z"
    yield f" store float {_float(0.0)}, float* %zp\n %z1 = add i64 %z, 1\n %zc = icmp ult i64 %z1, %cells"
    yield " br i1 %zc, label %clear, label %start_0"
    for number in range(len(ensemble.trees)):
        yield f"start_{number}:\n br label %tree_{number}"
        yield f"tree_{number}:\n %i{number} = phi i64 [0, %start_{number}], [%j{number}, %tree_{number}]"
        yield f" %x{number} = mul i64 %i{number}, {ensemble.width}"
        yield f" %r{number} = getelementptr float, float* %table, i64 %x{number}"
        yield f" %y{number} = mul i64 %i{number}, {targets}"
        yield f" %q{number} = getelementptr float, float* %first, i64 %y{number}"
        arguments = f"(float* %r{number}, float* %q{number})"
        if targets == 1:
            yield f" %v{number} = call float @tree_{number}{arguments}\n %s{number} = load float, float* %q{number}"
            yield from _join(ensemble, number, f"s{number}", f"%v{number}", f"t{number}")
            yield f" store float %t{number}, float* %q{number}"
        else:
            yield f" call void @tree_{number}{arguments}"
        yield f" %j{number} = add i64 %i{number}, 1\n %c{number} = icmp ult i64 %j{number}, %rows"
        yield f" br i1 %c{number}, label %tree_{number}, label %start_{number + 1}"
    yield f"start_{len(ensemble.trees)}:\n br label %finish"
    yield f"finish:\n %i = phi i64 [0, %start_{len(ensemble.trees)}], [%j, %finish]\n %y = mul i64 %i, {targets}"
    yield f" %s = getelementptr float, float* %first, i64 %y\n %x = mul i64 %i, {ensemble.columns}"
    yield " %o = getelementptr float, float* %answer, i64 %x\n call void @finish(float* %s, float* %o)"
    yield " %j = add i64 %i, 1\n %c = icmp ult i64 %j, %rows\n br i1 %c, label %finish, label %end\nend:\n ret void\n}"


def _run(ensemble: Ensemble) -> Iterator[str]:
    """`@run(table, rows, answer)` for any positive number of rows."""
    yield f"define void @{ENTRY}(float* %table, i64 %rows, float* %answer) nounwind {{\nentry:\n br label %loop"
    yield f"loop:\n %i = phi i64 [0, %entry], [%j, %loop]\n %left = sub i64 %rows, %i"
    yield f" %few = icmp ult i64 %left, {BLOCK_ROWS}\n %n = select i1 %few, i64 %left, i64 {BLOCK_ROWS}"
    yield f" %x = mul i64 %i, {ensemble.width}\n %t = getelementptr float, float* %table, i64 %x"
    yield f" %y = mul i64 %i, {ensemble.columns}\n %a = getelementptr float, float* %answer, i64 %y"
    yield " call void @block(float* %t, i64 %n, float* %a)"
    yield f" %j = add i64 %i, {BLOCK_ROWS}\n %c = icmp ult i64 %j, %rows\n br i1 %c, label %loop, label %end"
    yield "end:\n ret void\n}"
