"""Ties the fork server to the run: the server imports this module before all else, and nobody else imports it.

A fork server is told modules to import and no function to call, so the call happens at the import. By itself the server looks
after its parent only once it serves; what it imports before that takes seconds.
"""

from benchmarks.isolation.tether import end_with_parent

end_with_parent()
