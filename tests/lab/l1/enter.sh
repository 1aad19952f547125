# The second step of the lab's host (L1), run by the initramfs: puts the file system together and goes into it.
# Disks are known by their serial numbers.
set -e
disk() {
    for file in /sys/block/vd*/serial; do
        serial=
        read -r serial <"$file" || :
        name=${file%/serial}
        [ "$serial" != "$1" ] || echo "/dev/${name##*/}"
    done
}
mkdir -p /lower /rw /new
mount -t squashfs -o ro "$(disk root)" /lower
mount -t tmpfs -o mode=0755 rw /rw
mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work root /new
mount -t squashfs -o ro "$(disk checkout)" /new/lab/checkout
mount -t squashfs -o ro "$(disk guests)" /new/lab/guests
mount -t tmpfs tmp /new/tmp
# The artefact store of every vmrun that runs here: what the guests need is in it, and there is no network.
mkdir -p /new/lab/work/cache/vmrun /rw/store /rw/store-work
mount -t overlay -o lowerdir=/new/lab/guests/store,upperdir=/rw/store,workdir=/rw/store-work store \
    /new/lab/work/cache/vmrun
for folder in dev proc sys; do mount --rbind /$folder /new/$folder; done
mount -t debugfs debugfs /new/sys/kernel/debug
mount -t tracefs tracefs /new/sys/kernel/tracing
echo 1 >/proc/sys/vm/overcommit_memory
chroot /new python3 /lab/checkout/tests/lab/l1/hold.py || echo "lab: KVM's keys are not held: L1 may die of a stale int3"
exec chroot /new /usr/bin/env -i PATH=/usr/bin:/usr/sbin HOME=/root LC_ALL=C.UTF-8 \
    python3 /lab/checkout/tests/lab/l1/steps.py /lab/checkout/lab-steps.json "$(disk results)"
