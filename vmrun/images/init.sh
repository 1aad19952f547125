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

# Without its drivers no port will ever come.
missing=
[ -e /sys/bus/virtio/drivers/virtio_console ] || missing=virtio_console
[ -e /sys/bus/platform/drivers/virtio-mmio ] || missing=virtio_mmio

control= stdin= stdout= stderr=
read -r ports </vmrun/ports
tries=${missing:+500}
until find_ports || [ ${tries:=0} -ge 500 ]; do
    pause
    tries=$((tries + 1))
done

# Without ports, frames on a serial line carry what they would: vmrun/run/link.py tells their form.
link=
if [ -n "$ports" ] && [ -z "$control" ]; then
    # ttyS0 opens without a port behind it where the kernel has its driver, so it comes after what only exists with one.
    for name in ttyAMA0 ttyS0 hvc0; do
        if [ -c "/dev/$name" ] && true <>"/dev/$name"; then  # opening one that is not there would make a file
            link=/dev/$name
            break
        fi
    done 2>/dev/null
fi

# Send a frame on fd 3: its channel, its number there, what it carries. The shell writes it in pieces, so fd 5, a pipe,
# holds an empty line that only one process can have at a time.
frame() {
    read -r turn <&5
    printf '\033_vmrun;%s;%s;%s;%s;%s\033\\' "$key" "$1" "$2" "${#3}" "$3" >&3
    echo >&5
}

# Send what comes out of standard input on a channel, until its end, or until the command has ended and it is empty.
send_all() {
    number=0
    left=64
    while [ $left -gt 0 ]; do
        if read -r -t 0; then
            piece=$(dd bs=2700 count=1 2>/dev/null | base64)
            [ -n "$piece" ] || break
            frame "$1" $number "$piece"
            number=$((number + 1))
        elif [ -e /vmrun/ended ]; then
            break
        else
            pause
        fi
        [ ! -e /vmrun/ended ] || left=$((left - 1))  # somebody may go on writing for ever
    done
}

# Ask for input, a line at a time, until the empty one that is its end.
receive_all() {
    number=0
    while frame i $number '' && read -r line <&4 && [ -n "$line" ]; do
        echo "$line" | base64 -d || break
        number=$((number + 1))
    done
}

# Let frames carry the command's files.
connect() {
    cd /vmrun
    mkfifo in out err
    exec 4<"$link"
    receive_all >in &
    receiver=$!
    send_all o <out &
    senders=$!
    send_all e <err &
    senders="$senders $!"
    stdin=/vmrun/in stdout=/vmrun/out stderr=/vmrun/err
}

# Wait until the host has it all.
disconnect() {
    [ -n "$stdin" ] || return
    : >/vmrun/ended
    wait $senders
    read -r turn <&5  # else it might die with half a frame
    kill "$receiver"
    echo >&5
}

if [ -n "$link" ]; then
    console=$link
    exec <$console >$console 2>&1
else
    console=/dev/null
    tries=0
    until true </dev/console || [ $tries -ge 100 ]; do
        pause
        tries=$((tries + 1))
    done 2>/dev/null
    if true </dev/console; then
        console=/dev/console
        exec <$console >$console 2>&1
    fi
fi

# Tell the host on the control port, or in frames. Without either the console gets the status, and only that.
if [ -n "$control" ]; then
    exec 3>"$control"
    report() { echo "$*" >&3; }
elif [ -n "$link" ]; then
    mkfifo /vmrun/turn
    exec 3>"$link" 5<>/vmrun/turn
    echo >&5
    read -r key </proc/sys/kernel/random/uuid
    reports=0
    report() {
        frame c $reports "$*"
        reports=$((reports + 1))
    }
else
    report() { [ "$1" != exit ] || echo "vmrun: $*"; }
fi
report init "$uptime" $missing
wait
while read -r line; do
    echo "vmrun: init: $line"
done </vmrun/log

[ -z "$link" ] || case " $ports " in *" stdout "*)
    stty raw -echo <"$link"  # every byte as it is
    connect
    ;;
esac
report command
cd /root
if [ -e /vmrun/command ]; then
    (
        exec 3>&- 4<&- 5<&-
        . /vmrun/command
    ) <"${stdin:-$console}" >"${stdout:-$console}" 2>"${stderr:-$console}"
elif [ -n "$link" ]; then
    setsid sh -c "exec sh -l <$link >$link 2>&1 3>&- 5<&-"
else
    setsid cttyhack sh -l 3>&-
fi
status=$?
if [ -n "$link" ]; then
    disconnect
    report exit $status
    stty raw <"$link"  # waits until all is sent
else
    report exit $status
fi
exec poweroff -f
