"""Command lines of QEMU as libvirt 10 and Proxmox 8 make them, with the files of a folder."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LIBVIRT_HEAD = """
    -name guest=web1,debug-threads=on -S
    -object {secret}
    -machine pc-q35-8.2,usb=off,vmport=off,smm=on,kernel_irqchip=on,dump-guest-core=off,memory-backend=pc.ram
    -accel kvm -cpu host,migratable=on,hv-time=on,hv-relaxed=on -m size=4194304k
    -object {ram}
    -overcommit mem-lock=off -smp 4,sockets=4,cores=1,threads=1
    -uuid 4dea22b3-1d52-d8f3-2516-782e98ab3fa0 -no-user-config -nodefaults
    -chardev socket,id=charmonitor,fd={fd},server=on,wait=off
    -mon chardev=charmonitor,id=monitor,mode=control
    -rtc base=utc,driftfix=slew -global kvm-pit.lost_tick_policy=delay -no-hpet -no-shutdown
    -global ICH9-LPC.disable_s3=1 -global ICH9-LPC.disable_s4=1 -boot strict=on
"""

LIBVIRT_TAIL = """
    -netdev {netdev}
    -device {nic}
    -chardev pty,id=charserial0
    -device {serial}
    -chardev socket,id=charchannel0,path={folder}/agent.sock,server=on,wait=off
    -device {channel}
    -audiodev {audio}
    -vnc 127.0.0.1:0,audiodev=audio1 -device {video}
    -global ICH9-LPC.noreboot=off -watchdog-action reset
    -device {balloon}
    -object {rng} -device {rng_device}
    -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
    -msg timestamp=on
"""


def libvirt(folder: Path, fd: int) -> list[str]:
    """The line of a domain with one disk; ``fd`` is the socket that libvirt listens on for the monitor."""
    ports = [
        {
            "driver": "pcie-root-port",
            "port": 16 + number,
            "chassis": number + 1,
            "id": f"pci.{number + 1}",
            "bus": "pcie.0",
            "multifunction": number == 0,
            "addr": f"0x2.{number:#x}",
        }
        for number in range(12)
    ]
    values: dict[str, Any] = {
        "secret": {"qom-type": "secret", "id": "masterKey0", "format": "raw", "file": f"{folder}/master.aes"},
        "ram": {"qom-type": "memory-backend-ram", "id": "pc.ram", "size": 4294967296},
        "netdev": {"type": "tap", "fd": "28", "vhost": True, "vhostfd": "30", "id": "hostnet0"},
        "nic": {"driver": "virtio-net-pci", "netdev": "hostnet0", "id": "net0", "mac": "52:54:00:6f:2b:10"},
        "serial": {"driver": "isa-serial", "chardev": "charserial0", "id": "serial0", "index": 0},
        "channel": {"driver": "virtserialport", "nr": 1, "chardev": "charchannel0", "id": "channel0"},
        "audio": {"id": "audio1", "driver": "none"},
        "video": {"driver": "virtio-vga", "id": "video0", "max_outputs": 1, "bus": "pcie.0", "addr": "0x1"},
        "balloon": {"driver": "virtio-balloon-pci", "id": "balloon0", "bus": "pci.4", "addr": "0x0"},
        "rng": {"qom-type": "rng-random", "id": "objrng0", "filename": "/dev/urandom"},
        "rng_device": {"driver": "virtio-rng-pci", "rng": "objrng0", "id": "rng0", "bus": "pci.5"},
    }
    (folder / "master.aes").write_bytes(bytes(32))
    places = {"folder": folder, "fd": fd}
    head, tail = LIBVIRT_HEAD, LIBVIRT_TAIL
    devices = [word for port in ports for word in ("-device", json.dumps(port))]
    return [*_words(head, values, places), *devices, *_words(tail, values, places)]


def libvirt_disk(folder: Path) -> list[str]:
    """The options of its disk, an image ``disk.qcow2``: the nodes and the device on them."""
    storage = {
        "driver": "file",
        "filename": f"{folder}/disk.qcow2",
        "node-name": "libvirt-1-storage",
        "auto-read-only": True,
        "discard": "unmap",
    }
    image = {
        "node-name": "libvirt-1-format",
        "read-only": False,
        "discard": "unmap",
        "driver": "qcow2",
        "file": "libvirt-1-storage",
        "backing": None,
    }
    device = {"driver": "virtio-blk-pci", "bus": "pci.3", "drive": "libvirt-1-format", "id": "virtio-disk0"}
    return [
        "-blockdev",
        json.dumps(storage),
        "-blockdev",
        json.dumps(image),
        "-device",
        json.dumps({**device, "addr": "0x0", "bootindex": 1}),
    ]


PROXMOX = """
    -id 100 -name 'web1,debug-threads=on' -no-shutdown
    -chardev 'socket,id=qmp,path={folder}/100.qmp,server=on,wait=off' -mon 'chardev=qmp,mode=control'
    -chardev 'socket,id=qmp-event,path={folder}/qmeventd.sock,reconnect=5'
    -mon 'chardev=qmp-event,mode=control'
    -pidfile {folder}/100.pid -daemonize
    -smbios 'type=1,uuid=4dea22b3-1d52-d8f3-2516-782e98ab3fa0'
    -smp '4,sockets=1,cores=4,maxcpus=4' -nodefaults
    -boot 'menu=on,strict=on,reboot-timeout=1000,splash=/usr/share/qemu-server/bootsplash.jpg'
    -vnc 'unix:{folder}/100.vnc,password=on' -cpu qemu64,+aes,enforce,+kvm_pv_eoi,+kvm_pv_unhalt -m 4096
    -object 'iothread,id=iothread-virtioscsi0'
    -readconfig {folder}/pve-q35-4.0.cfg
    -device 'vmgenid,guid=0a5a5d5f-4a3c-4bd9-b6d9-1f1f5a7b0f5e'
    -device 'usb-tablet,id=tablet,bus=ehci.0,port=1' -device 'VGA,id=vga,bus=pcie.0,addr=0x1'
    -chardev 'socket,path={folder}/100.qga,server=on,wait=off,id=qga0'
    -device 'virtio-serial,id=qga0,bus=pci.0,addr=0x8'
    -device 'virtserialport,chardev=qga0,name=org.qemu.guest_agent.0'
    -device 'virtio-balloon-pci,id=balloon0,bus=pci.0,addr=0x3,free-page-reporting=on'
    -iscsi 'initiator-name=iqn.1993-08.org.debian:01:9a3b'
    -drive 'if=none,id=drive-ide2,media=cdrom,aio=io_uring'
    -device 'ide-cd,bus=ide.1,unit=0,drive=drive-ide2,id=ide2,bootindex=101'
    -device 'virtio-scsi-pci,id=virtioscsi0,bus=pci.3,addr=0x1,iothread=iothread-virtioscsi0'
    -drive 'file={folder}/vm-100-disk-0.raw,if=none,id=drive-scsi0,format=raw,cache=none,aio=io_uring,\
detect-zeroes=on'
    -device 'scsi-hd,bus=virtioscsi0.0,channel=0,scsi-id=0,lun=0,drive=drive-scsi0,id=scsi0,bootindex=100'
    -netdev 'type=tap,id=net0,ifname=tap100i0,script=/usr/libexec/qemu-server/pve-bridge,vhost=on'
    -device 'virtio-net-pci,mac=BC:24:11:2B:6F:10,netdev=net0,bus=pci.0,addr=0x12,id=net0,bootindex=102'
    -machine 'hpet=off,type=q35+pve0' -set 'device.scsi0.rotation_rate=1'
    -set 'drive.drive-scsi0.discard=on'
"""

PROXMOX_CONFIG = """\
[device "ehci"]
  driver = "ich9-usb-ehci1"
  multifunction = "on"
  bus = "pcie.0"
  addr = "1d.7"

# the bridges
[device "pcidmi"]
  driver = "i82801b11-bridge"
"""


def proxmox(folder: Path) -> list[str]:
    """The line of the machine 100 with one disk and an empty CD drive."""
    (folder / "pve-q35-4.0.cfg").write_text(PROXMOX_CONFIG)
    return shlex.split(PROXMOX.replace("{folder}", str(folder)))


def _words(text: str, values: Mapping[str, Any], places: Mapping[str, Any]) -> list[str]:
    """The words of a line; one that is a name in braces is that value in JSON."""
    words = []
    for word in text.split():
        name = word[1:-1]
        words.append(
            json.dumps(values[name]) if word == f"{{{name}}}" and name in values else word.format_map(places)
        )
    return words
