"""Property tests of scoring share a busy machine with the broker: their examples are counted, not timed."""

from hypothesis import settings

settings.register_profile("muse", deadline=None, max_examples=60)
settings.load_profile("muse")
