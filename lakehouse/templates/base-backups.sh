# Takes a base backup now (`now`), or when an hour is declared and then every hour, which is as long as a file says. What
# fails is said and tried again: the database goes on without.
as_postgres="setpriv --reuid=postgres --regid=postgres --init-groups"
last=/var/lib/postgresql/last-base-backup

base_backup() {
    flock 9
    local code=0
    $as_postgres pgbackrest backup --type=full || code=$?
    case $code in
        0) return ;;
        # a file is missing: this is the first one, or the first one to a store that was made anew
        55) $as_postgres pgbackrest stanza-create || return ;;
        # it is not of the database that the others are of: that was made anew
        28 | 44 | 51) $as_postgres pgbackrest stanza-upgrade || return ;;
        *) return $code ;;
    esac
    $as_postgres pgbackrest backup --type=full
} 9> /run/base-backup.lock

# of the declared hour no more than a sixtieth is lost with the database
follow() {
    local seconds=$(($1 / 60))
    seconds=$((seconds < 1 ? 1 : seconds > 60 ? 60 : seconds))
    $as_postgres psql --quiet --host=/tmp --output=/dev/null --command="ALTER SYSTEM SET archive_timeout = $seconds" \
        --command="SELECT pg_reload_conf()" postgres
}

if [ "${1:-}" = now ]; then
    base_backup
    exit
fi

followed=""
retry=0
while sleep 1; do
    # not before it is declared, which is the last thing that is done to a container that is new
    [ -s /etc/lakehouse/hour-seconds ] || continue
    read -r hour < /etc/lakehouse/hour-seconds
    if [ "$hour" != "$followed" ]; then
        # not while the database does not answer
        follow "$hour" 2> /dev/null || continue
        followed=$hour
    fi
    taken=0
    if [ -s $last ]; then read -r taken < $last; fi
    if ((EPOCHSECONDS < taken + hour || EPOCHSECONDS < retry)); then continue; fi
    begun=$EPOCHSECONDS
    if base_backup; then
        echo "$begun" > $last
    else
        retry=$((EPOCHSECONDS + (hour < 600 ? hour / 10 + 1 : 60)))
        echo "no base backup was taken: it is tried again" >&2
    fi
done
