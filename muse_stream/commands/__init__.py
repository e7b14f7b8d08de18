"""What an operator does, without the terminal: each command of `muse-stream` is one function here.

In: a configuration's path (or a generation store's), Kafka settings, choices. Out: values to show.
Law: joins rooms as `app` does, prints nothing, exits never; whoever shows progress passes a callable. What is wrong is
a `MuseError`: `ConfigError` for what was written, `Retriable` for a cluster that does not answer.

    sources   a path -> the configuration meant        checking   all that can be known before anything runs
    topics    make and check topics                    produce    a file -> events
    watching  follow a topic, decoded                  replay     a file -> scores, no broker
    proving   the independent reader                   releases   publish, list, roll back
"""
