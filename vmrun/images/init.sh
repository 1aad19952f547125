#!/bin/sh
# The first process of a guest that vmrun built the initramfs for: mounts, loads modules, connects the
# command to the host, reports its status and powers the machine off.
#
# A fork and an exec cost milliseconds on an emulated hart, so this script does in the shell what the shell
# can do, and runs what it cannot do beside the wait for the devices.
#
# /vmrun/modules   names for modprobe, on one line, in load order
# /vmrun/ports     the virtio-console ports that the host connects, on one line
# /vmrun/hostname  the host name
# /vmrun/command   what to run, as a script; a shell on the console without it

# A console driver may be among the modules: until it is there, init has no standard files.
exec </dev/null >/dev/null 2>/vmrun/log
export PATH=/bin HOME=/root TERM="${TERM:-linux}"

mount -a -T /vmrun/fstab
read -r uptime idle </proc/uptime
{
    cp -a /vmrun/dev/. /dev
    mount -t devpts -o mode=0620,ptmxmode=0666 devpts /dev/pts
    ip link set lo up
} &

read -r modules </vmrun/modules
[ -z "$modules" ] || modprobe -a $modules
read -r hostname </vmrun/hostname && echo "$hostname" >/proc/sys/kernel/hostname

# Wait a hundredth of a second without a process: nobody ever writes to this pipe.
pause() {
    read -r -t 0.01 nothing <>/vmrun/pause
}

# Set control, stdin, stdout and stderr to the device of the port of that name; true when all are there.
find_ports() {
    for file in /sys/class/virtio-ports/*/name; do
        name=
        [ -r "$file" ] && read -r name <"$file"
        device=${file%/name}
        device=/dev/${device##*/}
        case $name in
        vmrun.control) control=$device ;;
        vmrun.stdin) stdin=$device ;;
        vmrun.stdout) stdout=$device ;;
        vmrun.stderr) stderr=$device ;;
        esac
    done
    for name in $ports; do
        eval "[ -c \"\$$name\" ]" || return 1
    done
}

control= stdin= stdout= stderr=
read -r ports </vmrun/ports
tries=0
until find_ports || [ $tries -ge 500 ]; do
    pause
    tries=$((tries + 1))
done
tries=0
until true </dev/console || [ $tries -ge 100 ]; do
    pause
    tries=$((tries + 1))
done 2>/dev/null
console=/dev/null
if true </dev/console; then
    console=/dev/console
    exec <$console >$console 2>&1
fi

# Tell the host on the control port. Without one the console gets the status, and only that.
if [ -n "$control" ]; then
    exec 3>"$control"
    report() { echo "$*" >&3; }
else
    report() { [ "$1" != exit ] || echo "vmrun: $*"; }
fi
report init "$uptime"
wait
while read -r line; do
    echo "vmrun: init: $line"
done </vmrun/log

report command
cd /root
if [ -e /vmrun/command ]; then
    (
        exec 3>&-
        . /vmrun/command
    ) <"${stdin:-$console}" >"${stdout:-$console}" 2>"${stderr:-$console}"
else
    setsid cttyhack sh -l 3>&-
fi
report exit $?
exec poweroff -f
