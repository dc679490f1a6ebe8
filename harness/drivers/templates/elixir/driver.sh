#!/bin/sh
# stdout belongs to the protocol: the answers get descriptor 3, and whatever anything prints goes to stderr.
cd "$(dirname "$0")" || exit 1
exec elixir --erl -noinput driver.exs 3>&1 1>&2
