#!/bin/sh
# Who may use the API at first? Makes one token that may do everything, once: `token.sh FOLDER`. It refuses to listen without one.
set -eu
umask 077
if [ ! -s "$1/token" ]; then
    # A start that ended before its token was kept leaves the token's name in use: each has a name of its own.
    lastgood token create --name "compose-$(date -u +%Y%m%dT%H%M%SZ)-$$" --scope admin >"$1/token.new"
    mv "$1/token.new" "$1/token"
fi
echo "the token is in $1/token; \`lastgood token create\` makes narrower ones"
