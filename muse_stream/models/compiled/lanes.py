"""A tree ensemble as LLVM's text form, without branches: sixteen rows are taken through a tree at once.

Each leaf of a tree is a bit of a row's mask, from the left. Every branch is evaluated for all rows; where the answer is
no, the leaves on its yes side are struck out. The first bit that is left is the leaf that the row reaches, whatever
the branches off its way have struck out (Lucchese et al., QuickScorer, 2015). That is more comparisons than a walk
needs, but no jump that a processor could guess wrong: for trees of up to some hundred leaves it is several times
faster.

Each row's sums are made in the order of the trees, as a walk makes them.
"""

from collections.abc import Iterator

from muse_stream.models.compiled.code import ZERO, constant, finish_function, functions, run_function, type_of
from muse_stream.models.compiled.ensemble import Aggregate, Branch, Compare, Ensemble, Leaf, Tree

LANES = 16
BITS = 32
ALL = (1 << BITS) - 1
MASK = f"<{LANES} x i32>"
"""A word of sixteen rows' masks."""
MOST_LEAVES = 256
MOST_WIDTH = 4096
MOST_GROUPS = 8
"""Groups of sixteen rows that go through a tree, one after the other, before the next tree's code is fetched."""


def fits(ensemble: Ensemble) -> bool:
    """Whether an ensemble can be written so: small trees that add, with one number at most for a target in a leaf."""
    return (
        ensemble.aggregate in (Aggregate.SUM, Aggregate.AVERAGE)
        and ensemble.width <= MOST_WIDTH
        and ensemble.targets <= LANES
        and all(_leaves(tree) <= MOST_LEAVES for tree in ensemble.trees)
        and all(_once(node) for tree in ensemble.trees for node in tree if isinstance(node, Leaf))
    )


def _leaves(tree: Tree) -> int:
    return (len(tree) + 1) // 2


def _once(leaf: Leaf) -> bool:
    targets = [target for target, _ in leaf.weights]
    return len(set(targets)) == len(targets)


def source(ensemble: Ensemble) -> str:
    """Return the text of a module, as `walk.source` does."""
    groups = max(1, min(MOST_GROUPS, MOST_WIDTH // ensemble.width))
    kind = type_of(ensemble)
    parts = [*functions(), *_declared(kind)]
    for place, tree in enumerate(ensemble.trees):
        parts += _tree(place, tree, ensemble, kind)
    parts += finish_function(ensemble, stride=LANES)
    parts += _block(ensemble, kind, groups)
    parts += run_function(ensemble, groups * LANES)
    return "\n".join(parts)


def _declared(kind: str) -> Iterator[str]:
    short = {"float": "f32", "double": "f64"}[kind]
    yield f"declare {MASK} @llvm.cttz.v{LANES}i32({MASK}, i1)"
    yield (
        f"declare <{LANES} x {kind}> @llvm.masked.gather.v{LANES}{short}.v{LANES}p0"
        f"(<{LANES} x ptr>, i32, <{LANES} x i1>, <{LANES} x {kind}>)"
    )


def _tree(place: int, tree: Tree, ensemble: Ensemble, kind: str) -> Iterator[str]:
    """`@tree_N(block, sums, groups)`: adds what the rows' leaves say."""
    leaves, struck = _numbered(tree)
    rows = f"<{LANES} x {kind}>"
    for target in range(ensemble.targets):
        values = ", ".join(f"{kind} {constant(dict(leaf.weights).get(target, 0.0))}" for leaf in leaves)
        yield f"@leaves_{place}_{target} = internal constant [{len(leaves)} x {kind}] [{values}], align 64"
    yield f"define internal void @tree_{place}(ptr %block, ptr %sums, i64 %groups) noinline nounwind {{"
    yield "entry:\n br label %group"
    yield f"group:\n %i = phi i64 [0, %entry], [%j, %group]\n %w = mul i64 %i, {ensemble.width}"
    yield f" %features = getelementptr {rows}, ptr %block, i64 %w"
    words = ["splat (i32 -1)"] * -(-len(leaves) // BITS)
    known: set[int] = set()
    for name, (branch, keep) in enumerate(sorted(struck, key=lambda one: one[0].feature)):
        if branch.feature not in known:
            known.add(branch.feature)
            yield f" %p{branch.feature} = getelementptr {rows}, ptr %features, i64 {branch.feature}"
            yield f" %f{branch.feature} = load {rows}, ptr %p{branch.feature}, align 64"
        unordered = branch.missing_is_yes or branch.compare is Compare.BRANCH_NEQ
        compare = f"{'u' if unordered else 'o'}{branch.compare.value}"
        yield f" %c{name} = fcmp {compare} {rows} %f{branch.feature}, splat ({kind} {constant(branch.threshold)})"
        for word, before in enumerate(words):
            kept = keep >> (BITS * word) & ALL
            if kept == ALL:
                continue  # most branches have all their leaves in one word
            now = f"{name}_{word}"
            yield f" %a{now} = and {MASK} {before}, splat (i32 {kept - (1 << BITS) if kept >> (BITS - 1) else kept})"
            yield f" %m{now} = select <{LANES} x i1> %c{name}, {MASK} {before}, {MASK} %a{now}"
            words[word] = f"%m{now}"
    yield from _first_leaf(words)
    yield from _added(place, ensemble, kind)
    yield " %j = add i64 %i, 1\n %more = icmp ult i64 %j, %groups\n br i1 %more, label %group, label %end"
    yield "end:\n ret void\n}"


def _first_leaf(words: list[str]) -> Iterator[str]:
    """`%leaf` = the number of the first bit in several words of a mask."""
    leaf = ""
    for word in reversed(range(len(words))):
        yield f" %z{word} = call {MASK} @llvm.cttz.v{LANES}i32({MASK} {words[word]}, i1 true)"
        yield f" %l{word} = add {MASK} %z{word}, splat (i32 {BITS * word})"
        if leaf:
            yield f" %n{word} = icmp ne {MASK} {words[word]}, zeroinitializer"
            yield f" %b{word} = select <{LANES} x i1> %n{word}, {MASK} %l{word}, {MASK} {leaf}"
        leaf = f"%b{word}" if leaf else f"%l{word}"
    yield f" %leaf = add {MASK} {leaf}, zeroinitializer"


def _added(place: int, ensemble: Ensemble, kind: str) -> Iterator[str]:
    rows, short, size = f"<{LANES} x {kind}>", *{"float": ("f32", 4), "double": ("f64", 8)}[kind]
    yield f" %s = mul i64 %i, {ensemble.targets}\n %own = getelementptr {rows}, ptr %sums, i64 %s"
    for target in range(ensemble.targets):
        yield f" %at{target} = getelementptr {kind}, ptr @leaves_{place}_{target}, {MASK} %leaf"
        yield (
            f" %v{target} = call {rows} @llvm.masked.gather.v{LANES}{short}.v{LANES}p0(<{LANES} x ptr> %at{target}, "
            f"i32 {size}, <{LANES} x i1> splat (i1 true), {rows} poison)"
        )
        yield f" %t{target} = getelementptr {rows}, ptr %own, i64 {target}"
        yield f" %o{target} = load {rows}, ptr %t{target}, align 64\n %q{target} = fadd {rows} %o{target}, %v{target}"
        yield f" store {rows} %q{target}, ptr %t{target}, align 64"


def _numbered(tree: Tree) -> tuple[list[Leaf], list[tuple[Branch, int]]]:
    """Return the leaves from the left, and each branch with the mask of the leaves that a no keeps."""
    leaves: list[Leaf] = []
    first: dict[int, int] = {}
    struck: list[tuple[Branch, int]] = []
    waiting: list[tuple[int, bool]] = [(0, False)]
    everything = (1 << BITS * -(-_leaves(tree) // BITS)) - 1
    while waiting:
        place, on_the_way_back = waiting.pop()
        node = tree[place]
        if isinstance(node, Leaf):
            leaves.append(node)
        elif on_the_way_back:  # the yes side is numbered now
            struck.append((node, everything ^ ((1 << len(leaves)) - (1 << first[place]))))
        else:
            first[place] = len(leaves)
            waiting += [(node.no, False), (place, True), (node.yes, False)]
    return leaves, struck


def _block(ensemble: Ensemble, kind: str, groups: int) -> Iterator[str]:
    """`@block(table, rows, answer)`: the rows feature by feature, sixteen at a time, the last one again and again."""
    width, targets = ensemble.width, ensemble.targets
    yield "define internal void @block(ptr %table, i64 %rows, ptr %answer) noinline nounwind {\nentry:"
    yield f" %block = alloca [{groups * width * LANES} x {kind}], align 64"
    yield f" %sums = alloca [{groups * targets * LANES} x {kind}], align 64"
    yield f" %up = add i64 %rows, {LANES - 1}\n %groups = udiv i64 %up, {LANES}\n %lanes = mul i64 %groups, {LANES}"
    yield f" %cells = mul i64 %lanes, {targets}\n %lastrow = sub i64 %rows, 1\n br label %clear"
    yield f"clear:\n %z = phi i64 [0, %entry], [%z1, %clear]\n %zp = getelementptr {kind}, ptr %sums, i64 %z"
    yield f" store {kind} {ZERO}, ptr %zp\n %z1 = add i64 %z, 1\n %zc = icmp ult i64 %z1, %cells"
    yield " br i1 %zc, label %clear, label %row"
    yield "row:\n %r = phi i64 [0, %clear], [%r1, %rowend]\n %short = icmp ult i64 %r, %rows"
    yield " %from = select i1 %short, i64 %r, i64 %lastrow"
    yield f" %fw = mul i64 %from, {width}\n %source = getelementptr {kind}, ptr %table, i64 %fw"
    yield f" %g = udiv i64 %r, {LANES}\n %lane = urem i64 %r, {LANES}\n %gw = mul i64 %g, {width * LANES}"
    yield f" %gl = add i64 %gw, %lane\n %target = getelementptr {kind}, ptr %block, i64 %gl\n br label %cell"
    yield "cell:\n %f = phi i64 [0, %row], [%f1, %cell]"
    yield f" %sp = getelementptr {kind}, ptr %source, i64 %f\n %value = load {kind}, ptr %sp"
    yield f" %to = mul i64 %f, {LANES}\n %tp = getelementptr {kind}, ptr %target, i64 %to"
    yield f" store {kind} %value, ptr %tp"
    yield f" %f1 = add i64 %f, 1\n %fc = icmp ult i64 %f1, {width}\n br i1 %fc, label %cell, label %rowend"
    yield "rowend:\n %r1 = add i64 %r, 1\n %rc = icmp ult i64 %r1, %lanes\n br i1 %rc, label %row, label %trees\ntrees:"
    yield from (_call(place) for place in range(len(ensemble.trees)))
    answer = "double" if ensemble.double_answer else "float"
    yield f" br label %finish\nfinish:\n %i = phi i64 [0, %trees], [%j, %finish]\n %ig = udiv i64 %i, {LANES}"
    yield f" %il = urem i64 %i, {LANES}\n %is = mul i64 %ig, {targets * LANES}\n %y = add i64 %is, %il"
    yield f" %s = getelementptr {kind}, ptr %sums, i64 %y\n %x = mul i64 %i, {ensemble.columns}"
    yield f" %o = getelementptr {answer}, ptr %answer, i64 %x\n call void @finish(ptr %s, ptr %o)"
    yield " %j = add i64 %i, 1\n %c = icmp ult i64 %j, %rows\n br i1 %c, label %finish, label %end\nend:\n ret void\n}"


def _call(place: int) -> str:
    return f" call void @tree_{place}(ptr %block, ptr %sums, i64 %groups)"
