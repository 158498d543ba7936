"""The options of every command, one frozen dataclass each. Light: the command line reads them for every ``--help``."""
