"""The composition root: the one place that joins stream, wire, models, control and observe.

In: a configuration or a generation store. Out: a notebook's `Snapshot`, a worker's scorer, a running process.
Law: the rooms below know nothing of each other; what one needs of another it declares as a small protocol, and it is
handed over here. Nothing is computed here that a room could compute.

    generation  a document -> a compiled snapshot            events   raw records -> one table
    answers     scores -> records to publish                 scorer   the two around the snapshot: what a worker calls
    warmup      a generation is tried before it serves
    serve       a worker process                             meter    what it counts
    run         the supervisor, and what starts it

Import its modules, not this one: `run` must not load what only workers need.
"""
