"""The role `calibrate`, drift and refresh, on a real broker and real stores."""
