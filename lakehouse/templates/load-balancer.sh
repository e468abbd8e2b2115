# The region's load balancer. That nobody is behind an address, or behind a port (a Service of Kubernetes without endpoints),
# comes back while connect() is still at work, and for that HAProxy 2.6 asks the kernel again and again until its time-out
# for connects is over (its issue 2491). All checks did so as long as formations began, and took half a core. Unheard, it
# waits for the same time-out in peace.
set -eu
nft -f - << 'RULES'
table ip load-balancer {
    chain input {
        type filter hook input priority filter
        icmp type destination-unreachable icmp code { net-unreachable, host-unreachable, port-unreachable } drop
    }
}
RULES
exec haproxy -db -f /etc/haproxy/haproxy.cfg
