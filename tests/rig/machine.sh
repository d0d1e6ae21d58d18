# The init of a realm that becomes a machine: ROOT NAME USER. ROOT/disk lasts, ROOT/seed is what a new disk gets in /etc/rig.
# Its files are ours below a layer of its own. Every mount is of this namespace alone.
set -e
disk=$1/disk seed=$1/seed name=$2 user=$3
new=$disk/root
mkdir -p "$disk/upper" "$disk/work" "$new"
mount -t overlay overlay -o "lowerdir=/,upperdir=$disk/upper,workdir=$disk/work" "$new"
[ -e "$new/etc/rig" ] || cp -r "$seed" "$new/etc/rig"
cd "$new"

mount -t proc proc proc
cat proc/sys/kernel/random/uuid >"$disk/boot_id"
mount --bind "$disk/boot_id" proc/sys/kernel/random/boot_id
for file in proc/sys proc/sysrq-trigger; do # the kernel's settings are those of the machine that we run on
    [ -e $file ] || continue
    mount --rbind $file $file
    mount -o remount,bind,ro $file
done
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir sys/fs/cgroup/session
mount -t tmpfs -o mode=755 rig dev
for device in null zero full random urandom tty; do
    : >dev/$device
    mount --bind /dev/$device dev/$device
done
: >dev/console
mount --bind /dev/null dev/console
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 rig dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for number in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${number%:*}" "dev/${number#*:}"; done
mount -t tmpfs -o mode=1777 rig tmp # what lies in ours would be swept away at boot, file by file
pivot_root . mnt
umount -l /mnt
hostname "$name"

first_boot() {
    rm -rf /etc/systemd/system # what is enabled on our machine is not on this one
    mkdir -p /etc/systemd/system/multi-user.target.wants
    ln -s /lib/systemd/system/multi-user.target /etc/systemd/system/default.target
    for unit in getty.target systemd-sysctl.service systemd-modules-load.service systemd-hwdb-update.service \
        systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-sysusers.service modprobe@.service \
        proc-sys-fs-binfmt_misc.automount dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount \
        sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount; do
        ln -s /dev/null /etc/systemd/system/$unit
    done
    cp /etc/rig/rig-sshd.service /etc/systemd/system/
    ln -s ../rig-sshd.service /etc/systemd/system/multi-user.target.wants/
    tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
    echo "$name" >/etc/hostname
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$name" >/etc/hosts
    rm -f /etc/resolv.conf # there is no name server to wait for
    : >/etc/fstab
    mkdir -p /var/log/journal # the journal outlives a boot
    useradd --create-home --shell /bin/bash --password '*' "$user" # a locked account would be refused
    echo "$user ALL=(ALL) NOPASSWD: ALL" >"/etc/sudoers.d/$user"
    chmod 440 "/etc/sudoers.d/$user"
    : >/etc/rig/done
}
[ -e /etc/rig/done ] || first_boot
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin container=rig LANG=C.UTF-8 \
    /lib/systemd/systemd --system --show-status=no
