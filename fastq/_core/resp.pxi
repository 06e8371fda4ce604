# resp: see below
