#!/bin/sh
# Which secrets does docker-compose.yml need? Makes those that are not there: `secrets.sh FOLDER`, a volume below it for each
# service that needs any. What is there stays as it is.
set -eu
umask 077
root=$1

random() { head -c 24 /dev/urandom | base64 | tr '+/' '-_'; }

# put FILE OWNER: what comes from standard input, unless the file is there. It appears whole.
put() {
    if [ -e "$root/$1" ]; then
        cat >/dev/null
        return
    fi
    cat >"$root/$1.new"
    if [ "$(id -u)" = 0 ]; then chown "$2" "$root/$1.new"; fi
    mv "$root/$1.new" "$root/$1"
}

# The API's first token is made by the service that asks for it.
mkdir -p "$root/token"
if [ "$(id -u)" = 0 ]; then chown 10001 "$root/token"; fi
chmod 700 "$root/token"

# Folders are passed through by whoever the image runs as; files belong to that one.
for volume in catalog store database master keys customers orders cache urls grafana; do
    mkdir -p "$root/$volume"
    chmod 755 "$root/$volume"
done
lastgood=10001 postgres=999 mongodb=999 redis=999 grafana=472

random | put catalog/password $postgres
printf 'postgresql://lastgood:%s@catalog:5432/lastgood\n' "$(cat "$root/catalog/password")" | put database/database-url $lastgood
head -c 32 /dev/urandom | base64 | put master/master-key $lastgood

printf 'lastgood\n' | put keys/s3-id $lastgood
random | put keys/s3-key $lastgood
printf 'MINIO_ROOT_USER=lastgood\nMINIO_ROOT_PASSWORD=%s\n' "$(cat "$root/keys/s3-key")" | put store/minio.env 0

random | put customers/superuser $postgres
random | put customers/shop $postgres
random | put customers/embeddings $postgres
random | put orders/root $mongodb
random | put orders/orders $mongodb
head -c 48 /dev/urandom | base64 -w 0 | put orders/keyfile $mongodb
random | put cache/password $redis
printf 'requirepass %s\n' "$(cat "$root/cache/password")" | put cache/redis.conf $redis

for database in shop embeddings; do
    printf 'postgresql://%s:%s@customers:5432/%s\n' $database "$(cat "$root/customers/$database")" $database | put urls/$database $lastgood
done
printf 'mongodb://orders:%s@orders:27017/orders?replicaSet=rs0\n' "$(cat "$root/orders/orders")" | put urls/orders $lastgood
printf 'redis://:%s@cache:6379\n' "$(cat "$root/cache/password")" | put urls/cache $lastgood

random | put grafana/password $grafana
