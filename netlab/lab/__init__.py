"""A lab from its scenario to its teardown: what was asked, the processes that hold it, and its end."""
