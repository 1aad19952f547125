#!/bin/sh
# The init of the probe guest. Words of the kernel's command line that the kernel does not know are its environment:
# lab_facts=1 has it say what it sees, lab_end says how it ends (poweroff, reboot, halt, panic).
echo INIT-OK
bb=/bin/busybox
if [ -n "$lab_facts" ]; then
    $bb mount -t proc proc /proc
    $bb mount -t sysfs sys /sys
    set -- $($bb grep MemTotal /proc/meminfo)
    echo "LAB cpus=$($bb grep -c ^processor /proc/cpuinfo) online=$($bb cat /sys/devices/system/cpu/online) mem_kib=$2"
    echo "LAB clock=$($bb cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
    echo "LAB release=$($bb uname -r) uptime=$($bb cut -d' ' -f1 /proc/uptime)"
    for cpu in 0 1 2 3; do
        [ ! -d /sys/devices/system/cpu/cpu$cpu ] || echo "LAB ran=$($bb taskset $((1 << cpu)) $bb nproc) on cpu$cpu"
    done
    $bb dmesg | $bb grep -E 'WARNING: (CPU|at)|BUG:|Oops|ACPI (Error|BIOS Error|Warning)|rcu.*(stall|starved)|unknown NMI|spurious|lockup' |
        while read -r line; do echo "LAB splat $line"; done
    echo LAB-DONE
fi
case $lab_end in
panic)
    [ -e /proc/version ] || $bb mount -t proc proc /proc
    echo c >/proc/sysrq-trigger
    ;;
reboot) $bb reboot -f ;;
halt) $bb halt -f ;;
*) $bb poweroff -f ;;
esac
# What did not end by itself waits: the host's limit ends it.
while :; do $bb sleep 1000; done
