# The customer's own copy of the bucket with vectors: taken now (`now`), or when its interval is declared and then as
# often as a file says. A copy is a folder named by when it was begun; it is whole when complete.json is in it.
set -eu -o pipefail
keep=4
last=/var/tmp/last-copy
bucket=live:$SOURCE_BUCKET
copies=store:$COPY_BUCKET

names() {
    # the whole list before what filters it: a listing that fails is not an empty one
    local found
    found=$(rclone lsf "$copies" --dirs-only) || return
    sort <<< "$found" | tr --delete /
}

# Fills the folder $1; $2 is a copy to take what is unchanged from, on the store's side, or empty.
fill() {
    local folder=$1 sums=/var/tmp/SHA256SUMS list=/var/tmp/list begun=$EPOCHREALTIME
    # what is copied is what is there now
    rclone hashsum sha256 --download "$bucket" --output-file $sums || return
    cut --characters=67- $sums > $list || return
    if [ -s $list ]; then
        rclone copy "$bucket" "$folder/$SOURCE_BUCKET" --files-from-raw $list --no-traverse --checksum \
            ${2:+--copy-dest="$2/$SOURCE_BUCKET"} || return
        rclone checksum sha256 $sums "$folder/$SOURCE_BUCKET" --download 2> /var/tmp/checked || {
            cat /var/tmp/checked >&2
            return 1
        }
    fi
    rclone copyto $sums "$folder/SHA256SUMS" || return
    rclone lsjson "$folder/$SOURCE_BUCKET" --recursive --files-only --no-modtime --no-mimetype > /var/tmp/manifest \
        2> /dev/null || [ ! -s $list ] || return
    [ -s $list ] || echo "[]" > /var/tmp/manifest
    rclone copyto /var/tmp/manifest "$folder/manifest.json" || return
    local bytes
    bytes=$([ ! -s $list ] || rclone lsf "$folder/$SOURCE_BUCKET" --recursive --files-only --format s) || return
    awk -v begun="$begun" -v ended="$EPOCHREALTIME" '$1 != "" { objects += 1; bytes += $1 } END {
        printf "{\"objects\": %d, \"bytes\": %d, \"begun_wall\": %s, \"ended_wall\": %s}\n", objects, bytes, begun, ended
    }' <<< "$bytes" > /var/tmp/complete
    rclone copyto /var/tmp/complete "$folder/complete.json"
}

copy() {
    local name found previous="" kept=()
    name=$(date --utc +%Y%m%dT%H%M%SZ)
    found=$(names) || return
    for one in $found; do
        if rclone lsf "$copies/$one/complete.json" > /dev/null 2>&1; then
            previous=$copies/$one
            kept+=("$one")
        else
            # one that was cut off; nobody else writes here
            rclone purge "$copies/$one" || return
        fi
    done
    if ! fill "$copies/$name" "$previous"; then
        rclone purge "$copies/$name" 2> /dev/null || true
        return 1
    fi
    kept+=("$name")
    while ((${#kept[@]} > keep)); do
        rclone purge "$copies/${kept[0]}" || return
        kept=("${kept[@]:1}")
    done
    echo "$name"
}

alone() {
    flock 9
    copy
} 9> /var/tmp/lock

if [ "${1:-}" = now ]; then
    alone
    exit
fi
trap 'exit 0' TERM INT
while true; do
    # not before it is declared, which is the last thing that is done to a container that is new
    every=0
    if [ -s /etc/lakehouse/hour-seconds ]; then read -r every < /etc/lakehouse/hour-seconds; fi
    begun=0
    if [ -s $last ]; then read -r begun < $last; fi
    if ((every > 0 && EPOCHSECONDS >= begun + every)); then
        now=$EPOCHSECONDS
        if timeout "$COPY_DEADLINE_S" bash "$0" now > /dev/null; then
            echo "$now" > $last
        else
            echo "no copy was taken: it is tried again" >&2
            sleep $((every < 600 ? every / 10 + 1 : 60))
        fi
    fi
    sleep 1 &
    wait $!
done
