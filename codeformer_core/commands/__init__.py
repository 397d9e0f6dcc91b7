"""The verbs of the command line: each module gives a parser its arguments and runs what was parsed."""
