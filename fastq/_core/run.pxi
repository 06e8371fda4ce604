# run: see below
