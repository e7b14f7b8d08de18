"""Second pass: do the parts of the document fit each other?

Every rule is asked, whatever the others found. A rule that cannot be decided because something it depends on is broken
reports nothing; that was reported where it broke.
"""

from muse_stream.config.check_graphs import graph_problems
from muse_stream.config.check_names import name_problems
from muse_stream.config.check_topics import topic_problems, topic_warnings
from muse_stream.config.check_usage import usage_problems, usage_warnings
from muse_stream.config.structure import Draft
from muse_stream.config.totality import prove_total
from muse_stream.errors import Problem


def errors_in(draft: Draft) -> list[Problem]:
    """Return what makes the document unusable."""
    return [*name_problems(draft), *graph_problems(draft), *topic_problems(draft), *usage_problems(draft)]


def warnings_in(draft: Draft) -> list[Problem]:
    """Return what is allowed but probably not meant; asked only of a document without errors."""
    shadowed = prove_total(draft.document, {}).warnings(draft.source)
    return [*topic_warnings(draft), *usage_warnings(draft), *shadowed]
