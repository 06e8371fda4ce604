"""The way of a message, in the order of the files: intake, admit, waiting, deal, (child), settle."""
