"""What both text forms of a tree ensemble have in common: constants, and what is done with a row's sums.

The text is written directly: LLVM's own objects for it cost ten times the compilation without optimisation.
"""

import struct
from collections.abc import Iterator

from muse_stream.models.compiled.ensemble import Aggregate, Ensemble, Finish

ENTRY = "run"


def constant(value: float) -> str:
    """Return a number as LLVM writes it, for float32 too: the bits of the double of the same value."""
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


ONE, ZERO = constant(1.0), constant(0.0)


def type_of(ensemble: Ensemble) -> str:
    """Return LLVM's name for what rows, thresholds and sums are."""
    return "double" if ensemble.double else "float"


def functions() -> Iterator[str]:
    """onnxruntime's form of the logistic function, in float32: v = 1 / (1 + exp(-|x|)); 1 - v for a negative x."""
    yield "declare float @expf(float)\ndeclare float @llvm.fabs.f32(float)"
    yield "define internal float @logistic(float %x) nounwind {"
    yield " %a = call float @llvm.fabs.f32(float %x)\n %m = fneg float %a\n %e = call float @expf(float %m)"
    yield f" %d = fadd float {ONE}, %e\n %v = fdiv float {ONE}, %d"
    yield f" %o = fsub float {ONE}, %v\n %n = fcmp olt float %x, {ZERO}"
    yield " %r = select i1 %n, float %o, float %v\n ret float %r\n}"


def finish_function(ensemble: Ensemble, stride: int = 1) -> Iterator[str]:
    """`@finish(sums, answer)`: a row's sums, each `stride` behind the one before, become its answer."""
    kind, answer = type_of(ensemble), "double" if ensemble.double_answer else "float"
    adds = ensemble.aggregate in (Aggregate.SUM, Aggregate.AVERAGE)
    base = ensemble.base or (() if adds else (0.0,) * ensemble.targets)  # -0.0 + 0.0 is 0.0, which a sum begins with
    yield "define internal void @finish(ptr %sums, ptr %answer) nounwind {"
    values = []
    for target in range(ensemble.targets):
        value = f"%s{target}"
        yield f" %p{target} = getelementptr {kind}, ptr %sums, i64 {target * stride}"
        yield f" {value} = load {kind}, ptr %p{target}"
        if ensemble.aggregate is Aggregate.AVERAGE:
            yield f" %d{target} = fdiv {kind} {value}, {constant(float(len(ensemble.trees)))}"
            value = f"%d{target}"
        if base:
            yield f" %b{target} = fadd {kind} {value}, {constant(base[target])}"
            value = f"%b{target}"
        values.append(value)
    columns = _Columns(kind, values)
    yield from columns.lines(ensemble.finish)
    for column, (given, value) in enumerate(columns.answers):
        value = columns.as_type(answer, given, value, f"a{column}")  # noqa: PLW2901
        yield from columns.taken()
        yield f" %o{column} = getelementptr {answer}, ptr %answer, i64 {column}"
        yield f" store {answer} {value}, ptr %o{column}"
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
        highest, total, line = constant(-3.4028234663852886e38), ZERO, self._lines.append
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


def run_function(ensemble: Ensemble, block: int) -> Iterator[str]:
    """`@run(table, rows, answer)` for any positive number of rows, by `@block` with at most `block` of them."""
    kind, answer = type_of(ensemble), "double" if ensemble.double_answer else "float"
    yield f"define void @{ENTRY}(ptr %table, i64 %rows, ptr %answer) nounwind {{\nentry:\n br label %loop"
    yield "loop:\n %i = phi i64 [0, %entry], [%j, %loop]\n %left = sub i64 %rows, %i"
    yield f" %few = icmp ult i64 %left, {block}\n %n = select i1 %few, i64 %left, i64 {block}"
    yield f" %x = mul i64 %i, {ensemble.width}\n %t = getelementptr {kind}, ptr %table, i64 %x"
    yield f" %y = mul i64 %i, {ensemble.columns}\n %a = getelementptr {answer}, ptr %answer, i64 %y"
    yield " call void @block(ptr %t, i64 %n, ptr %a)"
    yield f" %j = add i64 %i, {block}\n %c = icmp ult i64 %j, %rows\n br i1 %c, label %loop, label %end"
    yield "end:\n ret void\n}"
