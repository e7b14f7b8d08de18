"""The processes, and the one place where the other rooms are joined.

    compile        a document -> a compiled generation
    event_reader   raw records -> one table of events        record_writer  scores -> records to publish
    batch_scorer   the two around the compiled generation: what a worker calls for each batch
    trial          one predictor's values before its map, for events as bytes
    answer_reader  the topics of a lane; which event an answer answers
    event_time     when an event happened
    score_counts   scores by tenant and predictor            warmup         a generation is tried before it serves
    run            starts the supervisor                     supervisor     worker processes and a warm spare
    worker_process one of them                               watchdog       ends it when it stands still
    worker_metrics what it counts, for Prometheus            process_title  what `ps` shows of them
    latency_histogram, stage_times  how long events wait, and stages of a batch take
    tracing        spans of sampled events; imported where they are wanted alone
    event_facts    what they say of an event
    run_pages      one port for the pages of all workers of a run
    heartbeat      what it tells in the generation store     memory         what a process takes
    calibrate      the role that counts scores: its processes
    score_intake   what was read is kept, and stored every so often
    drift_watch    one of them looks for drift               refreshing     what is asked of who refreshes maps
    score_reader   score records -> columns of what is counted
    drift_looks    drift of each tenant, from what is counted  drift_verdicts  what was found last, for `status`
    score_counter  keeps and stores them, each once          calibrate_metrics  what it counts
    memory_limit   which worker is replaced because of that

Import its modules, not this package: `run` must not load what only workers need.
"""
