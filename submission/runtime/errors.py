"""Errors that a user can mend, and one that another seed may be spared."""


class UserError(Exception):
    """Something the user can mend: its text is one sentence that says what is wrong, where,
    and what to do. The command line prints it without a traceback and exits with 2."""


class FailedTraining(UserError):
    """One seed's training gave nothing that can be exported; another seed's may."""


def first_line(error: BaseException) -> str:
    """What an error says, without the lines that gin adds when it passes through a configurable."""
    return str(error).strip().partition("\n")[0]
