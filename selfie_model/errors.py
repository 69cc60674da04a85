"""What can go wrong with a run that the user can mend: each message is one line and says how."""


class RunError(Exception):
    """A run cannot start, go on, or be read: its folder, its checkpoint or its options are not what they must be."""


class DivergedError(RunError):
    """The loss is not finite, or far above where it began."""
