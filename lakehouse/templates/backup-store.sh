# The store of backups: versitygw, and HAProxy before it for clients that insist on TLS. They end together.
set -eu
for bucket in $BUCKETS; do
    mkdir -p "/data/$bucket"
done
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=backup-store \
    -keyout /run/key.pem -out /run/certificate.pem 2> /dev/null
cat /run/certificate.pem /run/key.pem > /run/store.pem
trap 'exit 0' TERM INT
haproxy -db -f /etc/haproxy/haproxy.cfg &
# a bucket of its posix backend is a folder
versitygw --port ":$STORE_PORT" --health /healthz --quiet posix /data &
wait -n
