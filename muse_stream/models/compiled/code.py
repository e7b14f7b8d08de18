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


def source(ensemble: Ensemble) -> str:
    """Return the text of a module whose function `run(table, rows, answer)` answers any positive number of rows.

    Table and answer are row by row, of float or double as the ensemble says.
    """
    parts = [*_functions()]
    for number, tree in enumerate(ensemble.trees):
        parts += _tree(number, tree, ensemble)
    parts += _finish(ensemble)
    parts += _block(ensemble)
    parts += _run(ensemble)
    return "\n".join(parts)


def _number(value: float) -> str:
    """Return a number as LLVM writes it, for float32 too: the bits of the double of the same value."""
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


ONE, ZERO = _number(1.0), _number(0.0)


def _type(ensemble: Ensemble) -> str:
    return "double" if ensemble.double else "float"


def _tree(number: int, tree: Tree, ensemble: Ensemble) -> Iterator[str]:
    """`@tree_N(row, sums)`: adds what the leaf says, or (one target) returns it."""
    one, kind = ensemble.targets == 1, _type(ensemble)
    yield f"define internal {kind if one else 'void'} @tree_{number}(ptr %row, ptr %sums) noinline nounwind {{"
    yield "entry:\n br label %n0"
    for place, node in enumerate(tree):
        yield f"n{place}:"
        if isinstance(node, Branch):
            # une (not equal or not a number) is what C's != is; the others are false of what is no number, unless the
            # node sends that the way of a yes
            unordered = node.missing_is_yes or node.compare is Compare.BRANCH_NEQ
            compare = f"fcmp {'u' if unordered else 'o'}{node.compare.value} {kind}"
            yield f" %p{place} = getelementptr {kind}, ptr %row, i64 {node.feature}"
            yield f" %v{place} = load {kind}, ptr %p{place}"
            yield f" %c{place} = {compare} %v{place}, {_number(node.threshold)}"
            yield f" br i1 %c{place}, label %n{node.yes}, label %n{node.no}"
        elif one:
            yield f" ret {kind} {_number(node.weights[0][1])}"
        else:
            for index, (target, weight) in enumerate(node.weights):
                name = f"{place}_{index}"
                yield f" %q{name} = getelementptr {kind}, ptr %sums, i64 {target}"
                yield f" %s{name} = load {kind}, ptr %q{name}"
                yield from _join(ensemble, number, f"s{name}", _number(weight), f"t{name}")
                yield f" store {kind} %t{name}, ptr %q{name}"
            yield " ret void"
    yield "}"


def _join(ensemble: Ensemble, number: int, so_far: str, value: str, name: str) -> Iterator[str]:
    """`%name` = what a target has so far, and one more value."""
    kind = _type(ensemble)
    if ensemble.aggregate in (Aggregate.SUM, Aggregate.AVERAGE):
        yield f" %{name} = fadd {kind} %{so_far}, {value}"
    elif number == 0:
        yield f" %{name} = select i1 true, {kind} {value}, {kind} {value}"
    else:
        compare = "olt" if ensemble.aggregate is Aggregate.MIN else "ogt"
        yield f" %{name}_c = fcmp {compare} {kind} {value}, %{so_far}"
        yield f" %{name} = select i1 %{name}_c, {kind} {value}, {kind} %{so_far}"


def _functions() -> Iterator[str]:
    """onnxruntime's form of the logistic function, in float32: v = 1 / (1 + exp(-|x|)); 1 - v for a negative x."""
    yield "declare float @expf(float)\ndeclare float @llvm.fabs.f32(float)"
    yield "define internal float @logistic(float %x) nounwind {"
    yield " %a = call float @llvm.fabs.f32(float %x)\n %m = fneg float %a\n %e = call float @expf(float %m)"
    yield f" %d = fadd float {ONE}, %e\n %v = fdiv float {ONE}, %d"
    yield f" %o = fsub float {ONE}, %v\n %n = fcmp olt float %x, {ZERO}"
    yield " %r = select i1 %n, float %o, float %v\n ret float %r\n}"


def _finish(ensemble: Ensemble) -> Iterator[str]:
    """`@finish(sums, answer)`: a row's sums become its answer."""
    kind, answer = _type(ensemble), "double" if ensemble.double_answer else "float"
    adds = ensemble.aggregate in (Aggregate.SUM, Aggregate.AVERAGE)
    base = ensemble.base or (() if adds else (0.0,) * ensemble.targets)  # -0.0 + 0.0 is 0.0, which a sum begins with
    yield "define internal void @finish(ptr %sums, ptr %answer) nounwind {"
    values = []
    for target in range(ensemble.targets):
        value = f"%s{target}"
        yield f" %p{target} = getelementptr {kind}, ptr %sums, i64 {target}\n {value} = load {kind}, ptr %p{target}"
        if ensemble.aggregate is Aggregate.AVERAGE:
            yield f" %d{target} = fdiv {kind} {value}, {_number(float(len(ensemble.trees)))}"
            value = f"%d{target}"
        if base:
            yield f" %b{target} = fadd {kind} {value}, {_number(base[target])}"
            value = f"%b{target}"
        values.append(value)
    columns = _Columns(kind, values)
    yield from columns.lines(ensemble.finish)
    for column, (given, value) in enumerate(columns.answers):
        value = columns.as_type(answer, given, value, f"a{column}")  # noqa: PLW2901
        yield from columns.taken()
        yield f" %o{column} = getelementptr {answer}, ptr %answer, i64 {column}\n store {answer} {value}, ptr %o{column}"
    yield " ret void\n}"


class _Columns:
    """The lines that make each column of a row's answer of the numbers that the trees gave."""

    def __init__(self, kind: str, values: list[str]) -> None:
        self._kind = kind
        self._values = values
        self._lines: list[str] = []
        self.answers: list[tuple[str, str]] = []
        """Type and name of each column."""

    def lines(self, finish: Finish) -> list[str]:
        """Return the lines; `answers` has the columns then."""
        kind, value = self._kind, self._values[0]
        match finish:
            case Finish.NONE:
                self.answers = [(kind, one) for one in self._values]
            case Finish.LOGISTIC:
                self.answers = [self._logistic(one, f"f{place}") for place, one in enumerate(self._values)]
            case Finish.SOFTMAX:
                self._softmax()
            case Finish.COMPLEMENT:
                self._lines.append(f" %c = fsub {kind} {ONE}, {value}")
                self.answers = [(kind, "%c"), (kind, value)]
            case Finish.OPPOSITE | Finish.TWO_LOGISTICS:
                self._lines.append(f" %m = fneg {kind} {value}")
                self.answers = [(kind, "%m"), (kind, value)]
                if finish is Finish.TWO_LOGISTICS:
                    both = enumerate(("%m", value))
                    self.answers = [self._logistic(one, f"f{place}") for place, one in both]
        return self.taken()

    def taken(self) -> list[str]:
        """Return the lines since the last call."""
        lines, self._lines = self._lines, []
        return lines

    def as_type(self, kind: str, given: str, value: str, name: str) -> str:
        """Return a value as another type of floats."""
        if kind == given:
            return value
        self._lines.append(f" %{name} = {'fptrunc' if kind == 'float' else 'fpext'} {given} {value} to {kind}")
        return f"%{name}"

    def _logistic(self, value: str, name: str) -> tuple[str, str]:
        value = self.as_type("float", self._kind, value, f"{name}s")
        self._lines.append(f" %{name} = call float @logistic(float {value})")
        return "float", f"%{name}"

    def _softmax(self) -> None:
        values = [self.as_type("float", self._kind, one, f"x{place}") for place, one in enumerate(self._values)]
        highest, total, line = _number(-3.4028234663852886e38), ZERO, self._lines.append
        for place, value in enumerate(values):
            line(f" %h{place}_c = fcmp ogt float {value}, {highest}")
            line(f" %h{place} = select i1 %h{place}_c, float {value}, float {highest}")
            highest = f"%h{place}"
        for place, value in enumerate(values):
            line(f" %w{place} = fsub float {value}, {highest}\n %e{place} = call float @expf(float %w{place})")
            line(f" %t{place} = fadd float {total}, %e{place}")
            total = f"%t{place}"
        for place in range(len(values)):
            line(f" %r{place} = fdiv float %e{place}, {total}")
        self.answers = [("float", f"%r{place}") for place in range(len(values))]


def _block(ensemble: Ensemble) -> Iterator[str]:
    """`@block(table, rows, answer)`, at most BLOCK_ROWS rows: tree by tree, and in each of them row by row."""
    targets, kind, trees = ensemble.targets, _type(ensemble), len(ensemble.trees)
    yield "define internal void @block(ptr %table, i64 %rows, ptr %answer) noinline nounwind {\nentry:"
    yield f" %first = alloca [{BLOCK_ROWS * targets} x {kind}]\n %cells = mul i64 %rows, {targets}\n br label %clear"
    yield f"clear:\n %z = phi i64 [0, %entry], [%z1, %clear]\n %zp = getelementptr {kind}, ptr %first, i64 %z"
    yield f" store {kind} {ZERO}, ptr %zp\n %z1 = add i64 %z, 1\n %zc = icmp ult i64 %z1, %cells"
    yield " br i1 %zc, label %clear, label %start_0"
    for number in range(trees):
        yield f"start_{number}:\n br label %tree_{number}"
        yield f"tree_{number}:\n %i{number} = phi i64 [0, %start_{number}], [%j{number}, %tree_{number}]"
        yield f" %x{number} = mul i64 %i{number}, {ensemble.width}"
        yield f" %r{number} = getelementptr {kind}, ptr %table, i64 %x{number}"
        yield f" %y{number} = mul i64 %i{number}, {targets}"
        yield f" %q{number} = getelementptr {kind}, ptr %first, i64 %y{number}"
        call = f"@tree_{number}(ptr %r{number}, ptr %q{number})"
        if targets == 1:
            yield f" %v{number} = call {kind} {call}\n %s{number} = load {kind}, ptr %q{number}"
            yield from _join(ensemble, number, f"s{number}", f"%v{number}", f"t{number}")
            yield f" store {kind} %t{number}, ptr %q{number}"
        else:
            yield f" call void {call}"
        yield f" %j{number} = add i64 %i{number}, 1\n %c{number} = icmp ult i64 %j{number}, %rows"
        yield f" br i1 %c{number}, label %tree_{number}, label %start_{number + 1}"
    answer = "double" if ensemble.double_answer else "float"
    yield f"start_{trees}:\n br label %finish"
    yield f"finish:\n %i = phi i64 [0, %start_{trees}], [%j, %finish]\n %y = mul i64 %i, {targets}"
    yield f" %s = getelementptr {kind}, ptr %first, i64 %y\n %x = mul i64 %i, {ensemble.columns}"
    yield f" %o = getelementptr {answer}, ptr %answer, i64 %x\n call void @finish(ptr %s, ptr %o)"
    yield " %j = add i64 %i, 1\n %c = icmp ult i64 %j, %rows\n br i1 %c, label %finish, label %end\nend:\n ret void\n}"


def _run(ensemble: Ensemble) -> Iterator[str]:
    """`@run(table, rows, answer)` for any positive number of rows."""
    kind, answer = _type(ensemble), "double" if ensemble.double_answer else "float"
    yield f"define void @{ENTRY}(ptr %table, i64 %rows, ptr %answer) nounwind {{\nentry:\n br label %loop"
    yield "loop:\n %i = phi i64 [0, %entry], [%j, %loop]\n %left = sub i64 %rows, %i"
    yield f" %few = icmp ult i64 %left, {BLOCK_ROWS}\n %n = select i1 %few, i64 %left, i64 {BLOCK_ROWS}"
    yield f" %x = mul i64 %i, {ensemble.width}\n %t = getelementptr {kind}, ptr %table, i64 %x"
    yield f" %y = mul i64 %i, {ensemble.columns}\n %a = getelementptr {answer}, ptr %answer, i64 %y"
    yield " call void @block(ptr %t, i64 %n, ptr %a)"
    yield f" %j = add i64 %i, {BLOCK_ROWS}\n %c = icmp ult i64 %j, %rows\n br i1 %c, label %loop, label %end"
    yield "end:\n ret void\n}"
