# ledger: see below
