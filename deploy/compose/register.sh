#!/bin/sh
# Which databases are protected? Registers the samples once, their URLs sealed: `register.sh FOLDER`, with a file for each URL.
set -eu
register() {
    if lastgood resource show "$1" >/dev/null 2>&1; then
        echo "$1 is registered"
    else
        lastgood resource add "$1" --team acme --tier pro --engine "$2" --url-file "$urls/$1"
    fi
}
urls=$1
register shop postgres
register embeddings vector
register orders mongodb
register cache redis
