"""The command line. It is where an application and a worker meet, and it is cheap to import."""
