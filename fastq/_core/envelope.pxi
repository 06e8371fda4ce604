# envelope: see below
