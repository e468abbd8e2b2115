# The managed database: made where there is none yet, restored where that was asked for, and run with its schedule of
# base backups beside it.
set -eu
home=/var/lib/postgresql
data=$PGBACKREST_PG1_PATH
as_postgres="setpriv --reuid=postgres --regid=postgres --init-groups"

# The folder gets its name only when it is complete, so a container killed before begins anew. Postgres refuses root.
create() {
    rm -rf "$home/new"
    install -d -o postgres -g postgres -m 700 "$home" "$home/new"
    # Small segments: one is archived whole, however little is in it. Checksums: a backup says which page is bad.
    $as_postgres "$POSTGRES_BIN/initdb" --pgdata="$home/new" --username=postgres --encoding=UTF8 --locale=C.UTF-8 \
        --auth-local=peer --auth-host=scram-sha-256 --data-checksums --wal-segsize=4
    echo "host all all all scram-sha-256" >> "$home/new/pg_hba.conf"
    $as_postgres "$POSTGRES_BIN/postgres" --single -D "$home/new" postgres <<SQL
CREATE ROLE $DATABASE_USER LOGIN PASSWORD '$MDS_DATABASE_PASSWORD'
CREATE DATABASE $DATABASE OWNER $DATABASE_USER
CREATE ROLE $CONSOLE LOGIN PASSWORD '$CONSOLE_DATABASE_PASSWORD'
CREATE DATABASE $CONSOLE OWNER $CONSOLE
CREATE ROLE $BACKUP_USER LOGIN PASSWORD '$BACKUP_DATABASE_PASSWORD' IN ROLE pg_read_all_data
SQL
    # to read what is restored and what is live at one point of the log, and for no more
    $as_postgres "$POSTGRES_BIN/postgres" --single -D "$home/new" "$DATABASE" <<SQL
GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO $BACKUP_USER
GRANT EXECUTE ON FUNCTION pg_switch_wal() TO $BACKUP_USER
SQL
    mv "$home/new" "$data"
}

# What is replaced stays as `replaced` until the next restore: the point that was asked for may have been a wrong one.
restore() {
    local target=(--type=default)
    [ "$1" = newest ] || target=(--type=time "--target=$1" --target-action=promote)
    if [ -d "$data" ]; then mv "$data" "$home/before"; fi
    install -d -o postgres -g postgres -m 700 "$home" "$data"
    if $as_postgres pgbackrest restore "${target[@]}"; then return; fi
    rm -rf "$data"
    if [ -d "$home/before" ]; then mv "$home/before" "$data"; fi
    echo "the database cannot be restored to $1, and stays as it was" >&2
}

# a restore that was cut off
if [ -d "$home/before" ]; then
    rm -rf "$data"
    mv "$home/before" "$data"
fi
if [ -s /etc/lakehouse/restore-to ]; then
    restore "$(cat /etc/lakehouse/restore-to)"
    rm /etc/lakehouse/restore-to
fi
[ -d "$data" ] || create

# Nothing else can run in a container that has just started, but another process may have got the number that is in here.
rm -f "$data/postmaster.pid" "/tmp/.s.PGSQL.$DATABASE_PORT" "/tmp/.s.PGSQL.$DATABASE_PORT.lock"
$as_postgres "$POSTGRES_BIN/postgres" -D "$data" -c listen_addresses='*' -c port="$DATABASE_PORT" \
    -c max_connections="$MAX_CONNECTIONS" -c shared_buffers=64MB -c fsync=on -c unix_socket_directories=/tmp \
    -c archive_mode=on -c archive_command='pgbackrest archive-push %p' &
postgres=$!
trap 'kill -INT $postgres' TERM INT
# What it had is kept as `before` until what was restored has been read to its end: it comes back at the next start else.
if [ -d "$home/before" ]; then
    until [ "$($as_postgres psql --host=/tmp --tuples-only --no-align --command 'SELECT pg_is_in_recovery()' \
        postgres 2> /dev/null)" = f ]; do
        kill -0 $postgres 2> /dev/null || {
            echo "the database cannot be restored, and has what it had at its next start" >&2
            exit 1
        }
        sleep 0.2
    done
    rm -rf "$home/replaced"
    mv "$home/before" "$home/replaced"
    # of the line of the log that begins now there is no backup yet
    rm -f "$home/last-base-backup"
fi
bash /usr/local/bin/base-backups.sh &
# once more, as a signal ends the first before Postgres has ended
wait $postgres || wait $postgres
