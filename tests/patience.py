"""How long tests wait for something to come true before they give up.

Times in tests are written for an idle machine; a busy one is given this many times as long. Waiting longer costs
nothing where the condition comes, so no test fails because others use the machine.
"""

PATIENCE = 5
