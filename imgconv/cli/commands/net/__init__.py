"""The subcommands of `imgconv net`; `group` has those that are short."""
