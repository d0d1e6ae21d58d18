# The init of a realm with `systemd --user`: ROOT NAME UID GID HOME LINGER SHUT [DIR...]. Ends when the manager has ended.
# Every mount is of this namespace alone. DIRs stay reachable for NAME although they stand below SHUT (by ":"), which lets nobody in.
set -e
root=$1 name=$2 uid=$3 gid=$4 home=$5 linger=$6 shut=$7
shift 7

# A copy of another test's mount would keep its disk from being unmounted out there.
while read -r _ _ _ _ where _; do
    case $where in
        "$root" | "$root"/*) ;;
        /tmp/*) umount -l "$where" 2>/dev/null || : ;;
    esac
done </proc/self/mountinfo

cgroup=/sys/fs/cgroup
umount -R $cgroup
mount -t cgroup2 cgroup2 $cgroup

fresh() { # DIR...: empty, and ours
    for dir; do
        mkdir -p "$dir"
        mount -t tmpfs -o mode=755 rig "$dir"
    done
}
fresh /run/systemd /run/user /run/log /var/log /var/lib/systemd
mkdir -p /run/systemd/system /run/systemd/journald.conf.d /run/systemd/journal /var/log/journal /var/lib/systemd/linger
mkdir -p "$root/journal"
mount --bind "$root/journal" /var/log/journal
[ "$linger" = no ] || : >"/var/lib/systemd/linger/$name"
cat /proc/sys/kernel/random/uuid >/run/systemd/boot_id # each start is a boot of its own to whoever asks
mount --bind /run/systemd/boot_id /proc/sys/kernel/random/boot_id
runtime=/run/user/$uid
mkdir -m 700 "$runtime"
chown "$uid:$gid" "$runtime"

if [ $# -gt 0 ]; then
    mkdir /run/systemd/kept
    number=0
    for dir; do
        number=$((number + 1))
        mkdir /run/systemd/kept/$number
        mount --bind "$dir" /run/systemd/kept/$number
    done
    (IFS=:; for dir in $shut; do mount -t tmpfs -o mode=755 rig "$dir"; done)
    number=0
    for dir; do
        number=$((number + 1))
        mkdir -p "$dir"
        mount --bind /run/systemd/kept/$number "$dir"
    done
fi

# The names of the cgroups are how journald knows whose unit said a line.
manager=$cgroup/user.slice/user-$uid.slice/user@$uid.service
journal=$cgroup/system.slice/systemd-journald.service
mkdir -p "$manager" "$journal" $cgroup/session
chown -R "$uid:$gid" "$manager"

in_cgroup() { # DIR COMMAND...
    echo 0 >"$1/cgroup.procs"
    shift
    exec "$@"
}

# Persistent: it outlives a power cut, and only then does a user have a journal of his own.
printf '[Journal]\nStorage=persistent\nReadKMsg=no\nAudit=no\nRateLimitBurst=0\n' >/run/systemd/journald.conf.d/rig.conf
: >/run/systemd/journal/flushed
(in_cgroup "$journal" /lib/systemd/systemd-journald) &
until [ -S /run/systemd/journal/stdout ]; do sleep 0.01; done

(in_cgroup "$manager" setpriv --reuid "$uid" --regid "$gid" --init-groups env -i \
    PATH="$PATH" LANG=C.UTF-8 SHELL=/bin/bash HOME="$home" USER="$name" LOGNAME="$name" XDG_RUNTIME_DIR="$runtime" \
    /lib/systemd/systemd --user) &
wait $!
