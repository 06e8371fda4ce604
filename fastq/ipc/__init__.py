"""How the processes of one worker talk to each other."""
