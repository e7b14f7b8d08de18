"""What an operator does, without the terminal: each command of `muse-stream` is one function here.

They take a configuration's path (or a generation store's), Kafka settings and choices, and return values to show. They
print nothing and never exit; a caller that shows progress passes a callable. What is wrong is raised as a `MuseError`:
`ConfigError` for what was written, `Retriable` for a cluster that does not answer.

    configuration    which configuration a path means
    load             a configuration -> a snapshot to score with
    check            all that can be known before anything runs
    check_fields, check_writers, check_routes, check_models
                     features and the event schemas; the schemas that events are written with; conditions that no event
                     meets; models and golden rows
    golden           golden events of a model, from the trainer's predictions
    difference       what differs between two configurations, and whom it can hurt
    predictor_words  what differs inside of a predictor
    publish          propose a configuration, publish it as a generation
    taken_back       what a file that descends from an older generation would take back
    promote          the generation in which another predictor is live
    rollback         the way back, and what it changes
    pause            the generation in which a tenant is paused; what waits meanwhile
    export           a generation as files
    evidence         what shadows said, for and against a promotion
    fit              quantile maps of a predictor, and what they can be trusted in
    fit_samples      what they are fitted on: files of events or scores, topics
    fit_sketches     the same of what is counted in a store
    status           what is current, who serves it, what waits, what is wrong
    gradual          promote step by step; go back, stop, resume
    step_health      what tells that a step goes wrong: dead letters, latency
    watch            what was promoted: alert rates since, and the way back
    verdicts         what it found last, as `status` reads it
    drift            which tenants' scores have left what was promised
    refresh          a new map where they have: proposed, applied, rejected
    refresh_target, refresh_proposal, refresh_decision, refresh_outcome, refresh_role, refresh_incidents, refresh_record
                     what would be replaced; how a map is proposed, decided, found out about, and all that by the role;
                     what speaks against fitting one; what is kept of a proposal
    watch_metrics    its metrics
    live_pairs       what two predictors say of the same events, as it comes in
    topics           plan, make and check topics
    acl              what each role needs to be granted
    redaction        what is shown of a record with --redact
    produce, tail    a file -> events; follow a topic, decoded
    audit, archive   a tenant's scores and audit records -> a table for analysts; files that grow
    report           live and shadow predictors beside each other, as one HTML file
    report_records   what it is made of
    dlq              a tenant's dead letters: count, show, send again
    dlq_letters, dlq_survey, dlq_replay
                     what a record of their topic is; which there are and what became of each; sending them, once
    event            an event -> what workers would answer
    schema, schemas  the Avro schemas of what workers write; schemas in a Schema Registry
    replay           a file -> scores, without a broker
    html_file        a page that appears whole or not at all
    backtest         policies for quantile maps, walked forward over labelled history
    backtest_plan, backtest_models, backtest_report, backtest_page
                     what is asked; scores before the map; what was found; the same as a page
    plan             what a load needs, from what was measured
    offsets          show, set and copy a tenant's committed offsets
    verify           the independent auditor
    doctor           what keeps a cluster from serving a configuration
    doctor_fault, doctor_cluster, doctor_groups, doctor_open, doctor_registry
                     what it finds; brokers, topics and permissions; groups and offsets; open transactions and quotas
"""
