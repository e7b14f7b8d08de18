"""A tree ensemble as LLVM's text form: what a compiler would make of nested ifs with the thresholds as constants.

It goes through the rows in blocks, and in a block tree by tree: the code of one tree and the rows of a block fit into
the processor's first caches. Each row's sums are made in the order of the trees.
"""

from collections.abc import Iterator

from muse_stream.models.compiled.code import ZERO, constant, finish_function, functions, run_function, type_of
from muse_stream.models.compiled.ensemble import Aggregate, Branch, Compare, Ensemble, Tree

BLOCK_ROWS = 128


def source(ensemble: Ensemble) -> str:
    """Return the text of a module whose function `run(table, rows, answer)` answers any positive number of rows.

    Table and answer are row by row, of float or double as the ensemble says.
    """
    parts = [*functions()]
    for number, tree in enumerate(ensemble.trees):
        parts += _tree(number, tree, ensemble)
    parts += finish_function(ensemble)
    parts += _block(ensemble)
    parts += run_function(ensemble, BLOCK_ROWS)
    return "\n".join(parts)


def _tree(number: int, tree: Tree, ensemble: Ensemble) -> Iterator[str]:
    """`@tree_N(row, sums)`: adds what the leaf says, or (one target) returns it."""
    one, kind = ensemble.targets == 1, type_of(ensemble)
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
            yield f" %c{place} = {compare} %v{place}, {constant(node.threshold)}"
            yield f" br i1 %c{place}, label %n{node.yes}, label %n{node.no}"
        elif one:
            yield f" ret {kind} {constant(node.weights[0][1])}"
        else:
            for index, (target, weight) in enumerate(node.weights):
                name = f"{place}_{index}"
                yield f" %q{name} = getelementptr {kind}, ptr %sums, i64 {target}"
                yield f" %s{name} = load {kind}, ptr %q{name}"
                yield from _join(ensemble, number, f"s{name}", constant(weight), f"t{name}")
                yield f" store {kind} %t{name}, ptr %q{name}"
            yield " ret void"
    yield "}"


def _join(ensemble: Ensemble, number: int, so_far: str, value: str, name: str) -> Iterator[str]:
    """`%name` = what a target has so far, and one more value."""
    kind = type_of(ensemble)
    if ensemble.aggregate in (Aggregate.SUM, Aggregate.AVERAGE):
        yield f" %{name} = fadd {kind} %{so_far}, {value}"
    elif number == 0:
        yield f" %{name} = select i1 true, {kind} {value}, {kind} {value}"
    else:
        compare = "olt" if ensemble.aggregate is Aggregate.MIN else "ogt"
        yield f" %{name}_c = fcmp {compare} {kind} {value}, %{so_far}"
        yield f" %{name} = select i1 %{name}_c, {kind} {value}, {kind} %{so_far}"


def _block(ensemble: Ensemble) -> Iterator[str]:
    """`@block(table, rows, answer)`, at most BLOCK_ROWS rows: tree by tree, and in each of them row by row."""
    targets, kind, trees = ensemble.targets, type_of(ensemble), len(ensemble.trees)
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
