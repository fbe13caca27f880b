import signal

# A shell's background job ignores SIGINT and so would every command that tests start; what has a
# handler here has the system's default there.
signal.signal(signal.SIGINT, signal.default_int_handler)
