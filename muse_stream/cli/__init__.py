"""The command line: one file for each command, of the same name; it parses, calls, and shows.

Nothing is computed here: every command is one call of `commands`, `runtime` or `demo`. The rooms it needs are imported
when a command runs, so that `--help` and completion answer at once.

    main      the program, its options, its exit codes
    lazy_group  the commands, each imported when it is asked for
    options   what all commands share
    promote_steps  what `promote --steps` shows
    moments   times, durations and offsets as arguments
    store_option  --store and MUSE_STORE
    output    tables, JSON, progress, errors

    check, golden, fit, schema, schemas          a configuration
    event                                        an event, tried out
    publish, diff, promote, watch, generations, rollback, status, drift   a store of generations
    pause, resume, export, refresh, keys         the same
    run, topics, acl, offsets, doctor, broker    on Kafka
    produce, tail, audit, report, verify, replay, dlq   events and answers
    backtest                                     policies for quantile maps on labelled history
    plan                                         what a load needs
    demo                                         the guided demo
"""
