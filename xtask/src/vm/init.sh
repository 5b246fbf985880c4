#!/bin/bash
# The guest's first process: mounts what a host has, runs the errand, says how it went, powers off.
# Not busybox, whose shell prefers its own applets to iproute2 and the like.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb

errand() {
    # Standard input is the console, which nobody types on.
    bash /guest/errand </dev/null
    status=$?
    [ "$status" -eq 0 ] || dmesg --level=emerg,alert,crit,err,warn | tail -n 50
    if [ "$status" -eq 0 ]; then echo "guest verdict: PASS"; else echo "guest verdict: FAIL (status $status)"; fi
    sync
    busybox poweroff -f
}

# As a service of systemd, which has been started below.
if [ "$1" = errand ]; then errand; exit; fi

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
ln -sf /proc/self/fd /dev/fd
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
# No mount of its own: the programs to test may be below it, as they are on the host.
chmod 1777 /tmp
mount -t tracefs tracefs /sys/kernel/tracing
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf bpffs /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo '+memory +pids' >/sys/fs/cgroup/cgroup.subtree_control
ip link set lo up
# An OOM kill in the midst of a test's line would garble it.
echo 2 >/proc/sys/kernel/printk

[ -e /sys/kernel/btf/vmlinux ] && btf=yes || btf=no
echo "guest: kernel $(uname -r), $(nginx -v 2>&1), BTF $btf, uid $(id -u)"
[ -s /etc/backends ] && echo "guest: backends $(cat /etc/backends)"

case $(cat /proc/cmdline) in
*ngx502.systemd*)
    # As on a host: systemd is the first process, and the errand a service of its own. It empties /tmp as it starts, or
    # mounts a tmpfs there, and the programs to test may be below.
    rm -f /usr/lib/tmpfiles.d/tmp.conf
    ln -sf /dev/null /etc/systemd/system/tmp.mount
    # Without one it would take this for the first boot, and ask for a root password.
    tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
    cat >/etc/systemd/system/errand.service <<-'UNIT'
	[Service]
	ExecStart=/init errand
	StandardInput=null
	StandardOutput=tty
	StandardError=tty
	TTYPath=/dev/console
	UNIT
    exec /lib/systemd/systemd --unit=errand.service
    ;;
esac

errand
